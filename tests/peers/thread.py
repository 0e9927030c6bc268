"""A peer in a thread with an event loop of its own: for synchronous tests and for tests with child processes.

`with PeerThread(peer) as port:` starts the peer and stops it at the end; an error inside a conversation is
raised there. Read the peer's ledgers from the test's thread and wait with `peer.wait_until`.
"""

import asyncio
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from cli.stand_ins import LoopbackServer
from tests.peers.dnsd import DnsPeer

# Starting and stopping a loopback server takes milliseconds; this only ends a hung test.
CALL_SECONDS = 30.0

Answer = TypeVar("Answer")


class PeerThread:
    """Owns the thread and the loop; the peer runs in it."""

    def __init__(self, peer: LoopbackServer | DnsPeer, port: int = 0, host: str = "127.0.0.1") -> None:
        self._peer = peer
        self._host = host
        # asyncio's own loop whatever the policy: uvloop cannot hold back reading until TLS begins.
        self._loop = asyncio.SelectorEventLoop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="peer", daemon=True)
        self.port = port

    def __enter__(self) -> int:
        self.open()
        return self.port

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> Self:
        """Start the thread and the peer; `port` is set."""
        self._thread.start()
        self.port = self.run(self._peer.start(self.port, self._host))
        return self

    def close(self) -> None:
        """Stop the peer and the thread. Raises the first error of a conversation."""
        try:
            self.run(self._peer.stop())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(CALL_SECONDS)
            self._loop.close()

    def run(self, call: Coroutine[Any, Any, Answer]) -> Answer:
        """Run a coroutine on the peer's loop and wait for its answer."""
        return asyncio.run_coroutine_threadsafe(call, self._loop).result(CALL_SECONDS)

    def go_away(self) -> None:
        """Stop listening and cut every conversation, as a machine that is switched off."""
        self.run(self._peer.stop())

    def come_back(self) -> None:
        """Listen again, on the same port."""
        self.run(self._peer.start(self.port, self._host))
