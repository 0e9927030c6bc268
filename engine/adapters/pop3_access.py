"""How to reach one POP3 mailbox, and how much patience to have with it.

Owns nothing that runs. The secret is not here: only how to get it, asked anew at each login.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

Tls = Literal["implicit", "starttls", "none"]
Auth = Literal["auto", "user", "apop", "plain", "xoauth2"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxAccess:
    """One mailbox on one server.

    `secret` gives the password or, for xoauth2, the token; what it raises goes through to the caller.
    `auth` "auto" is SASL PLAIN where it is offered behind TLS, else USER and PASS; never APOP, whose MD5
    gives passwords away to whoever can choose greetings.
    """

    host: str
    port: int
    tls: Tls = "implicit"
    tls_verify: bool = True
    tls_ca: str | None = None
    tls_fingerprint: str | None = None
    username: str
    secret: Callable[[], Awaitable[str]] = field(repr=False)
    auth: Auth = "auto"

    # Name lookup, TCP and the TLS handshake together. Some 4 SYNs are sent in this time.
    connect_seconds: float = 30.0
    # Without one octet while a reply is due. Servers look for locks, index large mailboxes and look names up
    # for up to a minute or two; a server that is silent for longer has given up on us.
    idle_seconds: float = 120.0
    # For the reply to QUIT: the server removes thousands of files then, and a lost +OK leaves the removal
    # in doubt.
    quit_seconds: float = 300.0
    # A reply that has begun may take this long whatever its size; after that, it must have come at
    # `least_octets_per_second` on average. A server that sends an octet now and then would hold the mailbox
    # for days.
    grace_seconds: float = 60.0
    least_octets_per_second: int = 1024
