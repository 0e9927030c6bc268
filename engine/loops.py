"""The event loop of a process: uvloop where it is installed, and a collector that leaves moving mail alone."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

COLLECT_AFTER = 20_000  # new objects: moving mail leaves no cycles, and looking for them costs some per cent


def start(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on uvloop where it is installed, else on asyncio's own loop."""
    gc.freeze()  # what is imported by now stays for good: no need to look at it again
    gc.set_threshold(COLLECT_AFTER)
    factory = None
    with suppress(ImportError):
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)
