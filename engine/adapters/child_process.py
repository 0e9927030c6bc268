"""A process of ours beside the gateway, as the gateway starts it and sees it end.

Owns the process and our end of the line to it. It is in a session of its own, so that Ctrl-C on a terminal reaches
the gateway alone; whatever becomes of the gateway, the line breaks and it ends.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

from engine.adapters.process_line import Heard, Line
from engine.ports import Octets
from engine.wire.frames import Frames

ISOLATED = "-P"  # for Python: nothing is imported from wherever we were started
# No more of the environment than Python needs to find us: passwords are in it.
ENVIRONMENT: Final = (
    *("PATH", "PYTHONHOME", "PYTHONPATH", "LD_LIBRARY_PATH", "OPENSSL_CONF"),
    *("LANG", "LC_ALL", "LC_CTYPE", "TZ"),
)


def environment(more: Iterable[str] = ()) -> dict[str, str]:
    """Return what of our environment a process of ours gets: what it takes to run, and these variables."""
    return {name: os.environ[name] for name in (*ENVIRONMENT, *more) if name in os.environ}


class ChildProcess:
    """One process, from its start to its end. For one event loop.

    `program` is what Python is told to run, `variables` are those of the environment that it needs besides; None: all.
    """

    def __init__(self, program: tuple[str, ...], variables: Iterable[str] | None = ()) -> None:
        self._program = program
        self._variables = variables
        self._line: Line | None = None
        self._process: Process | None = None
        self._trouble: Exception | None = None  # why we end it
        self._silent = asyncio.Event()  # it says no more

    async def begin(
        self,
        brief: bytes,
        frames: Frames,
        heard: Heard,
        lost: Callable[[], None],
        sockets: tuple[int, ...] = (),
    ) -> None:
        """Start it with these sockets and tell it what it is to do; `lost` is called once it says no more. Raises OSError."""

        def silent(error: Exception | None) -> None:
            self._line, self._trouble = None, error
            self._silent.set()
            lost()

        try:
            ours = await self._spawn(sockets)
            await asyncio.get_running_loop().sock_sendall(ours, brief)
            self._line = Line(frames, heard, silent)
            await self._line.open(ours)
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
                *self._program,
                str(its.fileno()),
                stdin=DEVNULL,
                stdout=DEVNULL,
                env=None if self._variables is None else environment(self._variables),
                pass_fds=(its.fileno(), *sockets),
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            its.close()
        return ours

    def send(self, head: bytes, body: Octets = b"") -> bool:
        """Send it a frame; False where it is gone."""
        if self._line is None:
            return False
        self._line.say(head, body)
        return True

    def hang_up(self) -> None:
        """Close the line, upon which it ends by itself."""
        if self._line is not None:
            self._line.close()

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
