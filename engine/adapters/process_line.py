"""The line between two processes of ours: frames both ways, on a socket of the two.

Owns the socket and the order of what goes out. What is said in one turn of the event loop goes out in one piece, a large body
a piece at a time. Never waits: who speaks goes on at once.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from typing import Final, cast

from msgspec import DecodeError

from engine.ports import Octets
from engine.wire.frames import FrameFault, Frames, beginning

PIECE_OCTETS: Final = 256 * 1024
SOCKET_OCTETS: Final = 1 << 20  # asked of the kernel, which may give less

Heard = Callable[[bytes, Octets], None]
Lost = Callable[[Exception | None], None]


class Line(asyncio.Protocol):
    """One end. `heard` is called for each frame; `lost` once, with what broke it, None where the other end is gone."""

    def __init__(self, frames: Frames, heard: Heard, lost: Lost) -> None:
        self._frames = frames
        self._heard = heard
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._out: deque[Octets] = deque()
        self._paused = False
        self._due = False  # to flush
        self._trouble: Exception | None = None

    async def open(self, end: socket.socket) -> None:
        """Be at one end of a pair of sockets; what came there before is heard at once."""
        await self._loop.create_unix_connection(lambda: self, sock=end)

    def say(self, head: bytes, body: Octets = b"") -> None:
        """Send a frame. A body is not to be changed any more. Where the line is broken nothing happens."""
        if self._transport is None or self._transport.is_closing():
            return
        self._out.append(beginning(head, len(body)))
        if len(body) > PIECE_OCTETS:
            whole = memoryview(body)
            self._out.extend(whole[at : at + PIECE_OCTETS] for at in range(0, len(body), PIECE_OCTETS))
        elif body:
            self._out.append(body)
        if not self._due:
            self._due = True
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        """End the line, at once."""
        if self._transport is not None:
            self._transport.abort()

    def _flush(self) -> None:
        self._due = False
        out = self._out
        while out and not self._paused and self._transport is not None:
            pieces = [out.popleft()]
            octets = len(pieces[0])
            while out and octets + len(out[0]) <= PIECE_OCTETS:
                octets += len(out[0])
                pieces.append(out.popleft())
            self._transport.write(b"".join(pieces) if len(pieces) > 1 else pieces[0])

    # -- what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the socket."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(PIECE_OCTETS)

    def data_received(self, data: bytes) -> None:
        """Hear what is whole; what is no frame of ours ends the line."""
        try:
            for head, body in self._frames.feed(data):
                self._heard(head, body)
        except (FrameFault, DecodeError) as fault:
            self._trouble = fault
            self.close()

    def pause_writing(self) -> None:
        """Keep what is said from now on."""
        self._paused = True

    def resume_writing(self) -> None:
        """Send what was kept."""
        self._paused = False
        self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        """Forget what nobody will hear."""
        self._transport = None
        self._out.clear()
        self._lost(self._trouble or error)
