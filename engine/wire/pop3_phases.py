"""Where a POP3 session stands, and which command may follow which (RFC 1939, RFC 2595, RFC 5034)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final


class Phase(Enum):
    """Where a session stands (RFC 1939 section 3); TLS is between +OK to STLS and the handshake's end."""

    GREETING = "greeting"
    AUTHORIZATION = "authorization"
    TLS = "tls"
    TRANSACTION = "transaction"
    CLOSED = "closed"


# What may be sent in a phase, and the phase that +OK to it leads to. -ERR changes nothing. A command that
# leads to another phase is the last of its group: nothing is sent behind it before its reply (RFC 2449
# section 6.6).
PHASES: Final[Mapping[Phase, Mapping[str, Phase]]] = {
    Phase.GREETING: {},
    Phase.AUTHORIZATION: {
        "CAPA": Phase.AUTHORIZATION,
        "STLS": Phase.TLS,
        "USER": Phase.AUTHORIZATION,
        "PASS": Phase.TRANSACTION,
        "APOP": Phase.TRANSACTION,
        "AUTH": Phase.TRANSACTION,
        "QUIT": Phase.CLOSED,
    },
    Phase.TLS: {},
    Phase.TRANSACTION: {
        **dict.fromkeys(("CAPA", "LIST", "UIDL", "TOP", "RETR", "DELE", "NOOP", "RSET"), Phase.TRANSACTION),
        "QUIT": Phase.CLOSED,
    },
    Phase.CLOSED: {},
}
