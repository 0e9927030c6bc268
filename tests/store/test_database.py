"""A store is opened with its promises in force, and a database's refusal is one line for a person."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, func, insert, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

import migrations
from store import log
from store.database import (
    CHECKPOINT_PAGES,
    open_store,
    reachable,
    reading,
    sqlite_file,
    unreachable,
    write_transaction,
    writing,
)
from store.errors import StoreError, StoreUnreachable
from store.log import Unit
from store.read_tables import messages
from store.schema import contents, events
from store.sqlite_transaction import FRESH_SECONDS
from store.statement import Lookup
from tests.real.postgres import Postgres
from tests.store.build import append, opening, rows

Open = Callable[..., Engine]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def opened() -> Iterator[Open]:
    """Opens stores that are closed at the end."""
    engines: list[Engine] = []

    def open_it(url: str, **options: Any) -> Engine:
        engines.append(open_store(url, **options))
        return engines[-1]

    yield open_it
    for engine in engines:
        engine.dispose()


def url_of(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=False)


def file_of(engine: Engine) -> Path:
    file = sqlite_file(engine)
    assert file is not None
    return file


# -- SQLite


@pytest.mark.parametrize(("checkpoints", "pages"), [(False, 0), (True, CHECKPOINT_PAGES)])
def test_sqlite_keeps_what_it_was_given(
    checkpoints: bool, pages: int, sqlite_store: Engine, opened: Open
) -> None:
    store = opened(url_of(sqlite_store), checkpoints=checkpoints)
    wanted = {
        "journal_mode": "wal",
        "synchronous": 2,  # FULL
        "wal_autocheckpoint": pages,
        "auto_vacuum": 2,  # INCREMENTAL
        "busy_timeout": 30_000,
    }
    for _ in range(2):  # each connection anew
        with reading(store) as connection:
            found = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in wanted}
        assert found == wanted
        store.dispose()


def test_who_does_not_run_the_gateway_never_checkpoints(sqlite_store: Engine) -> None:
    file = file_of(sqlite_store)
    watching = sqlite3.connect(file)  # whoever closes the last connection checkpoints
    try:
        assert watching.execute("SELECT count(*) FROM events").fetchone() == (0,)
        before = file.stat().st_size, file.read_bytes()
        append(sqlite_store, opening(octets=b"x" * (CHECKPOINT_PAGES + 500) * 4096))
        assert (file.stat().st_size, file.read_bytes()) == before
    finally:
        watching.close()


def test_a_sqlite_writer_takes_its_turn_before_it_reads(sqlite_store: Engine) -> None:
    """A transaction that turns from reading to writing fails at once if another has written meanwhile."""
    other = sqlite3.connect(file_of(sqlite_store), timeout=0, isolation_level=None)
    try:
        with writing(sqlite_store), pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        with reading(sqlite_store) as connection:
            connection.execute(text("SELECT count(*) FROM events"))
            other.execute("BEGIN IMMEDIATE")
            other.execute("ROLLBACK")
    finally:
        other.close()


def test_readers_come_and_go_while_somebody_writes(store: Engine, opened: Open) -> None:
    other = opened(url_of(store))
    append(store, opening("m1"))
    with writing(store) as writer:
        log.append(writer, [Unit((opening("m2"),))])
        with reachable(other), reading(other) as connection:
            assert log.last_position(connection) == 1
    with reading(other) as connection:
        assert log.last_position(connection) == 2


def test_a_reader_sees_one_state_throughout_and_writes_nothing(store: Engine) -> None:
    append(store, opening("m1"))
    with reading(store) as connection:
        assert log.last_position(connection) == 1
        append(store, opening("m2"))
        assert log.last_position(connection) == 1
        assert [one.stream for one in log.walk(connection)] == ["m1"]
    with reading(store) as connection:
        assert log.last_position(connection) == 2


def test_an_error_in_a_write_transaction_undoes_it(store: Engine) -> None:
    def fail() -> None:
        with writing(store) as connection:
            log.append(connection, [Unit((opening(),))])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert rows(store, events) == []
    append(store, opening())


def test_what_sqlalchemy_is_asked_within_a_writer_s_transaction_is_part_of_it(store: Engine) -> None:
    def fail() -> None:
        with write_transaction(connection):
            connection.execute(insert(contents), {"position": 1, "octets": b"one"})
            assert connection.scalar(select(func.count()).select_from(contents)) == 1
            raise ZeroDivisionError

    with store.connect() as connection:
        with pytest.raises(ZeroDivisionError):
            fail()
        assert rows(store, contents) == []
        with write_transaction(connection):
            connection.execute(insert(contents), {"position": 2, "octets": b"two"})
        assert [row["position"] for row in rows(store, contents)] == [2]


def test_a_commit_that_fails_leaves_no_transaction_open(sqlite_store: Engine) -> None:
    def write() -> None:
        with write_transaction(connection):
            log.append(connection, [Unit((opening(),))])

    with sqlite_store.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE parents (id INTEGER PRIMARY KEY)")
        connection.exec_driver_sql(
            "CREATE TABLE children (parent INTEGER REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED)"
        )
        connection.commit()
        driver: Any = connection.connection.driver_connection
        driver.execute("PRAGMA foreign_keys=ON")
        with pytest.raises(sqlite3.IntegrityError), write_transaction(connection):
            connection.exec_driver_sql("INSERT INTO children VALUES (1)")
        write()
    assert len(rows(sqlite_store, events)) == 1


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mode & 0o777 for file in folder.iterdir()}


@pytest.mark.usefixtures("open_umask")
def test_a_new_store_is_for_its_owner_alone(tmp_path: Path, opened: Open) -> None:
    migrations.upgrade(store := opened(f"sqlite:///{tmp_path}/new.db", checkpoints=True))
    with reading(store):
        assert modes(tmp_path) == dict.fromkeys(("new.db", "new.db-wal", "new.db-shm"), 0o600)


@pytest.mark.usefixtures("open_umask")
def test_a_store_that_is_there_keeps_its_mode(tmp_path: Path, opened: Open) -> None:
    (tmp_path / "there.db").touch()
    (tmp_path / "there.db").chmod(0o640)
    migrations.upgrade(store := opened(f"sqlite:///{tmp_path}/there.db", checkpoints=True))
    with reading(store):
        assert modes(tmp_path) == dict.fromkeys(("there.db", "there.db-wal", "there.db-shm"), 0o640)


def test_a_store_that_root_makes_is_its_folder_s_owner_s(
    tmp_path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "fchown", lambda number, user, group: given.append((user, group)))
    (tmp_path / "link.db").symlink_to(tmp_path / "real" / "new.db")
    (tmp_path / "real").mkdir()
    migrations.upgrade(opened(f"sqlite:///{tmp_path}/link.db"))
    folder = (tmp_path / "real").stat()
    assert given[0] == (folder.st_uid, folder.st_gid)
    assert modes(tmp_path / "real")["new.db"] == 0o600


def test_lower_case_is_not_for_ascii_only(store: Engine) -> None:
    with reading(store) as connection:
        assert connection.scalar(text("SELECT lower('ÜBER Größe ABC')")) == "über größe abc"
        assert connection.scalar(text("SELECT lower(NULL)")) is None


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file::memory:?uri=true",
        "sqlite:///file:x?mode=memory&uri=true",
        "sqlite+pysqlite:///:memory:",
    ],
)
def test_a_store_in_memory_is_refused(url: str) -> None:
    with pytest.raises(StoreError, match="store in memory would lose mail; name a file"):
        open_store(url)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://anna:geheim@host/mail", "mysql is not supported; use sqlite:// or postgresql://"),
        ("postgresql://anna:geheim/mail", "store.url is not a URL"),
        ("/var/lib/mailgate.db", "store.url is not a URL"),
        ("", "store.url is not a URL"),
        ("postgresql://anna:geheim@[::1/mail", "store.url is not a URL"),
        ("postgresql://host:geheim/mail", "store.url is not a URL"),
    ],
)
def test_what_is_no_store_is_refused_by_name(url: str, said: str) -> None:
    with pytest.raises(StoreError, match=said) as refused:
        open_store(url)
    assert "geheim" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_file_of_a_store_is_known_for_sqlite_only(opened: Open, tmp_path: Path) -> None:
    assert sqlite_file(opened(f"sqlite:///{tmp_path}/x.db")) == tmp_path / "x.db"
    assert sqlite_file(opened("postgresql+psycopg://anna@127.0.0.1/mail")) is None


# -- Postgres


def test_postgres_commits_to_disk_whatever_the_server_does_by_default(postgres_store: Engine) -> None:
    defaults = {
        "synchronous_commit": "off",
        "timezone": "'Asia/Tokyo'",
        "default_transaction_isolation": "serializable",
    }
    with postgres_store.begin() as connection:
        for name, value in defaults.items():
            connection.execute(text(f"ALTER DATABASE {postgres_store.url.database} SET {name} = {value}"))
    postgres_store.dispose()
    with writing(postgres_store) as connection:
        found = [connection.scalar(text(f"SHOW {name}")) for name in (*defaults, "transaction_isolation")]
    assert found == ["on", "UTC", "read committed", "read committed"]


def test_a_way_to_postgres_that_died_without_a_word_is_noticed_unless_the_url_says_otherwise(
    postgres_store: Engine, opened: Open
) -> None:
    mine = postgres_store.url.update_query_dict({"keepalives_idle": "300", "tcp_user_timeout": "0"})
    chosen = opened(mine.render_as_string(hide_password=False))
    found = []
    for engine in (postgres_store, chosen):
        with engine.connect() as connection:
            driver: Any = connection.connection.driver_connection
            given = driver.info.get_parameters()
        found.append([given.get(f"keepalives_{name}") for name in ("idle", "interval", "count")])
        found[-1].append(given.get("tcp_user_timeout"))
    assert found == [["20", "10", "3", "50000"], ["300", "10", "3", "0"]]


def test_there_is_a_connection_for_each_thread(store: Engine, opened: Open) -> None:
    """Where the database answers nobody, all of them wait at once."""
    engine = opened(url_of(store), checkpoints=True)
    with ExitStack() as stack:
        for _ in range(33):  # those of asyncio, and the journal's
            stack.enter_context(engine.connect())


def test_a_standby_takes_nothing_and_says_what_to_do(
    start_postgres: Callable[[], Postgres], opened: Open
) -> None:
    server = start_postgres()
    engine = opened(server.create_database())
    migrations.upgrade(engine)
    engine.dispose()
    (server.folder / "data" / "standby.signal").touch()
    server.restart()
    for use in (reading, writing):
        with (
            pytest.raises(StoreUnreachable, match="is it a standby") as told,
            reachable(engine),
            use(engine) as connection,
        ):
            connection.execute(text("DELETE FROM agenda"))
        assert "\n" not in str(told.value)


def test_a_postgres_reader_may_take_its_time(postgres_store: Engine) -> None:
    name = "idle_in_transaction_session_timeout"
    with postgres_store.begin() as connection:
        connection.execute(text(f"ALTER DATABASE {postgres_store.url.database} SET {name} = 77"))
    postgres_store.dispose()
    with reading(postgres_store) as connection:
        assert connection.scalar(text(f"SHOW {name}")) == "0"


STOPPED = """
import os, signal, sys
from store import log
from store.database import open_store, reachable, writing
from store.errors import StoreUnreachable
from store.log import Unit
from tests.store.build import append, opening

engine = open_store(sys.argv[1])
try:
    with reachable(engine), writing(engine) as connection:
        if sys.argv[2] == "amid an append":
            log.append(connection, [Unit((opening("m2"),))])
        os.kill(os.getpid(), signal.SIGSTOP)
except StoreUnreachable as error:
    print(error, flush=True)
append(engine, opening("m2"))
"""


@pytest.mark.parametrize("where", ["before an append", "amid an append"])
def test_a_writer_that_was_stopped_holds_up_nobody_and_goes_on_when_it_is_woken(
    postgres_store: Engine, opened: Open, where: str
) -> None:
    store = opened(url_of(postgres_store), silent_seconds=0.2)
    command = [sys.executable, "-c", STOPPED, url_of(postgres_store), where]
    with (
        ThreadPoolExecutor() as pool,
        subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE) as stopped,
    ):
        try:
            _, status = os.waitpid(stopped.pid, os.WUNTRACED)
            assert os.WIFSTOPPED(status)
            pool.submit(append, store, opening("m1")).result(30)  # it waits for the lock first
            stopped.send_signal(signal.SIGCONT)
            said, _ = stopped.communicate(timeout=60)
        finally:
            stopped.kill()
    assert stopped.returncode == 0
    assert said == "the store can't be used: terminating connection due to administrator command\n"
    assert {row["id"] for row in rows(store, messages)} == {"m1", "m2"}


def test_a_writer_that_works_is_waited_for_however_long(postgres_store: Engine, opened: Open) -> None:
    store = opened(url_of(postgres_store), silent_seconds=1)
    with writing(postgres_store) as connection, ThreadPoolExecutor() as pool:
        waiting = pool.submit(append, store, opening("m1"))
        connection.exec_driver_sql("SELECT pg_sleep(1.5)")
        log.append(connection, [Unit((opening("m2"),))])
        connection.commit()
        waiting.result(60)
    assert {row["id"] for row in rows(store, messages)} == {"m1", "m2"}


def test_a_postgres_reader_is_read_only_and_its_connection_is_not_spoilt(postgres_store: Engine) -> None:
    with reading(postgres_store) as connection, pytest.raises(DBAPIError, match="read-only transaction"):
        connection.execute(text("DELETE FROM contents"))
    append(postgres_store, opening())


# -- what goes wrong


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql+psycopg://anna:geheim@127.0.0.1:1/mail", "127.0.0.1.* port 1 .*refused"),
        ("postgresql://anna:geheim@nowhere.invalid:1/mail", "nowhere.invalid"),
        (
            "sqlite:////nowhere/at/all/mailgate.db",
            "unable to open database file: /nowhere/at/all/mailgate.db: its folder must be there",
        ),
    ],
)
def test_a_store_that_can_not_be_reached_says_so_in_one_line(url: str, said: str, opened: Open) -> None:
    store = opened(url)
    with pytest.raises(StoreUnreachable, match=said) as told, reachable(store), reading(store):
        pass
    assert str(told.value).startswith("the store can't be used: ")
    assert "\n" not in str(told.value)
    assert "geheim" not in str(told.value)
    assert "sqlalche.me" not in str(told.value)


@pytest.mark.parametrize("octets", [b"Dear database, ..." * 99, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_file_that_is_no_database_says_so_in_one_line(octets: bytes, tmp_path: Path, opened: Open) -> None:
    (tmp_path / "letter.db").write_bytes(octets)
    store = opened(f"sqlite:///{tmp_path}/letter.db")
    with (
        pytest.raises(StoreUnreachable, match=r"file is not a database|malformed"),
        reachable(store),
        writing(store),
    ):
        pass
    assert (tmp_path / "letter.db").read_bytes() == octets


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (
            sqlite3.SQLITE_READONLY_DBMOVED,
            " must be allowed to write to {file} and its folder, where SQLite keeps",
        ),
        (sqlite3.SQLITE_CORRUPT, ": {file}: move it away, and restore a backup with 'mailgate db restore'"),
        (sqlite3.SQLITE_NOTADB, ": {file}: is it the file that store.url should name"),
    ],
)
def test_what_sqlite_says_comes_with_the_file_and_what_to_do(
    number: int, said: str, tmp_path: Path, opened: Open
) -> None:
    error = sqlite3.DatabaseError("as SQLite says it")
    error.sqlite_errorcode = number
    told = str(unreachable(opened(f"sqlite:///{tmp_path}/x.db"), error))
    assert told.startswith("the store can't be used: as SQLite says it: ")
    assert said.format(file=tmp_path / "x.db") in told


def test_nothing_is_written_to_a_file_that_was_moved_or_replaced(
    sqlite_store: Engine, tmp_path: Path
) -> None:
    file = Path(file_of(sqlite_store))
    other = tmp_path / "other.db"
    other.write_bytes(file.read_bytes())
    with sqlite_store.connect() as connection:  # as the writer keeps one

        def refused() -> None:
            time.sleep(FRESH_SECONDS)
            for begin in (lambda: write_transaction(connection), lambda: reading(sqlite_store)):
                with (
                    pytest.raises(StoreUnreachable, match="was moved, or another file is in its place"),
                    reachable(sqlite_store),
                    begin(),
                ):
                    pass

        with write_transaction(connection):
            pass
        aside = file.rename(file.with_name("aside.db"))
        refused()
        assert not file.exists()
        other.rename(file)
        refused()
        aside.rename(file)
        time.sleep(FRESH_SECONDS)
        with write_transaction(connection), reading(sqlite_store):
            pass


def test_a_sqlite_store_locked_by_another_says_so(sqlite_store: Engine) -> None:
    def write_at_once() -> None:
        with reachable(sqlite_store), sqlite_store.connect() as connection:
            reader = connection.execution_options(mailgate_write=False)
            reader.exec_driver_sql("PRAGMA busy_timeout=0")
            reader.exec_driver_sql("DELETE FROM contents")

    other = sqlite3.connect(file_of(sqlite_store), isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnreachable, match="database is locked"):
            write_at_once()
    finally:
        other.close()


def test_a_postgres_that_ends_our_session_says_so(postgres_store: Engine) -> None:
    with (
        pytest.raises(StoreUnreachable) as told,
        reachable(postgres_store),
        postgres_store.connect() as connection,
    ):
        connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    assert "\n" not in str(told.value)


def test_a_postgres_that_ends_our_session_amid_an_append_says_so(postgres_store: Engine) -> None:
    """There the driver is spoken to directly."""

    def end_and_append() -> None:
        with reachable(postgres_store), writing(postgres_store) as connection:
            victim = connection.scalar(text("SELECT pg_backend_pid()"))
            with postgres_store.connect() as other:
                other.execute(text(f"SELECT pg_terminate_backend({victim}, 10000)"))
            log.append(connection, [Unit((opening(),))])

    with pytest.raises(StoreUnreachable):
        end_and_append()
    append(postgres_store, opening())


def test_an_error_of_the_program_is_not_the_database_being_away(store: Engine) -> None:
    append(store, opening())
    with pytest.raises(IntegrityError), reachable(store), writing(store) as connection:
        connection.execute(
            text("INSERT INTO contents (position, octets) SELECT position, octets FROM contents")
        )


def test_errors_are_told_apart_as_the_driver_gives_them(sqlite_store: Engine, opened: Open) -> None:
    away = opened("postgresql+psycopg://anna@127.0.0.1:1/mail")
    assert unreachable(sqlite_store, sqlite3.OperationalError("disk I/O error\nmore")).args == (
        "the store can't be used: disk I/O error",
    )
    assert unreachable(away, psycopg.OperationalError("server closed\nthe connection")).args == (
        "the store can't be used: server closed",
    )
    assert unreachable(away, psycopg.OperationalError()) is not None
    assert unreachable(away, psycopg.errors.IdleInTransactionSessionTimeout("stopped")) is not None
    waited = unreachable(away, PoolTimeout("QueuePool limit of size 4"))
    assert str(waited) == "the store can't be used: all connections to it wait for an answer"
    with pytest.raises(StoreUnreachable), reachable(away):
        raise PoolTimeout("QueuePool limit of size 4")
    for error in (sqlite3.IntegrityError("x"), sqlite3.ProgrammingError("x"), ValueError("x")):
        assert unreachable(sqlite_store, error) is None
    wrapped = OperationalError("SELECT geheim", {}, sqlite3.OperationalError("disk full"))
    assert str(unreachable(sqlite_store, wrapped)) == "the store can't be used: disk full"


def test_a_driver_s_own_error_is_told_too(sqlite_store: Engine) -> None:
    broken = Lookup(sqlite="SELECT raise_it(:wanted)", postgres="")
    with (
        pytest.raises(StoreUnreachable, match="no such function"),
        reachable(sqlite_store),
        reading(sqlite_store) as connection,
    ):
        broken.rows(connection, [1])
