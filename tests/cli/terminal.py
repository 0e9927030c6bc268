"""A terminal to run `mailgate` on: a real pty, and a screen that shows what was drawn."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pyte

from tests.cli.command import PATIENCE_SECONDS, PROGRAM, Mailgate


class Terminal:
    """What a person sees and types."""

    def __init__(self, process: subprocess.Popen[bytes], fd: int, columns: int, lines: int) -> None:
        self._process = process
        self._fd = fd
        self._until = time.monotonic() + PATIENCE_SECONDS
        self.screen = pyte.Screen(columns, lines)
        self.raw = b""
        self._stream = pyte.ByteStream(self.screen)

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.screen.display)

    @property
    def colours(self) -> set[str]:
        """The colours on the screen, but for the terminal's own."""
        cells = [cell for line in self.screen.buffer.values() for cell in line.values()]
        return {colour for cell in cells for colour in (cell.fg, cell.bg)} - {"default"}

    def until(self, seen: Callable[[], bool]) -> None:
        """Go on drawing until that is so."""
        while not seen():
            assert time.monotonic() < self._until, self.text
            self._draw()

    def until_text(self, text: str) -> None:
        self.until(lambda: text in self.text)

    def type(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        self.screen.resize(lines, columns)
        set_size(self._fd, columns, lines)

    def ended(self) -> int:
        """Return the exit code, once it has ended by itself."""
        self.until(lambda: self._process.poll() is not None)
        self._draw()
        return self._process.returncode

    def _draw(self) -> None:
        """Draw what has come."""
        while select.select([self._fd], [], [], 0.05)[0]:
            octets = os.read(self._fd, 65_536)
            self.raw += octets
            self._stream.feed(octets)


@contextmanager
def terminal(
    mailgate: Mailgate, *arguments: str, columns: int = 80, lines: int = 24, **environment: str
) -> Iterator[Terminal]:
    """Yield `mailgate` running on a terminal of this size."""
    usual = {"TERM": "xterm-256color", "LANG": "C.UTF-8"}
    ours, theirs = pty.openpty()
    set_size(ours, columns, lines)
    # A terminal becomes that of the session whose leader opens it: Ctrl-C and changes of its size come from it then.
    process = subprocess.Popen(
        ["sh", "-c", 'exec "$@" <"$0" >"$0" 2>&1', os.ttyname(theirs), *PROGRAM, *arguments],
        cwd=mailgate.folder,
        env=mailgate.environment | usual | environment,
        start_new_session=True,
    )
    with process:
        try:
            yield Terminal(process, ours, columns, lines)
        finally:
            process.kill()
            os.close(ours)
            os.close(theirs)


def set_size(fd: int, columns: int, lines: int) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
