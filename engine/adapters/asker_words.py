"""What the gateway and the process that asks the scanners say to each other.

That process reads what scanners answer, which may be what a sender made them say: its words are data of these types and
nothing else, and are checked as such.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from msgspec import Struct, msgpack

from engine.asking import Killed, Said
from engine.core.verdict import ScannerPolicy
from engine.settings import ScannerSettings

HEAD_OCTETS: Final = 16 << 20  # an envelope of very many recipients


@dataclass(frozen=True, slots=True, kw_only=True)
class Brief:
    """What the process is told at its start; `log_level` is that of the gateway's log."""

    scanners: tuple[ScannerSettings, ...]
    policies: tuple[ScannerPolicy, ...]
    log_level: int


class Word(Struct, frozen=True, array_like=True):
    """Something said."""


class Question(Word, frozen=True, tag=1):
    """The gateway asks about a message, as in `Mail`. Its octets are the body; `number` is the gateway's."""

    number: int
    scanners: tuple[Killed, ...]
    id: str
    reverse_path: str
    recipients: tuple[str, ...]
    client_ip: str
    helo: str
    user: str | None


class Beat(Word, frozen=True, tag=2):
    """The gateway wants to hear that the process is alive; it says the same."""


class Answer(Word, frozen=True, tag=3):
    """What the scanners said to a question, in its order."""

    number: int
    said: tuple[Said, ...]


class Standing(Word, frozen=True, tag=4):
    """How a scanner is from now on, as in `ScannerStanding`."""

    name: str
    failures: int
    down_since: datetime | None
    probe_at: datetime | None
    trouble: str
    broke_at: str
    answered: bool


ToAsker = Question | Beat
FromAsker = Answer | Beat | Standing


def _plain(text: object) -> str:
    """The settings and the envelope have kinds of string of their own; on the line a string is a string."""
    if isinstance(text, str):
        return str(text)
    raise TypeError(f"{type(text).__name__} can't be said")


encoded: Final = msgpack.Encoder(enc_hook=_plain).encode
from_asker: Final = msgpack.Decoder(FromAsker).decode
to_asker: Final = msgpack.Decoder(ToAsker).decode
