"""A gateway that runs until it is stopped, as its administrator sees it: a process, its log, its memory."""

import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.life.house import House
from tests.processes import children

PATIENCE_SECONDS = 60  # only a hang takes so long
LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (INFO|WARNING|ERROR) .+")


class Gateway:
    """`mailgate run` as a process. Its stderr is read as it comes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, name="stderr", daemon=True)
        self._reader.start()

    @property
    def log(self) -> str:
        """Everything it has said so far."""
        return "\n".join(self.lines)

    def says(self, text: str, times: int = 1) -> None:
        """Wait until so many lines hold the text. Raises TimeoutError with what was said."""
        with self._news:
            if not self._news.wait_for(lambda: self._count(text) >= times, PATIENCE_SECONDS):
                raise TimeoutError(f"it did not say {text!r}:\n{self.log}")

    def stop(self) -> int:
        """SIGTERM, as a service manager does; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.ended()

    def ended(self) -> int:
        """Wait until it is gone; returns the exit code."""
        code = self.process.wait(PATIENCE_SECONDS)
        self._reader.join(PATIENCE_SECONDS)
        return code

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.ended()

    def peak_octets(self) -> int:
        """The most memory it ever had resident, up to now; of each of its processes."""
        pid = self.process.pid
        return sum(peak_octets(one) for one in (pid, *children(pid)))

    def _count(self, text: str) -> int:
        return sum(text in line for line in self.lines)

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._news:
                self.lines.append(line.rstrip("\n"))
                self._news.notify_all()


@contextmanager
def running(house: House, *arguments: str, clean: bool = True, at_once: bool = False) -> Iterator[Gateway]:
    """Run the gateway of a house; yields when it runs, or `at_once`. Killed at the end if it still runs.

    With `clean` everything it said must be a line of the log: no traceback, nothing from a library.
    """
    gateway = Gateway(house.start("run", *arguments))
    try:
        if not at_once:
            gateway.says(" running with ")
        yield gateway
    finally:
        if gateway.process.poll() is None:
            gateway.kill()
        for stream in (gateway.process.stdout, gateway.process.stderr):
            if stream is not None:
                stream.close()
    if clean:
        check_log(gateway.log)


def check_log(log: str) -> None:
    """Every line is a record of ours: time, level, text."""
    strange = [line for line in log.splitlines() if not LINE.fullmatch(line)]
    assert strange == []


def peak_octets(pid: int) -> int:
    """VmHWM of a process, in octets."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024
