"""The configuration that `mailgate init` writes: every key, each explained in a line.

Valid as it stands, so that `mailgate check` accepts it before anything is filled in. What is optional is
commented out: a line that begins with `#` and a key, without a space between, takes effect once the `#` is
gone.
"""

from __future__ import annotations

import re

_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})+")
_EXAMPLE_HOST_NAME = "gate.example.com"


def starting_config(hostname: str) -> str:
    """The text of a mailgate.toml for this machine. A host name that no server would accept gives an example's."""
    usable = len(hostname) < 255 and _HOST_NAME.fullmatch(hostname)
    return _TEXT.replace("@HOSTNAME@", hostname.lower() if usable else _EXAMPLE_HOST_NAME)


_TEXT = """\
# mailgate: what to fetch, where to deliver it.
#
# A line of "#" and a key is optional and shows the default or an example. Remove the "#" to use it.
# Durations are "90s", "5m", "4h" or "14d"; sizes "10MB" (10^6 octets), "10MiB" (2^20) or octets.
# File names are relative to the folder of this file. A password is a text, or better one of
#   { env = "NAME" }       an environment variable
#   { file = "path" }      the content of a file, without the line break at its end
#   { command = "pass show mail/info" }   what a program prints; run without a shell, for 30 s at most
# After a change, "mailgate check" says whether all is well; "mailgate check --connect" tries it out.

[gateway]
# Our name, for the HELO command and Received lines; default: the machine's name.
hostname = "@HOSTNAME@"
# Who hears of trouble; default: postmaster at the first of our domains.
postmaster = "postmaster@example.com"
# Our own domains: mail to them is inbound.
domains = ["example.com"]
# POP3 connections to one host at a time.
#connections_per_host = 10
# When the postmaster gets a report of the day, also where all is well: a time of day in UTC; without this never.
daily_report = "07:00"
# Whether hold, release, discard, fail, replay, import and adopt must be given a --reason.
#require_reason = false

[store]
# Where everything is kept: a file, or postgresql://user@host/database (its password belongs in ~/.pgpass).
url = "sqlite:///mailgate.db"
# How many octets of mail may be in memory at once: what has arrived counts, and half is kept for small messages.
#in_flight = "256MiB"
# Whether subjects go on record. Without them a message is found by its addresses, times and Message-ID alone.
#subjects = true

# One [[mailbox]] for each POP3 mailbox.
[[mailbox]]
# Unique; letters, digits, ".", "_", "-".
name = "info"
# The provider's POP3 server.
host = "pop.provider.example"
# Default: 995 with implicit TLS, otherwise 110.
#port = 995
# implicit (TLS from the start), starttls (the STLS command) or none.
tls = "implicit"
# false accepts any certificate, and so any impostor.
#tls_verify = true
# A CA of your own, as PEM.
#tls_ca = "ca.pem"
# Accept this one certificate only, instead of asking a CA.
#tls_fingerprint = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
# The name to log in with; often the whole address.
username = "info"
# See the top of this file.
password = { env = "INFO_PASSWORD" }
# auto (the safest that the server offers), user, apop, plain or xoauth2 (the password is the token then).
#auth = "auto"
# How often to look for mail; many providers lock out who asks more often than every 10s.
poll_every = "1m"
# Who gets this mailbox's mail, one or more.
recipients = ["info@example.com"]
# Instead of recipients, for a catch-all mailbox: read them from headers that the provider writes.
# domains: whose addresses count (default: ours).
# strip_prefix: what the provider puts in front of each address.
# occurrence: which instance of the header counts, 1 for the topmost (default: what the last server wrote).
#multidrop = { headers = ["Delivered-To"], domains = ["example.com"], strip_prefix = "", occurrence = 1 }
# Who gets mail without a recipient; without this it is held until you decide.
#fallback = "postmaster@example.com"
# When to delete from the mailbox: delivered, downloaded, never, or a time after the download such as "14d".
remove = "delivered"
# Too large a message: notify (tell the recipient, once), keep (say nothing) or remove (delete once they are told).
oversize = "notify"
# The largest message to fetch; the next hop's limit counts anyway.
#max_size = "35MB"

# Where mail goes. Where no route fits, mail for our domains goes to "home".
[next_hop.home]
# The server of the house.
host = "exchange.example.local"
# Default: 465 with implicit TLS, otherwise 25.
#port = 25
# required, opportunistic (TLS if offered, with any certificate), implicit (TLS from the start) or none.
tls = "opportunistic"
# Whether the certificate must be right; then opportunistic is as strict as required. Default: true, but false for
# opportunistic TLS without tls_ca and tls_fingerprint.
#tls_verify = true
# A CA of your own, as PEM.
#tls_ca = "ca.pem"
# Accept this one certificate only, instead of asking a CA.
#tls_fingerprint = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
# To log in, with the password below.
#username = "mailgate"
# See the top of this file.
#password = { env = "HOME_PASSWORD" }
# Connections at a time.
#connections = 4
# Messages before a connection is closed and a new one made.
#messages_per_connection = 100
# Lowers the limit that the server itself announces.
#max_size = "10MB"
# If the answer to a message was lost: retry (it may arrive twice) or hold (a person decides).
#on_unknown = "retry"
# Refusals of incoming mail that say spam: such a message goes into quarantine. "*" is any text, "?" one character.
# Default: how Exchange, rspamd and amavis refuse spam.
#spam_refusals = ["5?? *as spam*", "550 5.7.1 *content restrictions*"]

# A provider's server that takes our outgoing mail.
#[next_hop.provider]
#host = "smtp.provider.example"
#port = 587
#tls = "required"
#username = "info"
#password = { env = "PROVIDER_PASSWORD" }

# Direct delivery, where a route says next_hop = "mx": how to speak to the mail servers that DNS names.
#[next_hop.mx]
# Connections at a time to one domain.
#connections = 4
# Which DNS servers to ask; default: those of the machine.
#nameservers = ["192.0.2.53"]

# Which mail goes where; the first that fits counts. All the lists that are given must fit; "*" is any text.
#[[route]]
# The recipient's address.
#recipients = ["*@example.com"]
# The name of a [next_hop.…], or "mx": the mail servers of the recipient's domain, our own domains aside.
#next_hop = "home"

#[[route]]
# The sender's address; "<>" is that of reports.
#senders = ["*@example.com", "<>"]
# The user who logged in to submit the message.
#users = ["exchange"]
#next_hop = "provider"

# Mail that is held, whatever its route, until a person lets it go on. All that is given must fit.
#[[hold]]
# The recipient's address; "*" is any.
#recipients = ["*"]
# The sender's address.
#senders = ["*@example.com"]
# The user who logged in to submit it.
#users = ["exchange"]
# Where it would go: a [next_hop.…], or "mx".
#next_hop = "provider"
# A time at which it goes on by itself, and from which on nothing more is held.
#until = 2030-01-01T08:00:00Z

# Take outgoing mail by SMTP. Without this table nothing listens.
#[listen]
# Where to listen, one or a list.
#address = "127.0.0.1:2500"
# Networks that may relay without logging in.
#allow = ["127.0.0.0/8", "::1/128"]
# Networks that may send to our own domains only, such as those of a provider that pushes.
#inbound = ["192.0.2.0/24"]
# Users and their passwords; they log in under TLS only.
#users = { exchange = { env = "EXCHANGE_PASSWORD" } }
# Which addresses a user or a network may send from; who isn't named here may use any.
#senders = { exchange = ["*@example.com"] }
# Our certificate with its chain, as PEM; offers STARTTLS.
#tls_cert = "cert.pem"
# The key of the certificate.
#tls_key = "key.pem"
# The largest message to take.
#max_size = "35MiB"
# Recipients of one message; clients may count on 100 (RFC 5321).
#max_recipients = 1000
# Connections at a time; who may not relay gets half of them at most.
#connections = 100
# Connections from one address; default: all of them for who may relay, a tenth for others.
#connections_per_address = 50
# What must stay free where the store is (SQLite), a share or a size; below it new mail is refused for the time.
#free_space = "10%"

# Scanners. All are asked at once; of what they find, that of the first in this order counts.
#[[scanner]]
# clamd (viruses), spamd or rspamd (spam).
#kind = "clamd"
# What it is called on record; default: its kind. Of several of one kind each needs its own.
#name = "clamd"
# unix:PATH or HOST:PORT. clamd mostly listens at one of these two, spamd at 127.0.0.1:783, rspamd at 127.0.0.1:11333.
#address = "unix:/run/clamav/clamd.ctl"
# quarantine (until a person decides), discard, tag (mark it and go on), redirect:ADDRESS or pass (on trial: on record only).
#on_found = "quarantine"
# If the scanner can't be asked: defer (try again later) or pass (let it through, on record).
#on_error = "defer"
# If the scanner can't scan a message, because it is too large: pass, tag or quarantine.
#on_unscannable = "pass"
# Larger messages are not asked about; default: 25MiB for clamd, 500KiB for spamd, 50MiB for rspamd.
#max_size = "25MiB"
# How long an answer may take.
#timeout = "1m"
# Messages that it is asked about at a time.
#connections = 4
# inbound, outbound or both.
#direction = "both"

#[[scanner]]
#kind = "spamd"
#address = "127.0.0.1:783"
# The score from which a message is spam; default: the scanner's own judgement.
#threshold = 5.0
# The score from which it is kept in quarantine; default: none, but what rspamd says to reject is kept.
#quarantine_threshold = 15.0
#on_found = "tag"
# Where it tags: the spam confidence level for Exchange, by score; or one number for all that is spam; {} for none. Default: 5.
#scl = { "0.0" = 0, "5.0" = 5, "10.0" = 7 }
# Where it tags: written in front of the subject of spam. Breaks its DKIM signature. Default: nothing.
#subject_prefix = "[SPAM]"

# Attachments by name and by content type: the gateway itself looks.
#[[scanner]]
#kind = "attachments"
# Names of files, also of those in zip archives; "*" is any text, "?" any character. "*/vbaProject.bin" finds macros.
#names = ["*.exe", "*.scr", "*.com", "*.bat", "*.cmd", "*.js", "*.vbs", "*.lnk", "*.hta", "*.docm", "*.xlsm"]
# Content types; programs for Windows are known by their first octets, too.
#types = ["application/x-msdownload", "application/hta"]
# Whether to look at the names in zip archives.
#archives = true

[retry]
# The wait before the second try; each further wait is twice as long.
#first = "5m"
# The longest wait.
#cap = "1h"
# When to give a message up.
#give_up_after = "5d"
# When to tell the sender that it takes longer.
#warn_after = "4h"

# What monitoring asks by HTTP: /metrics for Prometheus, /livez, /readyz.
#[metrics]
# Where to answer. It has no login: keep it on loopback, or behind a proxy.
#address = "127.0.0.1:9464"

# Programs that are told what happens, by HTTP, each in a table of its own. The README says how: "Webhooks".
#[[webhook]]
# What the log and "mailgate db status" call it. One with a new name is told what happens from now on.
#name = "crm"
# Where events are sent.
#url = "https://crm.example.com/hooks/mail"
# What requests are signed with; the receiver has it, too.
#secret = { file = "webhook.secret" }
# Which events; default: all.
#events = ["delivered", "failed", "quarantined", "poll-failed"]
# Trust these authorities instead of the system's.
#tls_ca = "ca.pem"
# How long to wait for an answer.
#timeout = "10s"
# Requests at once. With more than one it is faster, and in order for each message only.
#connections = 1

# Who is told of what is in quarantine. Everything there: "mailgate quarantine list".
[quarantine]
# Tell each recipient, once, of incoming mail that was kept back as infected or for its attachments.
#notify_recipients = false
# When to send each recipient of ours a list of the spam that is held for them: a time of day in UTC; default: never.
#digest = "06:30"

[retention]
# How long the octets of finished messages are kept; the record of what happened stays.
#contents = "30d"
# How long a message may stay in quarantine; then it is discarded, and its octets go.
#quarantined = "30d"
"""
