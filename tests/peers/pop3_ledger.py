"""What the POP3 peer keeps and notes: mailboxes, commands, sessions; the names of its stages and faults."""

from dataclasses import dataclass, field
from typing import Literal

ANY = frozenset({"drop", "drop-mid", "stall", "err", "garbage", "endless-line", "drip"})
LONG = ANY | {"flood", "no-final-dot", "stall-mid"}
LISTING = LONG | {"repeat", "omit"}
ACTIONS = {
    "connect": frozenset({"drop", "stall"}),
    "greeting": ANY,
    "capa": LONG,
    "stls": ANY,
    "auth": ANY,
    "apop": ANY,
    "user": ANY,
    "pass": ANY,
    "stat": ANY,
    "list": LISTING | {"lie-size"},
    "uidl": LISTING | {"dup-uidl", "uidl-changes"},
    "retr": LONG | {"err-first"},
    "top": LONG,
    "dele": ANY,
    "rset": ANY,
    "noop": ANY,
    "quit": ANY | {"drop-undone", "drop-committed"},
}
HOOKS = frozenset({"quit-committed", *(f"{stage}-answered" for stage in ACTIONS if stage != "connect")})
CAPABILITIES = ("USER", "UIDL", "TOP", "PIPELINING", "RESP-CODES", "AUTH-RESP-CODE")


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerMessage:
    """One message in a mailbox."""

    uidl: str
    octets: bytes


@dataclass(slots=True, kw_only=True)
class PeerMailbox:
    """One user's mailbox. `messages` is what is there now; a session works on a copy of the list."""

    name: str
    password: str
    token: str | None = None
    messages: list[PeerMessage] = field(default_factory=list)
    in_use: bool = False


@dataclass(slots=True, kw_only=True)
class Command:
    """One command, noted before it is answered. `at_seconds` is the monotonic clock of this machine.

    `uidl` is the message meant; `pipelined` tells that the command came before the last answer was sent;
    `reply` is the first line of the answer, set just before it is sent, None where a fault keeps it back.
    `whole`: it was +OK, and all of it was sent, as far as the client was still there.
    """

    session: int
    at_seconds: float
    user: str
    verb: str
    argument: str
    uidl: str | None
    pipelined: bool
    fault: str | None = None
    reply: str | None = None
    whole: bool = False


@dataclass(slots=True, kw_only=True)
class Session:
    """One connection: how it ended, and which unique ids its QUIT deleted."""

    number: int
    opened_at_seconds: float
    closed_at_seconds: float | None = None
    user: str = ""
    secure: bool = False
    ended: Literal["open", "quit", "broken"] = "open"
    committed: tuple[str, ...] = ()
    thrown_away_octets: int = 0
