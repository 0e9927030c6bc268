"""A real Postfix as the home server: it takes mail for every recipient and puts it into one maildir.

It needs root, as Postfix does. It offers STARTTLS and has no AUTH. It is no judge of octets: it stores LF for
CRLF, puts Return-Path, Delivered-To and Received in front, adds missing header fields and wraps lines over
998 octets.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path

from tests.peers.certificates import write_certificate_and_key
from tests.real.process import (
    Missing,
    Process,
    accepts_connections,
    find_program,
    give_to,
    last_lines,
    unprivileged,
    wait_until,
)
from tests.real.server import Server

_MASTER = Path("/usr/lib/postfix/sbin/master")

# smtpd_error_sleep_time: else each refused command costs a second.
_MAIN = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file = {folder}/maillog
maillog_file_prefixes = /tmp
myhostname = {hostname}
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
smtpd_recipient_restrictions = check_recipient_access inline:{{ {refusals} }}
smtpd_error_sleep_time = 0
smtpd_client_connection_count_limit = 0
virtual_mailbox_domains = static:all
virtual_mailbox_base = {folder}/mail
virtual_mailbox_maps = static:all/
virtual_mailbox_limit = 0
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
virtual_minimum_uid = 1
smtpd_tls_chain_files = {key}, {certificate}
smtpd_tls_security_level = may
alias_maps =
alias_database =
smtp_dns_support_level = disabled
smtp_host_lookup = native
message_size_limit = {message_size_limit}
"""

# Behind the others: of two lines for one parameter the last counts.
_RELAYING = """\
relayhost = [127.0.0.1]:{port}
virtual_mailbox_domains =
smtp_tls_security_level = none
queue_run_delay = 1s
minimal_backoff_time = 1s
maximal_backoff_time = 2s
transport_retry_time = 1s
smtp_destination_concurrency_failed_cohort_limit = 0
smtp_connection_cache_on_demand = yes
"""

_SERVICES = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""

_OWNED = ["active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming"]
_OWNED += ["private", "saved", "trace"]


class Postfix(Server):
    """An SMTP server on `port` that accepts every recipient and delivers each a copy. A context manager.

    `message_size_limit` in octets is what EHLO SIZE says and what is enforced. `refusals` (recipient to
    reply, such as `"550 5.1.1 unknown"`) answers RCPT. TLS shows the certificate of
    tests/peers/certificates.py. With `relay_port` it keeps nothing, but hands all to that port of this machine, and
    tries again within seconds where that fails.
    """

    short_name = "mta"
    port = 0

    def __init__(
        self,
        *,
        hostname: str = "home.example.test",
        message_size_limit: int = 50 * 2**20,
        refusals: Mapping[str, str] | None = None,
        relay_port: int | None = None,
    ) -> None:
        find_program("postfix", package="postfix")
        if not _MASTER.exists():
            raise Missing(f"Postfix has no {_MASTER} here; Debian's package has")
        if os.geteuid() != 0:
            raise Missing("Postfix starts as root only; run these tests as root")
        self.hostname = hostname
        self.message_size_limit = message_size_limit
        self._refusals = dict(refusals or {})
        self._relay_port = relay_port

    def delivered(self, *, at_least: int = 0) -> list[bytes]:
        """The octets of what was delivered, in order of delivery: one for each recipient.

        Postfix delivers after it answered 250: `at_least` waits until there are that many. Raises
        TimeoutError with the end of Postfix's log.
        """
        try:
            wait_until(lambda: len(self._files()) >= at_least, f"{at_least} deliveries")
        except TimeoutError as late:
            raise TimeoutError(f"{late}, have {len(self._files())}\n{self.log()}") from None
        return [file.read_bytes() for file in self._files()]

    def log(self) -> str:
        return super().log() + last_lines(self.folder / "maillog")

    def _prepare(self) -> None:
        self._make_folders()

    def _files(self) -> list[Path]:
        new = self.folder / "mail/all/new"
        files = new.iterdir() if new.exists() else ()  # made by the first delivery
        return sorted(files, key=lambda file: (file.stat().st_mtime_ns, file.name))

    def _make_folders(self) -> None:
        """What `postfix check` would do in two seconds."""
        queue = self.folder / "queue"
        for name in ("etc", "data", "mail", "queue", "queue/pid"):
            (self.folder / name).mkdir()
        for name in _OWNED:
            (queue / name).mkdir(mode=0o700)
        for name, mode in (("maildrop", 0o1730), ("public", 0o2710)):
            (queue / name).mkdir()
            shutil.chown(queue / name, "postfix", "postdrop")
            (queue / name).chmod(mode)
        give_to("postfix", self.folder / "data", *(queue / name for name in _OWNED))
        give_to(unprivileged(), self.folder / "mail")

    def _use_ports(self, ports: list[int]) -> None:
        (self.port,) = ports

    def _launch(self) -> Process:
        main = self.folder / "etc/main.cf"
        main.write_text(self._config())
        os.utime(
            main, (0, 0)
        )  # Postfix waits two seconds for a file this new: somebody may still be writing it
        (self.folder / "etc/master.cf").write_text(_SERVICES.format(port=self.port))
        arguments = [str(_MASTER), "-d", "-c", str(self.folder / "etc")]
        return Process(arguments, folder=self.folder, end_signal=signal.SIGTERM)

    def _answers(self) -> bool:
        return accepts_connections(self.port)

    def _config(self) -> str:
        refusals = " ".join(f"{{ {recipient} = {reply} }}" for recipient, reply in self._refusals.items())
        certificate, key = write_certificate_and_key(self.folder)
        relaying = "" if self._relay_port is None else _RELAYING.format(port=self._relay_port)
        kept = _MAIN.format(
            folder=self.folder,
            hostname=self.hostname,
            refusals=refusals or "{ nobody@invalid = 550 5.1.1 no such user }",  # an empty table is an error
            certificate=certificate,
            key=key,
            message_size_limit=self.message_size_limit,
        )
        return kept + relaying
