"""The file of a SQLite store, which has to stay what it was when it was opened.

SQLite goes on writing to a file that somebody moves, removes or replaces: what is written then is found by nobody, and gone
with the process. And a reader would make an empty one in its place, which stands in the way of the one that comes back.
"""

from __future__ import annotations

import os
import sqlite3


class Place:
    """Where the file is. `note` it when it was opened, then `check` it before each use."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._opened: tuple[int, int] | None = None  # the file's device and inode: whatever it is called

    def note(self) -> None:
        """Take note of the file that is there, the first time."""
        self._opened = self._opened or self._found()

    def check(self) -> None:
        """Raise OperationalError where another file is there now, or none."""
        if self._opened is not None and self._found() != self._opened:
            raise sqlite3.OperationalError(f"{self._file} was moved, or another file is in its place")

    def _found(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._file)
        except OSError:
            return None
        return found.st_dev, found.st_ino
