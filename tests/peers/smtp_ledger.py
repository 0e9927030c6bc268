"""What the SMTP peer notes: commands, sessions, mail taken; and the names of its stages and faults."""

import base64
import json
import os
from dataclasses import dataclass
from pathlib import Path

ANY = frozenset(
    {"reply", "421", "drop", "drop-mid", "stall", "garbage", "endless-line", "drip", "answer-drop"}
)
ACTIONS = {
    "connect": frozenset({"drop", "stall"}),
    "banner": ANY,
    "ehlo": ANY,
    "helo": ANY,
    "starttls": ANY,
    "auth": ANY,
    "mail": ANY,
    "rcpt": ANY,
    "data": ANY,
    "content": frozenset({"drop", "stall"}),
    "dot": ANY | {"commit-drop", "late"},
    "rset": ANY,
    "noop": ANY,
    "quit": ANY,
}
HOOKS = frozenset({"dot-taken", *(f"{s}-answered" for s in ACTIONS if s not in ("connect", "content"))})


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """One message this server is responsible for: noted before the answer to the final dot.

    `octets` is the content un-stuffed, else untouched. `at_seconds` is the monotonic clock of this machine.
    """

    session: int
    at_seconds: float
    helo: str
    reverse_path: str
    recipients: tuple[str, ...]
    octets: bytes
    mail_parameters: tuple[str, ...] = ()
    secure: bool = False
    user: str | None = None

    @property
    def has_bare_line_endings(self) -> bool:
        """Whether a CR or LF stands alone in the content, which RFC 5321 section 2.3.8 forbids."""
        rest = self.octets.replace(b"\r\n", b"")
        return b"\r" in rest or b"\n" in rest


@dataclass(slots=True, kw_only=True)
class Command:
    """One command, noted before it is answered; the final dot is noted as the command ".".

    `pipelined` tells that it came before the last answer was sent. `reply` is set just before
    it is sent whole, and stays None where a fault keeps it back.
    """

    session: int
    at_seconds: float
    verb: str
    argument: str
    pipelined: bool
    fault: str | None = None
    reply: str | None = None


@dataclass(slots=True, kw_only=True)
class Session:
    """One connection."""

    number: int
    opened_at_seconds: float
    closed_at_seconds: float | None = None
    quit: bool = False
    secure: bool = False
    messages: int = 0
    thrown_away_octets: int = 0


def append_durably(path: Path, taken: Taken) -> None:
    """One JSON line, on the disk when this returns; octets in base64."""
    facts = {
        "session": taken.session,
        "at_seconds": taken.at_seconds,
        "helo": taken.helo,
        "reverse_path": taken.reverse_path,
        "recipients": taken.recipients,
        "octets": base64.b64encode(taken.octets).decode(),
        "mail_parameters": taken.mail_parameters,
        "secure": taken.secure,
        "user": taken.user,
    }
    with path.open("a", encoding="utf-8") as ledger:
        ledger.write(json.dumps(facts) + "\n")
        ledger.flush()
        os.fsync(ledger.fileno())


def read_ledger(path: Path) -> list[Taken]:
    """What `append_durably` wrote."""
    entries = []
    for line in path.read_text(encoding="utf-8").splitlines():
        facts = json.loads(line)
        facts["octets"] = base64.b64decode(facts["octets"])
        facts["recipients"] = tuple(facts["recipients"])
        facts["mail_parameters"] = tuple(facts["mail_parameters"])
        entries.append(Taken(**facts))
    return entries
