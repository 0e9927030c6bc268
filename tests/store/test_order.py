"""Positions are the order of commits, without gaps, whoever appends at the same time: a reader that follows misses nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, text

from store import log
from store.database import open_store, reading, writing
from store.errors import Conflict
from store.log import Unit
from store.schema import events
from tests.store.build import append, attempted, opening, rows, then

WAIT_SECONDS = 60
WRITERS = {"sqlite": 4, "postgresql": 16}
UNITS = 12  # of each writer


def again(engine: Engine) -> Engine:
    """The same store, as another process would open it."""
    return open_store(engine.url.render_as_string(hide_password=False))


def in_parallel(*calls: Callable[[], None]) -> None:
    """Run all at once; raises what the first of them raised."""
    with ThreadPoolExecutor(len(calls)) as pool:
        for done in [pool.submit(call) for call in calls]:
            done.result(WAIT_SECONDS)


def tail(engine: Engine, count: int, seen: list[int]) -> None:
    """Follow the log by position until so many events were seen, or the time is up."""
    ending = threading.Event()
    timer = threading.Timer(WAIT_SECONDS, ending.set)
    timer.start()
    reader = again(engine)
    try:
        while len(seen) < count and not ending.is_set():
            with reading(reader) as connection:
                seen += (one.position for one in log.walk(connection, after=seen[-1] if seen else 0))
    finally:
        timer.cancel()
        reader.dispose()


def test_a_reader_that_follows_by_position_misses_nothing(store: Engine) -> None:
    writers = WRITERS[store.dialect.name]
    all_ready = threading.Barrier(writers)
    seen: list[int] = []

    def write(writer: int) -> None:
        own = again(store)
        try:
            all_ready.wait(WAIT_SECONDS)
            for number in range(UNITS):
                first = opening(f"m{writer:02}-{number:02}")
                append(own, first, then(first, attempted()))
        finally:
            own.dispose()

    count = writers * UNITS * 2
    in_parallel(
        lambda: tail(store, count, seen),
        *(lambda writer=writer: write(writer) for writer in range(writers)),  # type: ignore[misc]
    )
    assert seen == list(range(1, count + 1))
    by_stream: dict[str, list[int]] = {}
    for row in rows(store, events, "position", "stream", "revision"):
        by_stream.setdefault(row["stream"], []).append(row["revision"])
    assert len(by_stream) == writers * UNITS
    assert set(map(tuple, by_stream.values())) == {(0, 1)}


def test_whoever_comes_second_waits_for_the_first_to_commit(store: Engine) -> None:
    """The first has its positions and lingers in its transaction: nobody overtakes it, nobody sees half of it."""
    other, appended, go_on = again(store), threading.Event(), threading.Event()
    second = threading.Event()

    def linger() -> None:
        with writing(store) as connection:
            log.append(connection, [Unit((opening("first"),))])
            appended.set()
            assert go_on.wait(WAIT_SECONDS)

    def overtake() -> None:
        assert appended.wait(WAIT_SECONDS)
        second.set()
        append(other, opening("second"))

    def look() -> None:
        assert second.wait(WAIT_SECONDS)
        try:
            with reading(store) as connection:
                assert list(log.walk(connection)) == []
            if store.dialect.name == "postgresql":
                wait_for_a_waiter(store)
        finally:
            go_on.set()

    try:
        in_parallel(linger, overtake, look)
    finally:
        other.dispose()
    found = rows(store, events, "position", "stream")
    assert [tuple(row.values()) for row in found] == [(1, "first"), (2, "second")]


def wait_for_a_waiter(engine: Engine) -> None:
    """Wait until somebody waits for the append lock."""
    waiting = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    ending = threading.Event()
    timer = threading.Timer(WAIT_SECONDS, ending.set)
    timer.start()
    try:
        while not ending.is_set():
            with engine.connect() as connection:
                if connection.scalar(waiting):
                    return
    finally:
        timer.cancel()
    pytest.fail("nobody waits for the append lock")


def test_of_many_who_append_to_one_stream_at_once_one_wins_each_time(store: Engine) -> None:
    first = opening()
    append(store, first)
    writers = WRITERS[store.dialect.name]
    all_ready, refused = threading.Barrier(writers), []

    def write() -> None:
        own = again(store)
        try:
            all_ready.wait(WAIT_SECONDS)
            with writing(own) as connection:
                refused.extend(log.append(connection, [Unit((then(first, attempted()),))]))
        finally:
            own.dispose()

    in_parallel(*[write] * writers)
    assert sorted(str(type(one).__name__) for one in refused) == ["Conflict"] * (writers - 1) + ["NoneType"]
    assert all(one is None or isinstance(one, Conflict) for one in refused)
    assert len(rows(store, events)) == 2


def test_a_stricter_default_isolation_of_the_server_does_not_hide_what_was_committed(
    postgres_store: Engine,
) -> None:
    """With a snapshot from before the lock, an appender would give out positions that are taken."""
    name = postgres_store.url.database
    with postgres_store.begin() as connection:
        connection.execute(
            text(f"ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'")
        )
    postgres_store.dispose()
    test_whoever_comes_second_waits_for_the_first_to_commit(postgres_store)
