"""What is asked of the scanners about one message, and what they say: the same here and in a process of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Literal, Protocol

from msgspec import Struct

from engine.ports import Answered, Mail, ScannerTrouble
from engine.scanner_post import ScannerPost
from engine.scanner_standing import Resting, ScannerStanding

Killed = tuple[str, int]  # a scanner's name, and how often it broke at this message before


class Troubled(Struct, frozen=True, array_like=True, tag=2):
    """No verdict could be had: a ScannerTrouble, and whether the scanner was not even asked because it is down."""

    text: str
    blame: Literal["scanner", "message"] = "scanner"
    resting: bool = False


class Said(Struct, frozen=True, array_like=True):
    """What came of one question, and how long it took."""

    what: Answered | Troubled
    duration_ms: int = 0


class Asking(Protocol):
    """Who asks the scanners. For one event loop."""

    @property
    def posts(self) -> Mapping[str, ScannerStanding]:
        """How each scanner is, by name."""
        ...

    def begin(self) -> None:
        """Get ready: there will be questions."""
        ...

    async def ask(self, mail: Mail, questions: tuple[Killed, ...]) -> tuple[Said, ...]:
        """Ask these scanners about a message, all at once; what they said, in this order. Never raises for what they do."""
        ...

    async def close(self) -> None:
        """Close what is kept open."""
        ...


class Here:
    """Scanners that are asked in this process."""

    def __init__(self, posts: Mapping[str, ScannerPost]) -> None:
        self.posts = posts

    def begin(self) -> None:
        """There is nothing to get ready."""

    async def ask(self, mail: Mail, questions: tuple[Killed, ...]) -> tuple[Said, ...]:
        """Ask these scanners about a message, all at once."""
        asked = [_one(self.posts[name], mail, killed) for name, killed in questions]
        return (await asked[0],) if len(asked) == 1 else tuple(await asyncio.gather(*asked))

    async def close(self) -> None:
        """Close what is kept open."""
        await asyncio.gather(*(post.close() for post in self.posts.values()))


def resting(standing: ScannerStanding) -> Said:
    """Return what is to be said of a scanner that isn't asked because it is down."""
    return Said(Troubled(standing.resting().text, resting=True))


async def _one(post: ScannerPost, mail: Mail, killed: int) -> Said:
    began = time.monotonic()
    try:
        return Said(await post.ask(mail, killed=killed), milliseconds(began))
    except ScannerTrouble as trouble:
        said = Troubled(trouble.text, trouble.blame, isinstance(trouble, Resting))
        return Said(said, milliseconds(began))


def milliseconds(began: float) -> int:
    """Return how long ago that was, by the monotonic clock."""
    return round((time.monotonic() - began) * 1000)
