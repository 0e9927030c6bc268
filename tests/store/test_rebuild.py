"""Rebuilt tables are the live ones, row by row, whatever happened and however it was batched."""

from __future__ import annotations

import multiprocessing
from random import Random
from typing import Any

import pytest
from sqlalchemy import Engine, Table

from store import conserve, folders, queries
from store.database import reading, writing
from store.errors import StoreError
from store.queries import Filter
from store.read_tables import READ_TABLES
from store.rebuild import rebuild
from store.schema import agenda, events
from tests.store.build import NOW, rows, unguarded
from tests.store.history import History, write

LEASE = ("holder", "lease_until", "fence")


def derived(engine: Engine) -> dict[str, list[dict[str, Any]]]:
    """Every row that comes of the log; leases are not history."""

    def columns(table: Table) -> list[str]:
        return [column.name for column in table.columns if column.name not in LEASE]

    return {table.name: rows(engine, table, *columns(table)) for table in (*READ_TABLES, agenda)}


@pytest.mark.parametrize("seed", range(4))
def test_rebuilt_tables_are_the_live_ones(seed: int, store: Engine) -> None:
    write(store, History(Random(seed)), 350)
    live = derived(store)
    assert all(live.values())
    with writing(store) as connection:
        assert rebuild(connection) == len(rows(store, events, "position"))
    rebuilt = derived(store)
    for name, before in live.items():
        assert rebuilt[name] == before
    with reading(store) as connection:
        assert list(conserve.check(connection, conserve.Count(), NOW)) == []


@pytest.mark.parametrize("seed", [10, 11])
def test_other_processes_make_the_same_tables(
    seed: int, store: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "RANGE_EVENTS", 40)
    write(store, History(Random(seed)), 350)
    live = derived(store)
    with writing(store) as connection:
        rebuild(connection, from_events=1)
    assert derived(store) == live


def test_a_rebuild_whose_helper_is_killed_leaves_the_tables_as_they_were(
    store: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "RANGE_EVENTS", 1)
    write(store, History(Random(12)), 60)
    live = derived(store)

    def kill(done: int, total: int) -> None:
        for process in multiprocessing.active_children():
            process.kill()

    with pytest.raises(StoreError, match="was killed: run it again"), writing(store) as connection:
        rebuild(connection, kill, from_events=1)
    assert derived(store) == live
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("from_events", [None, 1])
def test_an_event_that_cannot_be_read_is_named_and_nothing_changes(
    from_events: int | None, store: Engine
) -> None:
    write(store, History(Random(13)), 30)
    live = derived(store)
    unguarded(store, "UPDATE events SET version = 9 WHERE name = 'delivered'")
    with (
        pytest.raises(StoreError, match="event 'delivered' version 9 is newer than this program"),
        writing(store) as connection,
    ):
        rebuild(connection, from_events=from_events)
    assert derived(store) == live


def test_words_are_found_after_a_rebuild_as_before(store: Engine) -> None:
    write(store, History(Random(6)), 120)
    asked = [Filter(text=text) for text in ("invoice 4711", "example", "inv*", "nothing", "uber")]

    def found() -> list[list[str]]:
        with reading(store) as connection:
            return [[row["id"] for row in queries.every(connection, wanted)] for wanted in asked]

    before = found()
    with writing(store) as connection:
        rebuild(connection)
    assert found() == before
    assert any(before)
    if store.dialect.name == "sqlite":
        with writing(store) as connection:  # raises where the index is not that of the rows
            connection.exec_driver_sql("INSERT INTO texts (texts) VALUES ('integrity-check')")


def test_a_rebuild_leaves_the_indexes_as_they_were(store: Engine) -> None:
    asked = {
        "sqlite": "SELECT name, sql FROM sqlite_master WHERE type = 'index' ORDER BY name",
        "postgresql": "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1",
    }

    def indexes() -> list[tuple[Any, ...]]:
        with reading(store) as connection:
            return [tuple(row) for row in connection.exec_driver_sql(asked[store.dialect.name])]

    before = indexes()
    with writing(store) as connection:
        rebuild(connection)
    assert indexes() == before
    assert {"messages_state", "recipients_address", "agenda_due"} <= {name for name, _ in before}


def test_a_rebuild_repairs_what_was_spoiled_or_lost(store: Engine) -> None:
    write(store, History(Random(7)), 120)
    live = derived(store)
    unguarded(store, "UPDATE messages SET state = 'received', next_hop = 'nowhere'", "DELETE FROM recipients")
    unguarded(store, "DELETE FROM agenda", "UPDATE uidls SET gone = NOT gone", "DELETE FROM next_hops")
    with writing(store) as connection:
        rebuild(connection)
    assert derived(store) == live


def test_a_rebuild_that_breaks_off_leaves_the_tables_as_they_were(store: Engine) -> None:
    write(store, History(Random(8)), 60)
    live = derived(store)

    def stop(done: int, total: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError), writing(store) as connection:
        rebuild(connection, stop)
    assert derived(store) == live


def test_progress_counts_each_event_and_reaches_the_end(store: Engine) -> None:
    write(store, History(Random(9)), 30)
    seen: list[tuple[int, int]] = []
    with writing(store) as connection:
        count = rebuild(connection, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (count, count)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_an_empty_log_rebuilds_to_nothing(store: Engine) -> None:
    with writing(store) as connection:
        assert rebuild(connection) == 0
    assert not any(derived(store).values())
