"""The file of a SQLite store, which has to stay what it was when it was opened.

SQLite goes on writing to a file that somebody moves, removes or replaces: what is written then is found by nobody, and gone
with the process. And a reader would make an empty one in its place, which stands in the way of the one that comes back.

And whose it is, with what lies beside it: all mail is in it, so nobody but its owner may read one that is made here. What root
makes belongs to whom it serves.
"""

from __future__ import annotations

import math
import os
import pwd
import sqlite3
import time
from contextlib import suppress
from pathlib import Path

OWNERS_ALONE = 0o600
PERMISSIONS = 0o666


class Place:
    """Where the file is. `note` it when it was opened, then `check` it before each use."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._opened: tuple[int, int] | None = None  # the file's device and inode: whatever it is called
        self._looked_at = -math.inf  # on the monotonic clock, the last time it was well

    def make(self) -> None:
        """Make the file where there is none: SQLite would let everybody read it. Its -wal and -shm become like it."""
        if self._opened is None:
            file = Path(self._file).resolve()
            with suppress(OSError):  # it is there, or SQLite says what is wrong
                os.close(_made(file, file.parent, OWNERS_ALONE))

    def note(self) -> None:
        """Take note of the file that is there, the first time."""
        self._opened = self._opened or self._found()

    def check(self, *, seen_within: float = 0.0) -> None:
        """Raise OperationalError where another file is there now, or none; what was seen within so many seconds holds."""
        now = time.monotonic()
        if self._opened is None or now - self._looked_at < seen_within:
            return
        if self._found() == self._opened:
            self._looked_at = now
        else:
            raise sqlite3.OperationalError(f"{self._file} was moved, or another file is in its place")

    def _found(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._file)
        except OSError:
            return None
        return found.st_dev, found.st_ino


def beside(store: Path, name: str) -> int:
    """Open a file beside a store to read and write it; one that is made is as readable as the store, and its owner's.

    Raises OSError. A link is not followed: who may write to the folder must not choose what root writes to.
    """
    file = store.with_name(name)
    with suppress(FileExistsError):
        if store.exists():
            return _made(file, store, store.stat().st_mode & PERMISSIONS)
        return _made(file, store.parent, OWNERS_ALONE)
    return os.open(file, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)


def _made(file: Path, example: Path, mode: int) -> int:
    """Make a file and open it; as root, for the owner of `example`."""
    number = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with suppress(OSError):  # not every file system knows owners and modes
        if os.geteuid() == 0:
            owner = example.stat()
            os.fchown(number, owner.st_uid, owner.st_gid)
        os.fchmod(number, mode)  # whatever the umask is
    return number


def user_name(number: int) -> str:
    """Return a user of the system as a line names one: "user mailgate", else "user 1000"."""
    try:
        return f"user {pwd.getpwuid(number).pw_name}"
    except KeyError:
        return f"user {number}"
