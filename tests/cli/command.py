"""The command line as its users have it: a process with arguments, output and an exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Any

from tests.engine.settings.configurations import WHOLE

ROOT = Path(__file__).parents[2]
PROGRAM = "import sys; from cli.main import main; sys.exit(main())"
PATIENCE_SECONDS = 60.0  # for a slow machine; no test waits so long
DROPPED = ("MAILGATE_CONFIG", "MAILGATE_TRACEBACK", "COLUMNS", "NO_COLOR", "FORCE_COLOR")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command came to."""

    code: int
    octets: bytes
    err: str

    @property
    def out(self) -> str:
        return self.octets.decode()

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def json(self) -> list[Any]:
        return [json.loads(line) for line in self.lines]

    @property
    def complaint(self) -> str:
        """What stderr says: one line, whatever happened."""
        assert self.err.startswith("mailgate: ")
        assert self.err.endswith("\n")
        assert self.err.count("\n") == 1
        assert "Traceback" not in self.err
        return self.err.removeprefix("mailgate: ").rstrip("\n")


class Mailgate:
    """Runs `mailgate` in a folder."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        kept = {name: value for name, value in os.environ.items() if name not in DROPPED}
        self.environment = kept | {"PYTHONPATH": str(ROOT), "TZ": "UTC"} | environment

    def __call__(self, *arguments: str, stdin: bytes = b"", **environment: str) -> Answer:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *arguments],
            cwd=self.folder,
            env=self.environment | environment,
            input=stdin,
            capture_output=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        return Answer(done.returncode, done.stdout, done.stderr.decode())

    @contextmanager
    def start(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """Yield it running; ended at the latest when the block is left, or patience is."""
        with subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            watchdog = Timer(PATIENCE_SECONDS, process.kill)
            watchdog.start()
            try:
                yield process
            finally:
                watchdog.cancel()
                if process.poll() is None:
                    process.send_signal(signal.SIGKILL)


def configure(folder: Path, url: str, text: str = WHOLE) -> Path:
    """Write a configuration with this store; returns its file."""
    file = folder / "mailgate.toml"
    file.write_text(f'{text}[store]\nurl = "{url}"\n')
    return file
