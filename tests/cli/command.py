"""The command line as its users have it: arguments, output, an exit code; in this process or in one of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from threading import Timer
from typing import Any
from unittest.mock import patch

from cli.main import main
from tests.engine.settings.configurations import WHOLE

ROOT = Path(__file__).parents[2]
PROGRAM = (sys.executable, "-c", "import sys; from cli.main import main; sys.exit(main())")
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
        return self.err.removeprefix("mailgate: ").rstrip("\n")


class Mailgate:
    """Runs `mailgate` in a folder: called, in this process, which is fast; `process`, in one of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        kept = {name: value for name, value in os.environ.items() if name not in DROPPED}
        self.environment = kept | {"PYTHONPATH": str(ROOT), "TZ": "UTC"}

    def __call__(self, *arguments: str, stdin: bytes = b"", **environment: str) -> Answer:
        out, err = TextIOWrapper(BytesIO(), encoding="utf-8"), StringIO()
        with (
            _environment(self.environment | environment),
            patch.object(sys, "argv", ["mailgate", *arguments]),
            patch.object(sys, "stdin", TextIOWrapper(BytesIO(stdin))),
            chdir(self.folder),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            code = main()
        assert isinstance(out.buffer, BytesIO)
        return Answer(code, out.buffer.getvalue(), err.getvalue())

    def process(self, *arguments: str, stdout: Any = subprocess.PIPE, **environment: str) -> Answer:
        done = subprocess.run(
            [*PROGRAM, *arguments],
            cwd=self.folder,
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        return Answer(done.returncode, done.stdout or b"", done.stderr.decode())

    @contextmanager
    def start(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """Yield it running; ended at the latest when the block is left, or patience is."""
        command = [*PROGRAM, *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen(command, cwd=self.folder, env=self.environment, **pipes) as process:
            watchdog = Timer(PATIENCE_SECONDS, process.kill)
            watchdog.start()
            try:
                yield process
            finally:
                watchdog.cancel()
                process.kill()


def configure(folder: Path, url: str, text: str = WHOLE) -> Path:
    """Write a configuration with this store; returns its file."""
    file = folder / "mailgate.toml"
    file.write_text(f'{text}[store]\nurl = "{url}"\n')
    return file


@contextmanager
def _environment(wanted: Mapping[str, str]) -> Iterator[None]:
    with patch.dict(os.environ, wanted, clear=True):
        time.tzset()
        yield
    time.tzset()
