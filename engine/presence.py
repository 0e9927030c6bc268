"""Who is alive: so that what a dead process held is taken over at once, and a living one's is left alone.

SQLite: a lock on a file beside the store, held by the one gateway that runs on it. Postgres: an advisory lock of the
session, so that it works from any machine. A restart of the server frees it though its holder lives, until that gives it anew:
so it proves an end only together with that of the process. What a process of another machine held runs out.

With it stands by which configuration a gateway runs: in that file, or as another such lock.
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import threading
import time
from contextlib import suppress
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import IO, Protocol

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from engine import clock
from store import agenda, followers
from store.database import sqlite_file, writing
from store.errors import StoreError
from store.place import beside, user_name

CLOCKS_APART_SECONDS = (
    15.0  # of two gateways that may be twice as much: less than a lease that is renewed has left
)
LOCK_SECONDS = 0.5  # somebody who asks whether a gateway runs holds the lock for an instant
GATEWAY_KEY = 0x6761746577617921  # Postgres: shared by every gateway on the store
CONFIGURATION_KEY = (
    0x636F6E66  # Postgres: with the fingerprint of a configuration, by every gateway that has it
)


class AlreadyRunning(StoreError):
    """Another gateway runs on this SQLite store."""


class LockTrouble(StoreError):
    """The file that says whether a gateway runs can't be used."""


class Presence(Protocol):
    """Our sign of life."""

    holder: str

    def take_over(self) -> int:
        """Free the leases of holders that are gone; returns how many."""
        ...

    def renew(self) -> None:
        """See that the sign of life still stands, and give it anew where the database lost it."""
        ...

    def leave(self) -> None:
        """Give up the sign of life, for good: what renews it meanwhile, or later, changes nothing."""
        ...


def arrive(engine: Engine, configuration: str = "") -> Presence:
    """Give a sign of life, with the fingerprint of our configuration. Raises AlreadyRunning where only one gateway may run."""
    file = sqlite_file(engine)
    if file is not None:
        return _OnSqlite(engine, file, configuration)
    return _OnPostgres(engine, configuration)


def gateway_runs(engine: Engine) -> bool:
    """Whether a gateway runs on this store now."""
    file = sqlite_file(engine)
    if file is not None:
        return _said_in(file) is not None
    with engine.connect() as connection:
        return bool(connection.exec_driver_sql(_GATEWAY_RUNS).scalar())


def configurations(engine: Engine) -> tuple[str, ...]:
    """Return the fingerprints of the configurations of the gateways that run, of each that says so."""
    file = sqlite_file(engine)
    if file is not None:
        return tuple((_said_in(file) or "").splitlines()[1:])
    with engine.connect() as connection:
        return tuple(f"{int(key):08x}" for key in connection.exec_driver_sql(_CONFIGURATIONS).scalars())


def _said_in(file: Path) -> str | None:
    """Return what whoever runs on a SQLite store has put into its lock, None where nobody does. Raises LockTrouble."""
    where = lock_file(file)
    try:
        with where.open(encoding="utf-8") as lock:
            return None if _locked(lock, fcntl.LOCK_SH) else lock.read()
    except FileNotFoundError:
        return None  # nor is it made by asking for it
    except OSError as error:
        raise _trouble(where, error) from error


# Seen, not tried: who tried the lock would look like a gateway to somebody else who asks at the same moment.
_HERE = (
    "FROM pg_locks WHERE locktype = 'advisory' AND granted"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
_GATEWAY_RUNS = (
    f"SELECT EXISTS (SELECT {_HERE} AND objsubid = 1"
    f" AND classid = {GATEWAY_KEY >> 32} AND objid = {GATEWAY_KEY & 0xFFFFFFFF})"
)
_CONFIGURATIONS = f"SELECT objid {_HERE} AND objsubid = 2 AND classid = {CONFIGURATION_KEY}"


def clocks_apart(engine: Engine) -> str | None:
    """Say so where our clock and the database's are apart by more than leases allow for; SQLite has no other than ours."""
    if sqlite_file(engine) is not None:
        return None
    with engine.connect() as connection:
        there: datetime = connection.exec_driver_sql("SELECT clock_timestamp()").scalar_one()
    ahead = (clock.now() - there).total_seconds()
    if abs(ahead) <= CLOCKS_APART_SECONDS:
        return None
    return (
        f"the clock here is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the database's: set it (NTP), for"
        " gateways that disagree about the time take each other's messages and deliver them twice"
    )


def _holder() -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{os.urandom(4).hex()}"


def _ended(holder: str) -> bool:
    """Whether somebody was a process of this machine, and is no more."""
    host, _, rest = holder.partition(":")
    pid = rest.partition(":")[0]
    if host != socket.gethostname() or not pid.isdecimal():
        return False
    if int(pid) == os.getpid():
        return True  # the life before, in a container: there each has the same number
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False


def lock_file(file: Path) -> Path:
    """Return the lock of a store, whatever name it is opened by."""
    real = file.resolve()
    return real.with_name(real.name + ".lock")


def _opened(where: Path, store: Path) -> IO[str]:
    try:
        return os.fdopen(beside(store, where.name), "r+", encoding="utf-8")
    except OSError as error:
        raise _trouble(where, error) from error


def _trouble(where: Path, error: OSError) -> LockTrouble:
    """Say whose file it is that can't be opened, and what to do."""
    try:
        found = where.lstat()
    except OSError:
        return LockTrouble(f"{where} can't be opened: {error.strerror}")
    if not stat.S_ISREG(found.st_mode):
        return LockTrouble(f"{where} is no file of a gateway: remove it")
    whose = f"{where} belongs to {user_name(found.st_uid)}, and {user_name(os.geteuid())} may not open it"
    return LockTrouble(f"{whose}: give it to the store's owner with chown, or act as that user")


def _locked(lock: IO[str], kind: int) -> bool:
    """Try a lock; closing the file gives it back."""
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


class _OnSqlite:
    def __init__(self, engine: Engine, file: Path, configuration: str) -> None:
        self.holder = _holder()
        self._engine = engine
        self._lock = _opened(lock_file(file), file.resolve())
        until = time.monotonic() + LOCK_SECONDS
        while not _locked(self._lock, fcntl.LOCK_EX):
            if time.monotonic() > until:
                self._lock.seek(0)
                who = self._lock.readline().strip() or "another process"
                self._lock.close()
                raise AlreadyRunning(f"{who} runs on this store already: stop it first")
            time.sleep(LOCK_SECONDS / 10)
        self._lock.seek(0)
        self._lock.truncate()
        self._lock.write(f"mailgate, process {os.getpid()},\n{configuration}")
        self._lock.flush()

    def take_over(self) -> int:
        with writing(self._engine) as connection:
            # We hold the lock, so every other holder is gone.
            others = _holders(connection) - {self.holder}
            return sum(_take_from(connection, holder) for holder in others)

    def renew(self) -> None:
        pass  # the lock is ours as long as we live

    def leave(self) -> None:
        self._lock.close()


class _OnPostgres:
    def __init__(self, engine: Engine, configuration: str) -> None:
        self.holder = _holder()
        self._engine = engine
        self._configuration = configuration
        self._session = self._sign()
        self._one = threading.Lock()  # a renewal may still be under way in its thread when we leave
        self._left = False

    def _sign(self) -> Connection:
        session = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        session.exec_driver_sql(f"SELECT pg_advisory_lock({_key(self.holder)})")
        session.exec_driver_sql(f"SELECT pg_advisory_lock_shared({GATEWAY_KEY})")
        if self._configuration:
            signed = int.from_bytes(bytes.fromhex(self._configuration), "big", signed=True)
            session.exec_driver_sql(f"SELECT pg_advisory_lock_shared({CONFIGURATION_KEY}, {signed})")
        return session

    def renew(self) -> None:
        with self._one:
            if self._left:
                return
            try:
                self._session.exec_driver_sql("SELECT 1")
            except SQLAlchemyError:  # the server was restarted, and the locks went with the session
                _end(self._session)
                self._session = self._sign()

    def take_over(self) -> int:
        with writing(self._engine) as connection:
            others = _holders(connection) - {self.holder}
            gone = [holder for holder in others if _ended(holder) and _free(connection, _key(holder))]
            return sum(_take_from(connection, holder) for holder in gone)

    def leave(self) -> None:
        with self._one:
            self._left = True
            with suppress(SQLAlchemyError):  # gone already, and its locks with it
                self._session.exec_driver_sql("SELECT pg_advisory_unlock_all()")
            _end(self._session)


def _holders(connection: Connection) -> set[str]:
    return {*agenda.holders(connection), *followers.holders(connection)}


def _take_from(connection: Connection, holder: str) -> int:
    """Free what somebody held who is gone; returns how many messages."""
    followers.take_from(connection, holder)
    return agenda.take_from(connection, holder)


def _end(session: Connection) -> None:
    """End a session and with it its locks; one that broke may have ended already."""
    with suppress(SQLAlchemyError):
        session.invalidate()
        session.close()


def _free(connection: Connection, key: int) -> bool:
    """Try a lock; the transaction's end gives it back."""
    return bool(connection.exec_driver_sql(f"SELECT pg_try_advisory_xact_lock({key})").scalar())


def _key(holder: str) -> int:
    return int.from_bytes(sha256(holder.encode()).digest()[:8], "big", signed=True)
