"""Who is alive: what a dead process held is taken over, a living one's is left alone."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import pytest
from sqlalchemy import Engine

from engine import clock, presence
from engine.presence import (
    GATEWAY_KEY,
    AlreadyRunning,
    LockTrouble,
    Presence,
    arrive,
    clocks_apart,
    configurations,
    gateway_runs,
)
from store import agenda
from store.agenda import Claim
from store.database import open_store, reading, sqlite_file, writing
from tests import schema

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROOT = Path(__file__).parents[2]
LIVING = """
import sys
from engine.presence import arrive
from store.database import open_store
present = arrive(open_store(sys.argv[1]))
print(present.holder, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    schema.make(database_url)
    opened = open_store(database_url, checkpoints=True)
    yield opened
    opened.dispose()


@pytest.fixture
def sqlite(sqlite_url: str) -> Iterator[Engine]:
    schema.make(sqlite_url)
    opened = open_store(sqlite_url, checkpoints=True)
    yield opened
    opened.dispose()


@pytest.fixture
def postgres_store(postgres_url: str) -> Iterator[Engine]:
    schema.make(postgres_url)
    opened = open_store(postgres_url)
    yield opened
    opened.dispose()


def hold(engine: Engine, holder: str, *names: str) -> None:
    """Somebody claims streams."""
    with writing(engine) as connection:
        for name in names:
            claim = Claim(holder, NOON + agenda.LEASE_TERM)
            assert agenda.claim_stream(connection, name, agenda.FRESH, claim, NOON) is not None


def holders(engine: Engine) -> list[str]:
    with reading(engine) as connection:
        return sorted(agenda.holders(connection))


def dead() -> str:
    """The name of a holder that was a process of this machine."""
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    return f"{socket.gethostname()}:{child.pid}:dead"


def process(engine: Engine) -> tuple[subprocess.Popen[str], str]:
    """Another process that gave its sign of life, and its name as a holder."""
    url = engine.url.render_as_string(hide_password=False)
    child = subprocess.Popen(
        [sys.executable, "-c", LIVING, url],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    return child, child.stdout.readline().strip()


def end(child: subprocess.Popen[str]) -> None:
    child.kill()
    child.communicate()


def test_a_gateway_that_arrived_runs_until_it_leaves(engine: Engine) -> None:
    assert not gateway_runs(engine)
    present = arrive(engine)
    assert gateway_runs(engine)
    present.leave()
    assert not gateway_runs(engine)


@pytest.mark.parametrize("configuration", ["0badcafe", "f00dcafe", "00000000"])
def test_with_what_a_gateway_was_started_is_told_while_it_runs(configuration: str, engine: Engine) -> None:
    assert configurations(engine) == ()
    present = arrive(engine, configuration)
    assert configurations(engine) == (configuration,)
    present.leave()
    assert configurations(engine) == ()


def test_who_runs_without_a_configuration_tells_none(engine: Engine) -> None:
    present = arrive(engine)
    assert gateway_runs(engine)
    assert configurations(engine) == ()
    present.leave()


def test_each_of_several_gateways_tells_what_it_was_started_with(postgres_store: Engine) -> None:
    present = [arrive(postgres_store, one) for one in ("0badcafe", "0badcafe", "f00dcafe")]
    assert sorted(configurations(postgres_store)) == ["0badcafe", "0badcafe", "f00dcafe"]
    with (
        postgres_store.connect() as connection
    ):  # the server was restarted, and the locks went with the sessions
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2"
        ).all()
    for one in present:
        one.renew()
    assert sorted(configurations(postgres_store)) == ["0badcafe", "0badcafe", "f00dcafe"]
    for one in present:
        one.leave()
    assert configurations(postgres_store) == ()


def test_asking_whether_a_gateway_runs_neither_stops_one_nor_makes_one(engine: Engine) -> None:
    present = arrive(engine)
    assert [gateway_runs(engine) for _ in range(3)] == [True] * 3
    present.leave()
    assert [gateway_runs(engine) for _ in range(3)] == [False] * 3
    arrive(engine).leave()


def test_each_life_has_a_name_of_its_own(engine: Engine) -> None:
    first = arrive(engine)
    first.leave()
    second = arrive(engine)
    assert first.holder != second.holder
    second.leave()


def test_what_the_dead_held_is_taken_over_and_what_we_hold_stays(engine: Engine) -> None:
    hold(engine, dead(), "one", "two")
    present = arrive(engine)
    hold(engine, present.holder, "three")
    assert present.take_over() == 2
    assert holders(engine) == [present.holder]
    assert present.take_over() == 0
    present.leave()


def test_a_process_that_is_killed_leaves_at_once(engine: Engine) -> None:
    child, holder = process(engine)
    try:
        hold(engine, holder, "one")
        assert gateway_runs(engine)
    finally:
        end(child)
    present = after(engine)
    try:
        assert present.take_over() == 1
    finally:
        present.leave()


def after(engine: Engine) -> Presence:
    """A gateway that starts when the server has noticed the end of the one before."""
    if engine.dialect.name == "postgresql":
        with engine.connect() as connection:
            # Waits in the server until the dead one's session is gone.
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({GATEWAY_KEY})")
    return arrive(engine)


def test_on_sqlite_a_second_gateway_is_refused_and_told_which_one_runs(sqlite: Engine) -> None:
    child, _ = process(sqlite)
    try:
        with pytest.raises(
            AlreadyRunning, match=rf"process {child.pid}.* runs on this store already: stop it"
        ):
            arrive(sqlite)
        assert gateway_runs(sqlite)
    finally:
        end(child)
    arrive(sqlite).leave()


def test_on_sqlite_the_lock_of_one_store_says_nothing_of_another(sqlite: Engine, tmp_path: Path) -> None:
    other = open_store(f"sqlite:///{tmp_path / 'other.db'}")
    present = arrive(sqlite)
    assert not gateway_runs(other)
    arrive(other).leave()
    present.leave()
    other.dispose()


def test_on_sqlite_the_lock_is_that_of_the_file_whatever_it_is_called(sqlite: Engine, tmp_path: Path) -> None:
    link = tmp_path / "elsewhere.db"
    link.symlink_to(str(sqlite.url.database))
    other = open_store(f"sqlite:///{link}")
    present = arrive(sqlite)
    with pytest.raises(AlreadyRunning):
        arrive(other)
    assert gateway_runs(other)
    present.leave()
    arrive(other).leave()
    other.dispose()


def lock_of(engine: Engine) -> Path:
    file = sqlite_file(engine)
    assert file is not None
    return file.with_name(f"{file.name}.lock")


def test_on_sqlite_the_lock_is_as_readable_as_the_store_and_its_owner_s(
    sqlite: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "fchown", lambda number, user, group: given.append((user, group)))
    store = lock_of(sqlite).with_suffix("")
    store.chmod(0o640)
    before = os.umask(0o077)
    try:
        arrive(sqlite).leave()
    finally:
        os.umask(before)
    assert lock_of(sqlite).stat().st_mode & 0o777 == 0o640
    assert given == [(store.stat().st_uid, store.stat().st_gid)]


def test_on_sqlite_a_link_in_place_of_the_lock_is_not_followed(sqlite: Engine, tmp_path: Path) -> None:
    (tmp_path / "shadow").write_text("root:x")
    lock_of(sqlite).symlink_to(tmp_path / "shadow")
    with pytest.raises(LockTrouble, match=r"mailgate\.db\.lock is no file of a gateway: remove it"):
        arrive(sqlite)
    assert (tmp_path / "shadow").read_text() == "root:x"


@pytest.mark.parametrize("asked", [arrive, gateway_runs])
def test_on_sqlite_a_lock_of_somebody_else_is_named_with_its_owner(
    sqlite: Engine, asked: Callable[[Engine], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    arrive(sqlite).leave()
    owner = lock_of(sqlite).owner()

    def refuse(*_: object, **__: object) -> NoReturn:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(presence, "beside", refuse)
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(
        LockTrouble, match=rf"mailgate\.db\.lock belongs to user {owner}, and user .* with chown, or act as"
    ):
        asked(sqlite)


def test_on_sqlite_asking_makes_no_lock(sqlite: Engine) -> None:
    assert not gateway_runs(sqlite)
    assert not lock_of(sqlite).exists()


def test_on_postgres_several_gateways_run_and_respect_each_other(postgres_store: Engine) -> None:
    first, second = arrive(postgres_store), arrive(postgres_store)
    hold(postgres_store, first.holder, "one")
    hold(postgres_store, second.holder, "two")
    hold(postgres_store, dead(), "three")
    assert first.take_over() == 1
    assert holders(postgres_store) == sorted([first.holder, second.holder])
    first.leave()
    assert gateway_runs(postgres_store)
    assert second.take_over() == 1
    assert holders(postgres_store) == [second.holder]
    second.leave()
    assert not gateway_runs(postgres_store)


def test_after_a_restart_of_the_server_the_living_keep_what_they_hold(postgres_store: Engine) -> None:
    child, holder = process(postgres_store)
    try:
        hold(postgres_store, holder, "one")
        hold(postgres_store, "another.example:1:there", "two")
        with postgres_store.connect() as connection:  # its session ends, and the lock goes with it
            connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
        present = arrive(postgres_store)
        assert present.take_over() == 0
    finally:
        end(child)
    assert present.take_over() == 1
    assert holders(postgres_store) == ["another.example:1:there"]
    present.leave()


def test_what_the_life_before_held_in_a_container_is_taken_over(postgres_store: Engine) -> None:
    present = arrive(postgres_store)
    hold(postgres_store, f"{socket.gethostname()}:{os.getpid()}:before", "one")
    assert present.take_over() == 1
    present.leave()


def test_a_clock_that_is_not_the_databases_is_told(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    now = clock.now
    assert clocks_apart(engine) is None
    said = []
    for seconds in (90, -90):
        monkeypatch.setattr(clock, "now", lambda by=seconds: now() + timedelta(seconds=by))
        said.append((clocks_apart(engine) or "").partition(": set it (NTP)")[0])
    if engine.dialect.name == "sqlite":
        assert said == ["", ""]
    else:
        assert said == [f"the clock here is 90 s {one} the database's" for one in ("ahead of", "behind")]


def test_who_has_left_gives_no_sign_of_life_any_more(postgres_store: Engine) -> None:
    present = arrive(postgres_store)
    present.leave()
    present.renew()
    assert not gateway_runs(postgres_store)


def test_a_sign_of_life_that_is_being_given_anew_goes_too(
    postgres_store: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    present: Any = arrive(postgres_store)
    sign, signing, go = present._sign, threading.Event(), threading.Event()

    def slowly() -> Any:
        signing.set()
        go.wait()
        return sign()

    monkeypatch.setattr(present, "_sign", slowly)
    presence._end(present._session)  # as after the server's restart
    with ThreadPoolExecutor(2) as threads:
        renewing = threads.submit(present.renew)
        signing.wait()
        leaving = threads.submit(present.leave)
        wait([leaving], 0.2)  # it has its chance to be first, and does not take it
        go.set()
        renewing.result()
        leaving.result()
    assert not gateway_runs(postgres_store)
