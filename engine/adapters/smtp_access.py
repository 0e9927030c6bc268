"""How to reach a next hop: address, TLS, credentials, limits, time-outs. Values only; nothing is opened
here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

TlsMode = Literal["required", "opportunistic", "implicit", "none"]

# A host that drops packets is given up after this; a slow one has answered the first SYN long before.
CONNECT_SECONDS = 30.0
# RFC 5321 section 4.5.3.2, .1 to .6. A server may tarpit each reply for as long.
GREETING_SECONDS = 300.0
MAIL_SECONDS = 300.0
RCPT_SECONDS = 300.0
DATA_SECONDS = 120.0
DATA_BLOCK_SECONDS = 180.0
FINAL_DOT_SECONDS = 600.0
# EHLO, STARTTLS with its handshake, each step of AUTH, RSET: the RFC gives no number, so that of MAIL.
COMMAND_SECONDS = 300.0
# Nothing hangs on the reply to QUIT.
QUIT_SECONDS = 10.0
# A kept connection takes one of the server's few places from others.
IDLE_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NextHopTimeouts:
    """How long each thing may take; the defaults are never shorter than RFC 5321 asks for."""

    connect_seconds: float = CONNECT_SECONDS
    greeting_seconds: float = GREETING_SECONDS
    command_seconds: float = COMMAND_SECONDS
    mail_seconds: float = MAIL_SECONDS
    rcpt_seconds: float = RCPT_SECONDS
    data_seconds: float = DATA_SECONDS
    data_block_seconds: float = DATA_BLOCK_SECONDS
    final_dot_seconds: float = FINAL_DOT_SECONDS
    quit_seconds: float = QUIT_SECONDS
    idle_seconds: float = IDLE_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class NextHopAccess:
    """One next hop as configured.

    `tls`: "required" is STARTTLS or nothing; "implicit" is TLS from the first octet; "opportunistic" without
    `tls_verify` takes STARTTLS where it works, with any certificate, and clear text where it doesn't (RFC 7435),
    and with it is no different from "required". `tls_ca` is a PEM file that replaces the system's authorities.
    `tls_fingerprint` ("sha256:" and 64 hexadecimal digits) pins the certificate itself instead. `secret` is
    asked for the password once per connection. `addresses` are those of the host, where somebody has looked
    them up already; empty: the system is asked.
    """

    name: str
    host: str
    addresses: tuple[str, ...] = ()
    port: int = 25
    tls: TlsMode = "opportunistic"
    tls_verify: bool = True
    tls_ca: str | None = None
    tls_fingerprint: str | None = None
    username: str | None = None
    secret: Callable[[], Awaitable[str]] | None = field(default=None, repr=False)
    connections: int = 4
    messages_per_connection: int = 100
    timeouts: NextHopTimeouts = NextHopTimeouts()

    @property
    def takes_anybody(self) -> bool:
        """Whether any certificate will do, and clear text where there is none."""
        expected = self.tls_verify or self.tls_fingerprint is not None
        return self.tls == "opportunistic" and not expected
