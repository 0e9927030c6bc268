"""A real server in the foreground, held by its own Popen.

Each server of a test is one `Process` in a folder of its own below /tmp: short, because the path of a UNIX
socket stops at 107 octets, and open to other users, because servers drop root. Two things end it: `stop`, or
a guard, a shell that waits on a pipe from this process and so wakes when this process is gone, however it
went. No server outlives the tests, not even after SIGKILL.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

READY_WITHIN_SECONDS = 30.0  # a server answers in a tenth of a second; a loaded machine gets a lot more
_LINES_SHOWN = 20  # enough to see why a server ended, short enough to read
LOOK_EVERY_SECONDS = 0.01  # servers tell nobody when they are ready: they are asked this often

# Half a second for an orderly end, then the whole process group. Removing the folder comes last.
_GUARD = 'read -r _; kill -s "$1" -- "$2"; sleep 0.5; kill -s KILL -- "-$2"; rm -rf -- "$3"'


class Missing(Exception):
    """The server is not installed here, or cannot run here. The text says what to install."""


class DidNotStart(Exception):
    """The server ended before it answered, as it does where its port is taken."""


def unprivileged() -> str | None:
    """The user that servers run as when the tests run as root; None when they don't."""
    return "nobody" if os.geteuid() == 0 else None


def as_user(user: str | None) -> dict[str, Any]:
    """Arguments for subprocess that make the child run as `user`."""
    if user is None:
        return {}
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}


def give_to(user: str | None, *paths: Path) -> None:
    """Make `user` the owner of `paths`; nothing to do without root."""
    if user is not None:
        entry = pwd.getpwnam(user)
        for path in paths:
            os.chown(path, entry.pw_uid, entry.pw_gid)


def make_folder(name: str, within: Path) -> Path:
    """A fresh folder with a short path that any user may enter."""
    folder = Path(mkdtemp(prefix=f"mg-{name}.", dir=within))
    folder.chmod(0o755)
    return folder


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody has now. Another program may take one before the server does."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def find_program(name: str, *, package: str) -> str:
    """The path of a server's program, which may stand in sbin. Raises Missing."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if path is None:
        raise Missing(f"{name} is not installed (Debian: apt-get install {package})")
    return path


def wait_until(ready: Callable[[], bool], what: str, *, seconds: float = READY_WITHIN_SECONDS) -> None:
    """Ask `ready` until it says yes. Raises TimeoutError that names `what` was waited for."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        time.sleep(LOOK_EVERY_SECONDS)


def accepts_connections(port: int) -> bool:
    """Does somebody listen on this port of 127.0.0.1?"""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def accepts_connections_at(path: Path) -> bool:
    """Does somebody listen on this socket? Its file is there from the bind, before the listen."""
    with socket.socket(socket.AF_UNIX) as there:
        there.settimeout(1)
        return there.connect_ex(str(path)) == 0


def last_lines(log: Path) -> str:
    """The last lines of a log file, for an error message; nothing where there is no file."""
    if not log.exists():
        return ""
    return "\n".join(log.read_text(errors="replace").splitlines()[-_LINES_SHOWN:])


class Process:
    """A server's master process and its guard.

    `end_signal` asks it to end. `folder` is removed by the guard only: `stop` leaves it, so that a server can
    be started again on what it wrote.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        folder: Path,
        end_signal: signal.Signals,
        user: str | None = None,
    ) -> None:
        self._program = arguments[0]
        self._end_signal = end_signal
        self._log = folder / "output"
        with self._log.open("ab") as output:
            # A session of its own: servers signal their whole process group, and Ctrl-C belongs to pytest.
            self._popen = subprocess.Popen(
                arguments,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **as_user(user),
            )
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "guard", end_signal.name[3:], str(self._popen.pid), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._popen.pid

    def wait_ready(self, ready: Callable[[], bool]) -> None:
        """Return when `ready` says yes. Raises DidNotStart or TimeoutError; the process is gone then."""

        def ready_or_gone() -> bool:
            return self._popen.poll() is not None or ready()

        try:
            wait_until(ready_or_gone, f"{self._program} to answer")
        except TimeoutError:
            self.kill()
            raise
        if self._popen.poll() is not None:
            self.kill()
            raise DidNotStart(f"{self._program} ended with {self._popen.returncode}")

    def output(self) -> str:
        """The last lines the server wrote to standard output and error."""
        return last_lines(self._log)

    def stop(self) -> None:
        """Ask the server to end, and wait for it; SIGKILL if it takes too long. May be called again."""
        self._end(self._end_signal)

    def kill(self) -> None:
        """SIGKILL to the server and its process group: the crash in a crash test. May be called again."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        self._dismiss_guard()
        if self._popen.poll() is None:
            self._popen.send_signal(number)
            try:
                self._popen.wait(READY_WITHIN_SECONDS)
            except subprocess.TimeoutExpired:
                self._popen.kill()
                self._popen.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)  # children the master left behind

    def _dismiss_guard(self) -> None:
        self._guard.kill()  # before its pipe closes, which would make it act
        self._guard.wait()
        assert self._guard.stdin is not None
        self._guard.stdin.close()
