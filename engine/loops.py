"""The event loop of a process, and how it treats memory: a collector that leaves moving mail alone, large mail that goes back."""

from __future__ import annotations

import asyncio
import ctypes
import gc
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

COLLECT_AFTER = 20_000  # new objects: moving mail leaves no cycles, and looking for them costs some per cent

_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of mallopt(3)
LARGE_OCTETS = 1 << 20


def start(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on uvloop where it is installed, else on asyncio's own loop."""
    gc.freeze()  # what is imported by now stays for good: no need to look at it again
    gc.set_threshold(COLLECT_AFTER)
    _give_back_large()
    factory = None
    with suppress(ImportError):
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


def _give_back_large() -> None:
    """Have what a large message took go back to the system at once.

    glibc learns from the first one that is freed to keep such room for the next, in pieces that nothing fits into: with many at a
    time a process comes to twice what it needs.
    """
    with suppress(AttributeError, OSError):  # another libc
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, LARGE_OCTETS)
