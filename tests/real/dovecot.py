"""A real Dovecot with POP3: plain, STLS and implicit TLS, APOP, XOAUTH2.

Runs as root or as any user, in a folder of its own. A UIDL is the name of the maildir file by default, so
that tests can say which message they mean. Dovecot gives every line a CRLF, even where the file has a bare
LF.
"""

from __future__ import annotations

import getpass
import grp
import os
import pwd
import signal
from collections.abc import Mapping
from pathlib import Path

from tests.peers.certificates import write_certificate_and_key
from tests.real.introspection import Introspection
from tests.real.process import (
    Missing,
    Process,
    accepts_connections,
    find_program,
    give_to,
    last_lines,
    unprivileged,
)
from tests.real.server import Server

_PROTOCOLS = Path("/usr/lib/dovecot")  # where Debian's dovecot-pop3d puts its program

# auth_failure_delay and anvil-auth-penalty: without them each wrong password costs 2 to 15 seconds.
_CONFIG = """\
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
protocols = pop3
listen = 127.0.0.1
ssl = yes
ssl_cert = <{certificate}
ssl_key = <{key}
disable_plaintext_auth = no
auth_mechanisms = {mechanisms}
auth_failure_delay = 0
mail_location = maildir:{folder}/mail/%u
mail_uid = {uid}
mail_gid = {gid}
first_valid_uid = 1
first_valid_gid = 1
pop3_uidl_format = {uidl_format}
pop3_lock_session = {lock_session}
mail_max_userip_connections = 100
{rootless}
{oauth2}
service anvil {{
  {no_chroot}
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  {no_chroot}
}}
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {folder}/passwd
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={folder}/mail/%u
}}
service pop3-login {{
  {no_chroot}
  inet_listener pop3 {{
    port = {port}
  }}
  inet_listener pop3s {{
    port = {port_implicit}
    ssl = yes
  }}
}}
"""

_ROOTLESS = """\
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
"""

_OAUTH2 = """\
passdb {{
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = {folder}/oauth2.conf
}}
"""

_OAUTH2_SERVICE = """\
introspection_url = {url}
introspection_mode = post
username_attribute = username
active_attribute = active
active_value = true
"""


class Dovecot(Server):
    """A POP3 server for `users` (name to password). A context manager.

    `port` speaks POP3 with STLS, `port_implicit` speaks TLS from the first octet; both show the certificate
    of tests/peers/certificates.py. `tokens` (access token to user) turns XOAUTH2 and OAUTHBEARER on. With
    `lock_session` a second session on a mailbox waits ten seconds and gets -ERR [IN-USE].
    """

    short_name = "pop"
    ports_needed = 2
    port = 0
    port_implicit = 0

    def __init__(
        self,
        users: Mapping[str, str],
        *,
        pop3_uidl_format: str = "%f",
        lock_session: bool = False,
        apop: bool = False,
        tokens: Mapping[str, str] | None = None,
    ) -> None:
        self._program = find_program("dovecot", package="dovecot-core dovecot-pop3d")
        if not (_PROTOCOLS / "pop3").exists():
            raise Missing("Dovecot has no POP3 here (Debian: apt-get install dovecot-pop3d)")
        self.users = dict(users)
        self._uidl_format = pop3_uidl_format
        self._lock_session = lock_session
        self._tokens = tokens
        self._mechanisms = ["plain", "login", *(["apop"] if apop else [])]
        self._mechanisms += ["xoauth2", "oauthbearer"] if tokens is not None else []
        self._owner = pwd.getpwnam(unprivileged() or getpass.getuser())
        self._introspection: Introspection | None = None

    def stop(self) -> None:
        super().stop()
        if self._introspection is not None:
            self._introspection.stop()
            self._introspection = None

    def put(self, user: str, name: str, octets: bytes) -> None:
        """Put a message into a mailbox. `name` is its file name and so its UIDL; no colon, no slash."""
        maildir = self._maildir(user)
        waiting = maildir / "tmp" / name
        waiting.write_bytes(octets)
        give_to(unprivileged(), waiting)
        waiting.rename(maildir / "new" / name)

    def messages(self, user: str) -> dict[str, bytes]:
        """What is in a mailbox now: name to octets, sorted by name."""
        maildir = self._maildir(user)
        files = sorted(
            [*(maildir / "new").iterdir(), *(maildir / "cur").iterdir()], key=lambda file: file.name
        )
        return {file.name.partition(":")[0]: file.read_bytes() for file in files}

    def log(self) -> str:
        return super().log() + last_lines(self.folder / "log")

    def _prepare(self) -> None:
        if self._tokens is not None:
            self._introspection = Introspection(self._tokens)
            service = _OAUTH2_SERVICE.format(url=self._introspection.url)
            (self.folder / "oauth2.conf").write_text(service)
        passwords = [f"{user}:{{PLAIN}}{password}::::::\n" for user, password in self.users.items()]
        (self.folder / "passwd").write_text("".join(passwords))
        for user in self.users:
            self._make_maildir(user)

    def _maildir(self, user: str) -> Path:
        assert user in self.users, f"no mailbox {user}"
        return self.folder / "mail" / user

    def _make_maildir(self, user: str) -> None:
        maildir = self._maildir(user)
        for part in (maildir / "new", maildir / "cur", maildir / "tmp"):
            part.mkdir(parents=True)
            give_to(unprivileged(), maildir, part)

    def _use_ports(self, ports: list[int]) -> None:
        self.port, self.port_implicit = ports

    def _launch(self) -> Process:
        (self.folder / "dovecot.conf").write_text(self._config())
        arguments = [self._program, "-F", "-c", str(self.folder / "dovecot.conf")]
        return Process(arguments, folder=self.folder, end_signal=signal.SIGTERM)

    def _answers(self) -> bool:
        return accepts_connections(self.port) and accepts_connections(self.port_implicit)

    def _end(self, process: Process) -> None:
        process.kill()  # its orderly end takes a second, and nothing here is worth keeping

    def _config(self) -> str:
        rootless = os.geteuid() != 0
        group = grp.getgrgid(self._owner.pw_gid).gr_name
        certificate, key = write_certificate_and_key(self.folder)
        return _CONFIG.format(
            folder=self.folder,
            certificate=certificate,
            key=key,
            mechanisms=" ".join(self._mechanisms),
            uid=self._owner.pw_uid,
            gid=self._owner.pw_gid,
            uidl_format=self._uidl_format,
            lock_session="yes" if self._lock_session else "no",
            rootless=_ROOTLESS.format(user=self._owner.pw_name, group=group) if rootless else "",
            no_chroot="chroot =" if rootless else "",
            oauth2=_OAUTH2.format(folder=self.folder) if self._tokens is not None else "",
            port=self.port,
            port_implicit=self.port_implicit,
        )
