"""What the real servers have in common: a folder, a process, and ports that nobody else has.

`start` and `stop`, and a context manager that does both. A subclass says how to prepare the folder and what
to run.
"""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Self

from tests.real.process import DidNotStart, Process, free_ports, make_folder
from tests.scratch import DISK

_STARTS = 5  # a free port may be taken between the look and the start: so many times others are tried


class Server(ABC):
    """One server on 127.0.0.1, from `start` to `stop`."""

    short_name: ClassVar[str]  # of the folder
    ports_needed: ClassVar[int] = 1

    host = "127.0.0.1"
    within = DISK  # where its folder is made: some servers may go nowhere else
    _folder: Path | None = None
    _process: Process | None = None

    @property
    def folder(self) -> Path:
        """Where everything of this server is."""
        assert self._folder is not None, "not started"
        return self._folder

    @property
    def process(self) -> Process:
        """The running server."""
        assert self._process is not None, "not started"
        return self._process

    def start(self) -> Self:
        """Prepare and start. Raises DidNotStart or TimeoutError with the log, and leaves nothing."""
        self._folder = make_folder(self.short_name, self.within)
        try:
            self._prepare()
            self._start_on_free_ports()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End the server and remove its folder. May be called again."""
        if self._process is not None:
            self._end(self._process)
            self._process = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def log(self) -> str:
        """The last lines of what the server logged."""
        return self.process.output()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @abstractmethod
    def _prepare(self) -> None:
        """Write into the folder what the server needs before its first start."""

    @abstractmethod
    def _launch(self) -> Process:
        """Start the process on the ports chosen."""

    @abstractmethod
    def _use_ports(self, ports: list[int]) -> None:
        """Take note of `ports_needed` ports to listen on."""

    @abstractmethod
    def _answers(self) -> bool:
        """Is the server ready for clients?"""

    def _end(self, process: Process) -> None:
        process.stop()

    def _start_on_free_ports(self) -> None:
        for left in reversed(range(_STARTS)):
            self._use_ports(free_ports(self.ports_needed))
            try:
                self._run()
                return
            except DidNotStart:
                if not left:
                    raise

    def _run(self) -> None:
        self._process = self._launch()
        try:
            self._process.wait_ready(self._answers)
        except (DidNotStart, TimeoutError) as reason:
            raise type(reason)(f"{reason}\n{self.log()}") from None
