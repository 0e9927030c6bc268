"""How far something was told of the log, where several events may be on their way at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable


class Cursor:
    """`position`: everything up to there was taken or is not wanted. What was taken beyond it is remembered."""

    def __init__(self) -> None:
        self.position = 0
        self._reached = 0
        self._waiting: deque[int] = deque()
        self._taken: set[int] = set()

    def begin(self, position: int) -> None:
        """Go on from what is on record, or from further on where that is known: a store that is down keeps no record."""
        position = max(position, self.position)
        self.position = self._reached = position
        self._waiting.clear()
        self._taken = {taken for taken in self._taken if taken > position}

    def look(self, wanted: Iterable[int], reached: int) -> None:
        """Take note of the positions, in order, that are wanted up to `reached`; none may be left of those before."""
        assert not self._waiting
        self._waiting.extend(wanted)
        self._reached = reached
        self._advance()

    def waits(self, position: int) -> bool:
        """Whether what is there is still to be sent."""
        return position not in self._taken and position > self.position

    def took(self, position: int) -> None:
        """Take note that what is there was taken."""
        self._taken.add(position)
        self._advance()

    def _advance(self) -> None:
        while self._waiting and self._waiting[0] in self._taken:
            self._taken.discard(self._waiting.popleft())
        self.position = self._waiting[0] - 1 if self._waiting else self._reached
