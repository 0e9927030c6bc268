"""How a database is opened: SQLite or Postgres, one set of promises.

SQLite: WAL, `synchronous=FULL`, and BEGIN taken over from the driver (its implicit transactions would break BEGIN
IMMEDIATE and migrations). Exactly one connection checkpoints, the writer's of the gateway; every other one never does, because
SQLite before 3.51.3 can corrupt the log when two connections write and checkpoint at once.
Postgres: `synchronous_commit=on`, whatever the server's default is.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Connection, Engine, RootTransaction, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import NullPool, QueuePool

from store import sqlite_transaction
from store.errors import StoreError, StoreFull, StoreUnreachable
from store.place import Place, user_name
from store.sqlite_transaction import OwnTransaction
from store.url import parsed as read_url

if TYPE_CHECKING:
    import psycopg

BUSY_TIMEOUT_MS = 30_000  # another process may be committing a large message
CHECKPOINT_PAGES = 1_000  # 4 MiB of WAL: the longest of a thousand commits is a third shorter than with 4,000; 1-6 % of the rate
CACHED_STATEMENTS = 256  # appending has eighty (`statement.BLOCKS`); one not kept is prepared anew each time
KEPT_OPEN = 4  # connections
THREADS = 40  # that use a store at once, at most: asyncio has 32 of them, beside those with a connection of their own
# With Postgres, in seconds but for the last: a way to it that swallows everything without a word is noticed within a minute.
PATIENCE = {
    "connect_timeout": 10,
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 50_000,  # milliseconds
}
SILENT_SECONDS = 30.0  # in the middle of a write transaction: whoever says nothing for so long was stopped
DISK_FULL = "53100"  # SQLSTATE
NO_PRIVILEGE = "42501"  # SQLSTATE
READ_ONLY = "25006"  # SQLSTATE
NOT_SUPPORTED = "0A000"  # SQLSTATE
PRIMARY = 0xFF  # of SQLite's extended result codes
LOCK_NOT_AVAILABLE = "55P03"  # SQLSTATE: `lock_timeout` ran out
APPEND_LOCK = 0x6D61696C67617465  # "mailgate": the key of Postgres' advisory lock around appends


def open_store(url: str, *, checkpoints: bool = False, silent_seconds: float = SILENT_SECONDS) -> Engine:
    """Open the store at an SQLAlchemy URL.

    `checkpoints` is for the one process that runs the gateway. `silent_seconds` is how long another writer on Postgres may
    sit on the append lock without a word, until we end its session. Nothing is connected yet.
    """
    try:
        parsed = read_url(url)
    except ValueError:
        raise StoreError(
            "store.url is not a URL; name a store as in sqlite:///mailgate.db or postgresql://user@host/mailgate"
        ) from None
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(url, checkpoints)
    if parsed.get_backend_name() == "postgresql":
        return _postgres(parsed, silent_seconds)
    raise StoreError(
        f"store.url: {parsed.get_backend_name()} is not supported; use sqlite:// or postgresql://"
    )


def sqlite_file(engine: Engine) -> Path | None:
    """Return the file of a SQLite store, None for Postgres."""
    if engine.dialect.name != "sqlite" or not engine.url.database:
        return None
    return Path(engine.url.database)


@contextmanager
def reachable(engine: Engine) -> Iterator[None]:
    """Turn a database's refusal into StoreUnreachable, in one line and without the password."""
    try:
        yield
    except (
        DBAPIError,
        PoolTimeout,
        engine.dialect.loaded_dbapi.Error,
    ) as error:  # `statement` leaves the driver's as they are
        if trouble := unreachable(engine, error):
            raise trouble from error
        raise


def unreachable(engine: Engine, error: Exception) -> StoreUnreachable | None:
    """Return what to say of an error that is the database's own trouble (full, locked, gone), None for any other."""
    if isinstance(error, PoolTimeout):
        return StoreUnreachable("the store can't be used: all connections to it wait for an answer")
    driver = engine.dialect.loaded_dbapi
    origin = getattr(error, "orig", None) or error
    # InternalError is how Postgres and its driver call a session or a transaction that is spoilt.
    kinds = (driver.OperationalError, driver.InterfaceError, driver.InternalError)
    state, number = getattr(origin, "sqlstate", None), getattr(origin, "sqlite_errorcode", 0) & PRIMARY
    # sqlite3 says of a file that is no database, or a damaged one, just that much.
    known = state == NO_PRIVILEGE or _is_standby(origin, state)
    if not (known or isinstance(origin, kinds) or type(origin) is driver.DatabaseError):
        return None
    kind = StoreFull if number == sqlite3.SQLITE_FULL or state == DISK_FULL else StoreUnreachable
    return kind(f"the store can't be used: {first_line(error)}{_remedy(engine, origin, state, number)}")


def _is_standby(origin: BaseException, state: str | None) -> bool:
    """Whether a Postgres takes nothing because it follows another one: a failover went elsewhere, or isn't done yet."""
    return state == READ_ONLY or (state == NOT_SUPPORTED and "during recovery" in str(origin))


def _remedy(engine: Engine, origin: BaseException, state: str | None, number: int) -> str:
    """What to do about it, where there is more to say than the database says; begins with a colon."""
    if state == NO_PRIVILEGE:
        return ": GRANT it to the store's user, or make that the owner of the database"
    if _is_standby(origin, state):
        return ": is it a standby? store.url has to name the primary"
    text = _REMEDIES.get(number)
    return f": {text.format(file=sqlite_file(engine), user=user_name(os.geteuid()))}" if text else ""


_REMEDIES = {
    sqlite3.SQLITE_CANTOPEN: "{file}: its folder must be there, and {user} must be allowed to write to both",
    sqlite3.SQLITE_READONLY: "{user} must be allowed to write to {file} and its folder, where SQLite keeps its -wal",
    sqlite3.SQLITE_CORRUPT: "{file}: move it away, and restore a backup with 'mailgate db restore'",
    sqlite3.SQLITE_NOTADB: "{file}: is it the file that store.url should name?",
}


def undecodable(error: Exception) -> bool:
    """Whether SQLite holds something as text that is none."""
    origin = getattr(error, "orig", None) or error
    return isinstance(origin, sqlite3.OperationalError) and str(origin).startswith(
        "Could not decode to UTF-8"
    )


def first_line(error: Exception) -> str:
    """Return what the driver said, without the statement and its parameters."""
    origin = getattr(error, "orig", None) or error
    return str(origin).strip().splitlines()[0] if str(origin).strip() else type(origin).__name__


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Yield a connection in a write transaction that holds the append lock; commits, or rolls back on error."""
    with engine.connect() as connection:
        writer = connection.execution_options(**{sqlite_transaction.WRITE: True})
        with _locked(writer) if engine.dialect.name == "postgresql" else writer.begin():
            yield writer


def write_transaction(connection: Connection) -> AbstractContextManager[object]:
    """Return one write transaction on a connection that is kept for writing, under the append lock; as `writing` ends."""
    return _locked(connection) if connection.dialect.name == "postgresql" else OwnTransaction(connection)


def _locked(connection: Connection) -> RootTransaction:
    """Begin a transaction that holds the append lock.

    Nobody may sit on the lock who was stopped in the middle of a transaction. Who waits for it sees to that: the server's
    `idle_in_transaction_session_timeout` does not run behind a pipeline of psycopg, whose last word is a Flush.
    """
    silent_ms: int = connection.get_execution_options()["mailgate_silent_ms"]
    while True:
        transaction = connection.begin()
        try:
            # A statement of its own: the next one must see a snapshot taken after the lock.
            connection.exec_driver_sql(_LOCK.format(silent_ms=silent_ms))
        except DBAPIError as error:
            transaction.rollback()
            if getattr(error.orig, "sqlstate", None) != LOCK_NOT_AVAILABLE:
                raise
            with connection.begin():
                connection.exec_driver_sql(_END_THE_SILENT.format(silent_ms=silent_ms))
        else:
            return transaction


_LOCK = (
    "SELECT set_config('lock_timeout', '{silent_ms}', true),"
    f" pg_advisory_xact_lock({APPEND_LOCK}), set_config('lock_timeout', '0', true)"
)
_END_THE_SILENT = (
    "SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity USING (pid)"  # noqa: S608
    " WHERE locktype = 'advisory' AND granted AND objsubid = 1"
    f" AND classid = {APPEND_LOCK >> 32} AND objid = {APPEND_LOCK & 0xFFFFFFFF}"
    " AND datname = current_database() AND starts_with(state, 'idle in transaction')"
    " AND state_change < clock_timestamp() - make_interval(secs => {silent_ms} / 1000.0)"
)


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Yield a connection that sees one state of the store throughout."""
    options: dict[str, Any] = {sqlite_transaction.WRITE: False}
    if engine.dialect.name == "postgresql":
        options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    with engine.connect() as connection:
        reader = connection.execution_options(**options)
        with reader.begin():
            yield reader


def _postgres(url: URL, silent_seconds: float) -> Engine:
    patience = {name: value for name, value in PATIENCE.items() if name not in url.query}
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=KEPT_OPEN,
        max_overflow=THREADS - KEPT_OPEN,
        pool_pre_ping=True,
        execution_options={"mailgate_silent_ms": round(silent_seconds * 1000)},
        # Whatever the server's defaults are. Appending needs to see what was committed before it got the lock.
        # A reader may be as slow as the person who pages through what it prints.
        connect_args=patience
        | {
            "options": "-c synchronous_commit=on -c timezone=UTC -c idle_in_transaction_session_timeout=0"
            r" -c default_transaction_isolation=read\ committed",
        },
    )

    @event.listens_for(engine, "connect", insert=True)  # before SQLAlchemy asks what it couldn't read either
    def opened(connection: psycopg.Connection, _record: Any) -> None:
        encoding = connection.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            connection.close()
            raise StoreError(
                f"the database has encoding {encoding}, and mail needs UTF8: create it with encoding UTF8"
            )

    return engine


def _sqlite(url: str, checkpoints: bool) -> Engine:
    parsed = make_url(url)
    file = parsed.database
    if not file or ":memory:" in file or parsed.query.get("mode") == "memory":
        raise StoreError(
            "store.url: a store in memory would lose mail; name a file, as in sqlite:///mailgate.db"
        )
    pool: dict[str, Any] = {"poolclass": NullPool}
    if checkpoints:
        pool = {"poolclass": QueuePool, "pool_size": KEPT_OPEN, "max_overflow": THREADS - KEPT_OPEN}
    place = Place(file)
    engine = create_engine(
        url,
        connect_args={"cached_statements": CACHED_STATEMENTS},
        execution_options={sqlite_transaction.PLACE: place},
        **pool,
    )

    @event.listens_for(engine, "do_connect")
    def before(_dialect: Any, _record: Any, _args: Any, _parameters: Any) -> None:
        place.check()
        place.make()

    @event.listens_for(engine, "connect")
    def opened(connection: sqlite3.Connection, _record: Any) -> None:
        _prepare(connection, checkpoints=checkpoints)
        place.note()

    event.listen(engine, "begin", sqlite_transaction.begin)
    return engine


def _prepare(connection: sqlite3.Connection, *, checkpoints: bool) -> None:
    connection.isolation_level = None  # BEGIN is ours
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    # It acts on an empty file only; asked of any other it writes all the same, and waits for the writer.
    if cursor.execute("PRAGMA page_count").fetchone() == (0,):
        cursor.execute("PRAGMA auto_vacuum=INCREMENTAL")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES if checkpoints else 0}")
    cursor.execute("PRAGMA cache_size=-16384")
    cursor.close()
    # SQLite's own knows ASCII only; on Postgres a subject is found whatever its case.
    connection.create_function("lower", 1, _lower, deterministic=True)


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value
