"""What can't work is refused in one line that names the line, the key and what to do, and shows no secret."""

from pathlib import Path

import pytest

from tests.engine.settings.configurations import GATEWAY, HOME, MAILBOX, RECIPIENTS, WHOLE, error, loaded


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("prot = 1", "line 10: mailbox 'info': prot: unknown key; did you mean 'port'?"),
        ('port = "995"', "line 10: mailbox 'info': port: expected an integer, found a string"),
        ("port = true", "line 10: mailbox 'info': port: expected an integer, found a boolean"),
        ("port = 0", "line 10: mailbox 'info': port: expected at least 1"),
        ("port = 65536", "line 10: mailbox 'info': port: expected at most 65535"),
        (
            'tls = "ssl"',
            "line 10: mailbox 'info': tls: expected one of implicit, starttls, none, found 'ssl'",
        ),
        (
            "tls = true",
            "line 10: mailbox 'info': tls: expected one of implicit, starttls, none, found a boolean",
        ),
        (
            'tls_verify = "no"',
            "line 10: mailbox 'info': tls_verify: expected true or false, found a string",
        ),
        (
            'multidrop = { headers = ["Delivered-To"], domain = ["a.b"] }',
            "line 10: mailbox 'info': multidrop.domain: unknown key; did you mean 'domains'?",
        ),
        (
            'multidrop = { domains = ["a.b"] }',
            "line 10: mailbox 'info': multidrop.headers: is missing",
        ),
        (
            'fallback = "office"',
            "line 10: mailbox 'info': fallback: 'office' is not an address: "
            'write it as in "info@example.com"',
        ),
        (
            "poll_every = 60",
            "line 10: mailbox 'info': poll_every: expected a duration such as "
            '"90s", "5m", "4h" or "14d", found a number: write the unit, for example "60s"',
        ),
        ('poll_every = "0s"', "line 10: mailbox 'info': poll_every: "),
        ("zzz = 1", "line 10: mailbox 'info': zzz: unknown key; the keys here are name, host, port"),
        ("max_size = 0", "line 10: mailbox 'info': max_size: 0 is out of range: a size is 1 octet"),
        ("max_size = -5", "line 10: mailbox 'info': max_size: -5 is out of range"),
        ('max_size = "0MB"', "line 10: mailbox 'info': max_size: '0MB' is out of range"),
        ('max_size = "10M"', "line 10: mailbox 'info': max_size: expected a size such as \"10MB\""),
        ("max_size = 1.5", "line 10: mailbox 'info': max_size: expected a size such as"),
        (
            'remove = "deliverd"',
            "line 10: mailbox 'info': remove: expected delivered, downloaded, never or a duration such as "
            "\"14d\", found 'deliverd'",
        ),
        ('remove = "0s"', "line 10: mailbox 'info': remove: expected a time after the download"),
        ('tls_fingerprint = "sha256:00"', "line 10: mailbox 'info': tls_fingerprint: 'sha256:00' is not"),
        (
            'tls = "none"\ntls_ca = "ca.pem"',
            "line 11: mailbox 'info': tls_ca: has no meaning with tls = \"none\"",
        ),
        (
            'tls = "none"\ntls_fingerprint = "sha256:' + "0" * 64 + '"',
            "line 11: mailbox 'info': tls_fingerprint: has no meaning",
        ),
        (
            'tls_ca = "ca.pem"\ntls_fingerprint = "sha256:' + "0" * 64 + '"',
            "line 10: mailbox 'info': tls_ca: can't go with tls_fingerprint",
        ),
        (
            'tls_verify = false\ntls_ca = "ca.pem"',
            "line 10: mailbox 'info': tls_verify: false would make tls_ca useless",
        ),
        ('tls = "none"\nauth = "xoauth2"', "line 11: mailbox 'info': auth: xoauth2 needs TLS"),
    ],
)
def test_a_wrong_key_of_a_mailbox_is_named_with_its_line(tmp_path: Path, more: str, said: str) -> None:
    assert error(tmp_path, GATEWAY + MAILBOX + f"{more}\n" + RECIPIENTS + HOME).startswith(said)


@pytest.mark.parametrize(
    ("who", "said"),
    [
        ("", "line 5: mailbox 'info': recipients: is missing: who gets this mail?"),
        ("recipients = []", "line 10: mailbox 'info': recipients: is missing"),
        ('recipients = "info@example.com"', "line 10: mailbox 'info': recipients: expected a list, found a"),
        (
            'recipients = [\n  "a@example.com",\n  "b@",\n]',
            "line 10: mailbox 'info': recipients[2]: 'b@' is not an address",
        ),
        ("recipients = [7]", "line 10: mailbox 'info': recipients[1]: expected an address, found an integer"),
        (
            'recipients = ["a@b.c"]\nmultidrop = { headers = ["Delivered-To"] }',
            "line 11: mailbox 'info': multidrop: can't go with recipients",
        ),
        ("multidrop = { headers = [] }", "line 10: mailbox 'info': multidrop.headers: is empty"),
        (
            'multidrop = { headers = ["X-Envelope-To", "CC"] }',
            "line 10: mailbox 'info': multidrop.headers[2]: CC can't be used: the sender writes it",
        ),
        (
            'multidrop = { headers = ["Received"] }',
            "line 10: mailbox 'info': multidrop.headers[1]: Received can't be used: servers leave",
        ),
        (
            'multidrop = { headers = ["Resent-Sender"] }',
            "line 10: mailbox 'info': multidrop.headers[1]: Resent-Sender can't be used",
        ),
        (
            'multidrop = { headers = ["Delivered-To:"] }',
            "line 10: mailbox 'info': multidrop.headers[1]: 'Delivered-To:' is not a header field's name",
        ),
        (
            'multidrop = { headers = ["Delivered-To"], occurrence = 0 }',
            "line 10: mailbox 'info': multidrop.occurrence: counts from 1",
        ),
    ],
)
def test_a_mailbox_that_leaves_open_who_gets_its_mail_is_refused(tmp_path: Path, who: str, said: str) -> None:
    assert error(tmp_path, GATEWAY + MAILBOX + f"{who}\n" + HOME).startswith(said)


def test_a_fallback_alone_is_enough(tmp_path: Path) -> None:
    found = loaded(tmp_path, GATEWAY + MAILBOX + 'fallback = "office@example.com"\n' + HOME)
    assert found.mailboxes[0].recipients == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (WHOLE + "[retrry]\n", "line 13: retrry: unknown key; did you mean 'retry'?"),
        (
            WHOLE.replace("[[mailbox]]", "[mailbox]"),
            "line 5: mailbox: expected a list, found a table; write [[m",
        ),
        (WHOLE.replace(']]\nname = "info"\n', "]]\n"), "line 5: mailbox[1].name: is missing"),
        (
            WHOLE.replace('"info"\nhost', '"in fo"\nhost'),
            "line 6: mailbox 'in fo': name: 'in fo' is not a name",
        ),
        (
            WHOLE.replace('"info"\nhost', "7\nhost"),
            "line 6: mailbox[1].name: expected a string, found an int",
        ),
        (WHOLE.replace('host = "pop.', 'host = "pop3://pop.'), "line 7: mailbox 'info': host: 'pop3://pop."),
        (
            WHOLE.replace('.example"\nuser', '.example:995"\nuser'),
            "line 7: mailbox 'info': host: 'pop.provider",
        ),
        (WHOLE + MAILBOX + RECIPIENTS, "line 14: mailbox 'info': name: 'info' is already used"),
        (
            WHOLE + MAILBOX.replace('"info"\nhost', '"INFO"\nhost') + RECIPIENTS,
            "line 14: mailbox 'INFO': name: 'INFO' is already used",
        ),
        (GATEWAY + MAILBOX + RECIPIENTS, "next_hop.home: is missing: without a [[route]]"),
        (HOME, "gateway.postmaster: is missing: who shall hear of trouble?"),
        (
            GATEWAY.replace("postmaster@", "postmaster") + HOME,
            "line 3: gateway.postmaster: 'postmasterexample.com' is not an address",
        ),
        (
            GATEWAY.replace('["ex', '["@ex') + HOME,
            "line 4: gateway.domains[1]: '@example.com' is not a domain",
        ),
        (GATEWAY.replace('["ex', '["*.ex') + HOME, "line 4: gateway.domains[1]: '*.example.com' is not a d"),
        (GATEWAY.replace('["ex', '["bü') + HOME, "line 4: gateway.domains[1]: 'büample.com' is not ASCII"),
        (WHOLE + "connections = 0\n", "line 13: next_hop.home.connections: expected at least 1"),
        (WHOLE + "conections = 1\n", "line 13: next_hop.home.conections: unknown key; did you mean 'connec"),
        (WHOLE + 'username = "u"\n', "line 11: next_hop.home.password: is missing: username is given"),
        (WHOLE + 'password = "hunter2"\n', "line 11: next_hop.home.username: is missing: password is given"),
        (
            WHOLE + 'tls = "starttls"\n',
            "line 13: next_hop.home.tls: expected one of required, opportunistic,",
        ),
        (WHOLE + 'tls = "none"\ntls_ca = "c"\n', "line 14: next_hop.home.tls_ca: has no meaning with tls ="),
        (WHOLE + '[next_hop."a b"]\nhost = "h"\n', "line 13: next_hop.'a b': 'a b' is not a name"),
        (
            GATEWAY + '[next_hop]\nhost = "h"\n',
            "line 6: next_hop.host: expected a table, found a string; write",
        ),
        (
            WHOLE + '[[route]]\nrecipients = ["*"]\nnext_hop = "hoem"\n',
            "line 15: route[1].next_hop: there is no next hop 'hoem'; did you mean 'home'?",
        ),
        (
            WHOLE + '[[route]]\nrecipients = ["*"]\nnext_hop = "zzz"\n',
            "line 15: route[1].next_hop: there is no next hop 'zzz'; the names here are home",
        ),
        (
            WHOLE + '[[route]]\nsenders = ["*"]\nnext_hop = "home"\n[[route]]\nnext_hop = "home"\n',
            "line 16: route[2].recipients: is missing: which mail is meant?",
        ),
        (
            WHOLE + '[[hold]]\nsenders = ["*"]\nnext_hop = "hoem"\n',
            "line 15: hold[1].next_hop: there is no next hop 'hoem'; did you mean 'home'?",
        ),
        (
            WHOLE + "[[hold]]\nuntil = 2026-11-30T08:00:00Z\n",
            "line 13: hold[1].recipients: is missing: which mail is meant?",
        ),
        (
            WHOLE + '[[hold]]\nsenders = ["*"]\nuntil = 2026-11-30T08:00:00\n',
            "line 15: hold[1].until: lacks its offset from UTC",
        ),
        (
            WHOLE + '[[hold]]\nsenders = ["*"]\nuntil = 9999-12-31T23:59:59-05:00\n',
            "line 15: hold[1].until: is no time that comes: leave it out",
        ),
        (
            WHOLE + '[[hold]]\nsenders = ["*"]\nuntil = 2026-11-30\n',
            "line 15: hold[1].until: expected a date and time, as in 2026-11-30T08:00:00Z",
        ),
        (
            WHOLE + '[[hold]]\nsenders = ["*"]\nuntil = "soon"\n',
            "line 15: hold[1].until: expected a date and time, as in 2026-11-30T08:00:00Z",
        ),
        (
            WHOLE + '[hold]\nsenders = ["*"]\n',
            "line 13: hold: expected a list, found a table; write [[hold]]",
        ),
        (
            WHOLE + '[[route]]\nrecipients = ["info"]\nnext_hop = "home"\n',
            "line 14: route[1].recipients[1]: 'info' is no address pattern",
        ),
        (
            WHOLE + '[store]\nurl = "mysql://u:hunter2@h/d"\n',
            'line 14: store.url: must begin with "sqlite:///" or',
        ),
        (WHOLE + '[store]\nurl = "mailgate.db"\n', 'line 14: store.url: must begin with "sqlite:///" or'),
        (WHOLE + '[store]\nurl = "sqlite://"\n', "line 14: store.url: is a database in memory"),
        (WHOLE + '[store]\nurl = "sqlite:///:memory:"\n', "line 14: store.url: is a database in memory"),
        (WHOLE + '[store]\nurl = "sqlite://mail.db"\n', "line 14: store.url: lacks a slash"),
        (
            WHOLE + '[store]\nurl = "sqlite:///file:m?mode=memory"\n',
            "line 14: store.url: is a database in mem",
        ),
        (WHOLE + '[store]\nurl = "sqlite:///file:m"\n', "line 14: store.url: write the path alone"),
        (
            WHOLE + '[store]\nurl = "postgresql://u:hunter2/d"\n',
            "line 14: store.url: can't be read: write it",
        ),
        (
            WHOLE + '[store]\nurl = "postgresql://u:hunter2@h:hunter2/d"\n',
            "line 14: store.url: can't be read",
        ),
        (WHOLE + '[store]\nurl = "postgresql://u:70000/d"\n', "line 14: store.url: has a port that is none"),
        (
            WHOLE + '[store]\nurl = "postgresql+asyncpg://u:hunter2@h/d"\n',
            "line 14: store.url: must use the driver psycopg",
        ),
        (
            WHOLE + '[store]\nurl = "sqlite:///x.db?mode=ro"\n',
            "line 14: store.url: has a '?': an SQLite store has",
        ),
        (WHOLE + '[store]\nurl = "sqlite:///x\\u0000.db"\n', "line 14: store.url: holds a NUL"),
        (WHOLE + '[store]\nurl = "postgresql://u:hunter2@h/d%00"\n', "line 14: store.url: holds a NUL"),
        (
            WHOLE + '[store]\nurl = "postgresql://h:hunter2/d"\n',
            "line 14: store.url: can't be read: write it as in",
        ),
        (
            WHOLE + '[store]\nurl = "postgresql://u:hunter2@[::1/d"\n',
            "line 14: store.url: can't be read: write it as in",
        ),
        (
            WHOLE + '[store]\nurl = "postgresql://u:hunter2@h:99999/d"\n',
            "line 14: store.url: has a port that is none",
        ),
        (
            WHOLE + '[store]\nurl = "postgresql://u@h/d?foo=hunter2"\n',
            "line 14: store.url: has an option 'foo', which",
        ),
        (
            WHOLE + '[store]\nurl = "postgresql://u@h/d?options=hunter2"\n',
            "line 14: store.url: has an option options, which is the gateway's own to say",
        ),
        (WHOLE + '[store]\nin_flight = "1kB"\n', 'line 14: store.in_flight: is too little: at least "64KiB"'),
        (
            WHOLE + '[[scanner]]\nkind = "attachments"\nnames = ["*.exe", ""]\n',
            "line 15: scanner[1].names[2]: is empty and would fit nothing",
        ),
        (
            WHOLE + '[[scanner]]\nkind = "attachments"\ntypes = [" "]\n',
            "line 15: scanner[1].types[1]: is empty and would fit nothing",
        ),
        (WHOLE + 'spam_refusals = [""]\n', "line 13: next_hop.home.spam_refusals[1]: is empty and would fit"),
        (
            WHOLE + '[listen]\naddress = ["127.0.0.1:25", "[::1]:25", "127.0.0.1:25"]\n',
            "line 14: listen.address[3]: 127.0.0.1:25 stands here twice",
        ),
        (
            WHOLE + '[metrics]\naddress = "[::1]:25"\n[listen]\naddress = ["127.0.0.1:25", "[::1]:25"]\n',
            "line 14: metrics.address: is [::1]:25 like listen.address: choose another port",
        ),
        (
            WHOLE + '[listen]\ntls_cert = "a\\u0000b"\ntls_key = "c"\n',
            "line 14: listen.tls_cert: 'a\\x00b' is no path of a file",
        ),
        (WHOLE + 'tls_ca = ""\n', "line 13: next_hop.home.tls_ca: '' is no path of a file"),
        (
            WHOLE + '[[scanner]]\nkind = "clamd"\naddress = "unix:/a\\u0000"\n',
            "line 15: scanner[1].address: 'unix:/a\\x00' lacks a path",
        ),
        (
            WHOLE + f"[store]\nin_flight = 0x{'f' * 9000}\n",
            "line 14: store.in_flight: a huge number is out of range",
        ),
        (
            WHOLE + f"[retry]\ncap = 0x{'f' * 9000}\n",
            'line 14: retry.cap: expected a duration such as "90s", "5m", "4h" or "14d", found a number',
        ),
        (WHOLE + '[retry]\ngive_up_after = "1m"\n', "line 14: retry.give_up_after: is shorter than first"),
        (WHOLE + '[retry]\nfirst = "2h"\n', "line 13: retry.cap: is shorter than first"),
        (WHOLE + '[retry]\nfirst = "0s"\n', 'line 14: retry.first: is too soon: at least "1s"'),
        (WHOLE + '[retry]\nfirst = "5 minutes"\n', "line 14: retry.first: expected a duration such as"),
        (WHOLE + '[retention]\ncontents = "9999d"\n', "line 14: retention.contents: '9999d' is too long"),
        (WHOLE + '[listen]\naddress = "2500"\n', "line 14: listen.address: '2500' is not an address"),
        (
            WHOLE + '[listen]\naddress = ["a:1", "b:x"]\n',
            "line 14: listen.address[2]: 'b:x' is not an address",
        ),
        (WHOLE + "[listen]\naddress = []\n", "line 14: listen.address: is empty"),
        (
            WHOLE + "[listen]\naddress = 25\n",
            "line 14: listen.address: expected a string or a list, found an",
        ),
        (
            WHOLE + '[listen]\nallow = ["0.0.0.0/0"]\n',
            "line 14: listen.allow[1]: '0.0.0.0/0' would make an open",
        ),
        (
            WHOLE + '[listen]\nallow = ["10.0.0.1/8"]\n',
            "line 14: listen.allow[1]: '10.0.0.1/8' has bits beyond",
        ),
        (WHOLE + '[listen]\nallow = ["lan"]\n', "line 14: listen.allow[1]: 'lan' is not a network"),
        (WHOLE + "[listen]\nallow = []\n", "line 14: listen.allow: is empty, and there are no users"),
        (WHOLE + '[listen]\ntls_cert = "c"\n', "line 13: listen.tls_key: is missing: tls_cert is given"),
        (
            WHOLE + '[listen]\nusers = { a = "hunter2" }\n',
            "line 13: listen.tls_cert: is missing: users can log",
        ),
        (
            WHOLE + "[listen]\nusers = { a = 7 }\n",
            "line 14: listen.users.a: expected a string or a table, found",
        ),
        (
            WHOLE + '[listen]\ninbound = ["192.0.2.0/99"]\n',
            "line 14: listen.inbound[1]: '192.0.2.0/99' is not a network",
        ),
        (
            WHOLE.replace('domains = ["example.com"]', "") + '[listen]\ninbound = ["192.0.2.0/24"]\n',
            "line 14: listen.inbound: needs gateway.domains",
        ),
        (
            WHOLE + '[listen]\nsenders = { bob = ["*@example.com"] }\n',
            "line 14: listen.senders.bob: 'bob' is neither a user nor a network",
        ),
        (
            WHOLE + '[listen]\nsenders = { "10.0.0.0/8" = ["*@example.com"] }\n',
            "line 14: listen.senders.'10.0.0.0/8': 10.0.0.0/8 isn't in listen.allow",
        ),
        (
            WHOLE + '[listen]\nsenders = { "127.0.0.1" = ["example"] }\n',
            "line 14: listen.senders[1]: 'example' is no address pattern",
        ),
        (
            WHOLE + "[listen]\nconnections = 10\nconnections_per_address = 11\n",
            "line 15: listen.connections_per_address: is more than connections",
        ),
        (
            WHOLE + '[listen]\nfree_space = "much"\n',
            "line 14: listen.free_space: expected a share such as",
        ),
        (
            WHOLE + '[listen]\nfree_space = "100%"\n',
            "line 14: listen.free_space: expected a share such as",
        ),
        (WHOLE + "[listen]\nmax_recipients = 0\n", "line 14: listen.max_recipients: expected at least 1"),
        (WHOLE + '[[scanner]]\nkind = "clamd"\n', "line 13: scanner[1].address: is missing"),
        (
            WHOLE + '[[scanner]]\nkind = "clamd"\naddress = "h:0"\n',
            "line 15: scanner[1].address: 'h:0' can't be connected to",
        ),
        (WHOLE + 'username = ""\npassword = "hunter2"\n', "line 13: next_hop.home.username: is empty"),
        (WHOLE + 'username = "u"\npassword = ""\n', "line 14: next_hop.home.password: is empty"),
        (
            WHOLE + '[[scanner]]\nkind = "clamd"\naddress = "unix:"\n',
            "line 15: scanner[1].address: 'unix:' lacks a path",
        ),
        (
            WHOLE + '[[scanner]]\nkind = "clamd"\naddress = "h:1"\nthreshold = 5\n',
            "line 16: scanner[1].threshold: has no meaning for clamd",
        ),
        (
            WHOLE + '[[scanner]]\nkind = "spamd"\naddress = "h:1"\nthreshold = nan\n',
            "line 16: scanner[1].threshold: expected a number that is finite",
        ),
        (
            WHOLE + '[[scanner]]\nkind = "clamd"\naddress = "h:1"\nsubject_prefix = "[SPAM]"\n',
            "line 16: scanner[1].subject_prefix: has no meaning for clamd",
        ),
        (
            WHOLE + '[[scanner]]\nkind = "spamd"\naddress = "h:1"\nsubject_prefix = "a\\nb"\n',
            "line 16: scanner[1].subject_prefix: expected printable ASCII",
        ),
        (
            WHOLE + '[[scanner]]\nkind = "spamd"\naddress = "h:1"\nscl = { "5.0" = 10 }\n',
            "line 16: scanner[1].scl: expected a level from -1 to 9",
        ),
    ],
)
def test_what_cannot_work_is_refused(tmp_path: Path, text: str, said: str) -> None:
    assert error(tmp_path, text).startswith(said)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("123", "password: expected a string or a table, found an integer"),
        ('["hunter2"]', "password: expected a string or a table, found a list"),
        ('""', "password: is empty"),
        ('"hunter2\\nDELE 1"', "password: is empty or holds a line break"),
        ('{ envv = "hunter2" }', "password.envv: unknown key; did you mean 'env'?"),
        ("{ }", "password: expected exactly one of env, file, command"),
        ('{ env = "A", file = "hunter2" }', "password: expected exactly one of env, file, command"),
        ('{ env = "hunter2 " }', "password.env: is not the name of an environment variable"),
        ('{ command = "echo \'hunter2" }', "password.command: can't be split into words: no closing quot"),
        ('{ command = " " }', "password.command: names no program"),
    ],
)
def test_a_wrong_secret_is_refused_without_showing_it(tmp_path: Path, written: str, said: str) -> None:
    text = WHOLE.replace('"hunter2"', written)
    assert error(tmp_path, text).startswith(f"line 9: mailbox 'info': {said}")


def test_a_key_with_a_line_break_stays_on_one_line(tmp_path: Path) -> None:
    assert error(tmp_path, WHOLE + '"a\\nb" = 1\n').startswith("line 11: next_hop.home.'a\\nb': unknown key")


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (
            'host = "a.example"',
            "next_hop.mx.host: can't be given for direct delivery: DNS says for each domain",
        ),
        (
            'username = "a"\npassword = "b"',
            "next_hop.mx.username: can't be given for direct delivery: no password",
        ),
        (
            f'tls_fingerprint = "sha256:{"0" * 64}"',
            "next_hop.mx.tls_fingerprint: can't be given for direct delivery: no certificate",
        ),
        ('tls = "implicit"', "next_hop.mx.tls: can't be implicit for direct delivery"),
        ('nameservers = ["dns.example"]', "next_hop.mx.nameservers[1]: 'dns.example' is not an IP address"),
        ('nameservers = ["192.0.2.1:x"]', "next_hop.mx.nameservers[1]: '192.0.2.1:x' is not an IP address"),
    ],
)
def test_what_direct_delivery_can_not_have_is_refused(tmp_path: Path, key: str, said: str) -> None:
    assert said in error(tmp_path, f"{WHOLE}[next_hop.mx]\n{key}\n")


def test_another_next_hop_asks_no_name_server(tmp_path: Path) -> None:
    said = error(tmp_path, f'{WHOLE}nameservers = ["192.0.2.1"]\n')
    assert "next_hop.home.nameservers: has no meaning here" in said


def test_another_next_hop_needs_a_host(tmp_path: Path) -> None:
    assert "next_hop.out.host: is missing" in error(tmp_path, f"{WHOLE}[next_hop.out]\nport = 25\n")


def test_a_time_with_an_offset_is_the_same_in_utc(tmp_path: Path) -> None:
    text = WHOLE + '[[hold]]\nsenders = ["*"]\nuntil = 2026-11-30T08:00:00+01:00\n'
    (hold,) = loaded(tmp_path, text).holds
    assert str(hold.until) == "2026-11-30 07:00:00+00:00"
