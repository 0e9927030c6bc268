"""The process that listens, as the gateway starts it and speaks to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from engine.adapters import brief as briefs
from engine.adapters.child_process import ISOLATED, ChildProcess
from engine.adapters.listener_brief import Brief
from engine.adapters.listener_words import HEAD_OCTETS, ToListener, encoded
from engine.adapters.process_line import Heard
from engine.wire.frames import Frames

PROGRAM: tuple[str, ...] = (ISOLATED, "-m", "engine.porter")


class ListenerProcess(ChildProcess):
    """One process, from its start to its end. For one event loop."""

    def __init__(self, variables: Iterable[str] | None = ()) -> None:
        super().__init__(PROGRAM, variables)

    async def start(self, brief: Brief, heard: Heard, lost: Callable[[], None]) -> None:
        """Start it and tell it what it is to do; `lost` is called once it says no more. Raises OSError."""
        frames = Frames(head_limit=HEAD_OCTETS, body_limit=brief.access.terms.max_size_octets)
        await self.begin(briefs.written(brief), frames, heard, lost, brief.sockets)

    def say(self, word: ToListener) -> None:
        """Say something, if it is still there."""
        self.send(encoded(word))
