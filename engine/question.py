"""A question that may get no answer, asked by threads that may not wait for ever: a store can hang as well as refuse.

It is asked once at a time, however many want to know: whoever comes meanwhile gets the same answer. So one that hangs takes one
thread, and whoever asks after that is told so at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Final, Generic, TypeVar

ANSWER_SECONDS: Final = 5.0

Answer = TypeVar("Answer")


class NoAnswer(Exception):
    """There was none in time."""


class Question(Generic[Answer]):
    """One question. To be asked from any thread."""

    def __init__(self, ask: Callable[[], Answer]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._asked: Future[Answer] | None = None
        self._asked_at = 0.0

    def answer(self) -> Answer:
        """Return the answer, or raise what was raised instead. Raises NoAnswer."""
        with self._lock:
            if self._asked is None or self._asked.done():
                self._asked, self._asked_at = Future(), time.monotonic()
                # Nobody waits for it at the end of the process.
                threading.Thread(target=self._wait, args=(self._asked,), name="question", daemon=True).start()
            asked, until = self._asked, self._asked_at + ANSWER_SECONDS
        wait([asked], max(0.0, until - time.monotonic()))
        if not asked.done():
            raise NoAnswer(f"no answer within {ANSWER_SECONDS:g} s")
        return asked.result()

    def _wait(self, asked: Future[Answer]) -> None:
        try:
            asked.set_result(self._ask())
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the answer
            asked.set_exception(error)
