"""The process that listens, as the gateway starts it and sees it end.

Owns the process and our end of the line to it. It is in a session of its own, so that Ctrl-C on a terminal reaches
the gateway alone; whatever becomes of the gateway, the line breaks and it ends.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable
from contextlib import suppress

from engine.adapters import listener_brief
from engine.adapters.listener_brief import Brief
from engine.adapters.listener_line import Heard, Line
from engine.adapters.listener_words import HEAD_OCTETS, ToListener, encoded
from engine.wire.frames import Frames

PROGRAM: tuple[str, ...] = (
    "-P",
    "-m",
    "engine.porter",
)  # -P: nothing is imported from wherever we were started


class ListenerProcess:
    """One process, from its start to its end. For one event loop."""

    def __init__(self) -> None:
        self._line: Line | None = None
        self._process: Process | None = None
        self._trouble: Exception | None = None  # why we end it
        self._silent = asyncio.Event()  # it says no more

    async def start(self, brief: Brief, heard: Heard, lost: Callable[[], None]) -> None:
        """Start it and tell it what it is to do; `lost` is called once it says no more. Raises OSError."""

        def silent(error: Exception | None) -> None:
            self._line, self._trouble = None, error
            self._silent.set()
            lost()

        try:
            ours = await self._spawn(brief.sockets)
            await asyncio.get_running_loop().sock_sendall(ours, listener_brief.written(brief))
            frames = Frames(head_limit=HEAD_OCTETS, body_limit=brief.access.terms.max_size_octets)
            self._line = await Line.on(ours, frames, heard, silent)
        except OSError:
            self._silent.set()
            raise

    async def _spawn(self, sockets: tuple[int, ...]) -> socket.socket:
        """Start the process; returns our end of the line."""
        ours, its = socket.socketpair()
        ours.setblocking(False)
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *PROGRAM,
                str(its.fileno()),
                stdin=DEVNULL,
                stdout=DEVNULL,
                pass_fds=(its.fileno(), *sockets),
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            its.close()
        return ours

    def say(self, word: ToListener) -> None:
        """Say something, if it is still there."""
        if self._line is not None:
            self._line.say(encoded(word))

    async def ended(self) -> str:
        """Wait until it is gone; returns how it ended, in words."""
        await self._silent.wait()
        if self._process is None:
            return "not started"
        if self._trouble is not None:
            self.kill()  # what it said made no sense
        code = await self._process.wait()
        if self._trouble is not None:
            return str(self._trouble)
        return f"exit code {code}" if code >= 0 else signal.Signals(-code).name

    def kill(self) -> None:
        """End it by SIGKILL."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
