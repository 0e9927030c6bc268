"""What the process that listens and the one that has the store say to each other.

The listener faces the network: what it says is data of these types and nothing else, and is checked as such.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct, msgpack

from engine.opening import Opening, Rejection

HEAD_OCTETS: Final = 16 << 20  # an envelope of very many recipients, with what a client wants to hear of each


class Word(Struct, frozen=True, array_like=True):
    """Something said. `number` is that of a message, given by the listener."""


class Ready(Word, frozen=True, tag=1):
    """The listener listens."""


class Unable(Word, frozen=True, tag=2):
    """The listener can't listen, and ends: one line for a person."""

    text: str


class Wish(Word, frozen=True, tag=3):
    """The listener wants memory for so many octets of a message, in all."""

    number: int
    octets: int


class Waiver(Word, frozen=True, tag=4):
    """The listener has no more use for the memory of a message: it does not come."""

    number: int


class Handed(Word, frozen=True, tag=5):
    """The listener has a message, whole. Its octets are the body."""

    number: int
    opening: Opening


class Granted(Word, frozen=True, tag=6):
    """There is memory for so many octets of a message, in all."""

    number: int
    octets: int


class Kept(Word, frozen=True, tag=7):
    """The message is durable."""

    number: int


class Refused(Word, frozen=True, tag=8):
    """The message could not be made durable; `full` where room is what lacks."""

    number: int
    text: str
    full: bool


class Finish(Word, frozen=True, tag=9):
    """The listener is to listen no more; what is under way may end within so many seconds."""

    seconds: float


class Rejected(Word, frozen=True, tag=10):
    """The listener refused a message for its size: for the record, and nobody waits for an answer."""

    rejection: Rejection


FromListener = Ready | Unable | Wish | Waiver | Handed | Rejected
ToListener = Granted | Kept | Refused | Finish


def _plain(value: object) -> str | int:
    """Return a value from the configuration as what it is: its type there says only that it was looked at."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return int(value)
    raise TypeError(f"a {type(value).__name__} has no place in what is said")


encoded: Final = msgpack.Encoder(enc_hook=_plain).encode
from_listener: Final = msgpack.Decoder(FromListener).decode
to_listener: Final = msgpack.Decoder(ToListener).decode
