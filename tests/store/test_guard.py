"""The database itself refuses to change or delete an event, except to erase personal facts (promise P7)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, Table
from sqlalchemy.exc import DatabaseError

from store import guards
from store.database import reading, writing
from store.log import Append
from store.mailbox_events import PollRecovered
from store.mailbox_life import Mailbox
from store.schema import events, seals
from store.verified import Count
from tests.store.attack import sealed
from tests.store.build import NOW, append, attempted, opening, rows, then, unguarded
from tests.store.conftest import KINDS, Fresh

COLUMNS = "position, stream, revision, name, version, at, data, personal, salt, digest, hash"
ERASE = "personal = NULL, salt = NULL"
OTHER = "the database may change the log: its trigger {} refuses something else than it was made to"


@pytest.fixture(scope="module", params=KINDS)
def kept(request: pytest.FixtureRequest, fresh: Fresh) -> Iterator[Engine]:
    """A store with a message of two events, and a mailbox; nothing that is tried on it changes it."""
    with fresh(request.param) as engine:
        fill(engine)
        yield engine


def fill(engine: Engine) -> None:
    first = opening()
    recovered = Append("mailbox-info", Mailbox(name="info"), (PollRecovered(mailbox="info"),), NOW)
    append(engine, first, then(first, attempted(recipients=("info@example.com",))), recovered)


def refused(engine: Engine, statement: str, table: Table = events) -> None:
    before = rows(engine, table)
    assert before
    with pytest.raises(DatabaseError, match=f"{table.name} are never"), writing(engine) as connection:
        connection.exec_driver_sql(statement)
    assert rows(engine, table) == before


@pytest.mark.parametrize(
    "change",
    [
        "position = position + 100",
        "stream = 'x'",
        "revision = revision + 10",
        "name = 'delivered'",
        "version = 2",
        "at = 0",
        "data = hash",
        "data = data",
        "digest = hash",
        "digest = NULL",
        "hash = digest",
        "personal = data",
        "personal = NULL",
        "salt = NULL",
        "salt = hash",
    ],
)
def test_no_event_is_changed(change: str, kept: Engine) -> None:
    refused(kept, f"UPDATE events SET {change} WHERE stream = 'm1'")


@pytest.mark.parametrize(
    "column", ["stream = 'x'", "revision = revision + 10", "at = 0", "data = hash", "digest = NULL"]
)
def test_nothing_else_is_changed_along_with_an_erasure(column: str, kept: Engine) -> None:
    refused(kept, f"UPDATE events SET {ERASE}, {column} WHERE stream = 'm1'")


@pytest.mark.parametrize("which", ["", " WHERE position = 1", " WHERE personal IS NULL"])
def test_no_event_is_deleted(which: str, kept: Engine) -> None:
    refused(kept, f"DELETE FROM events{which}")


def test_erasing_personal_facts_and_their_salt_is_allowed_and_may_be_repeated(store: Engine) -> None:
    fill(store)
    before = rows(store, events)
    for _ in range(2):
        with writing(store) as connection:
            connection.exec_driver_sql(f"UPDATE events SET {ERASE} WHERE stream = 'm1'")
        after = rows(store, events)
        erased = {"personal": None, "salt": None}
        assert after == [row | erased if row["stream"] == "m1" else row for row in before]


def test_what_is_erased_is_not_put_back(store: Engine) -> None:
    fill(store)
    with writing(store) as connection:
        connection.exec_driver_sql(f"UPDATE events SET {ERASE}")
    refused(store, "UPDATE events SET personal = data")


def test_the_log_is_not_truncated(postgres_store: Engine) -> None:
    append(postgres_store, opening())
    refused(postgres_store, "TRUNCATE events")


@pytest.mark.parametrize("verb", ["INSERT OR REPLACE", "REPLACE"])
@pytest.mark.parametrize("place", ["1, 'new', 0", "99, 'm1', 0"])
def test_no_event_is_replaced_by_an_insert(place: str, verb: str, sqlite_store: Engine) -> None:
    append(sqlite_store, opening())
    rest = COLUMNS.removeprefix("position, stream, revision, ")
    refused(
        sqlite_store, f"{verb} INTO events ({COLUMNS}) SELECT {place}, {rest} FROM events WHERE position = 1"
    )


def test_no_event_is_replaced_by_an_insert_that_updates(postgres_store: Engine) -> None:
    append(postgres_store, opening())
    insert = f"INSERT INTO events ({COLUMNS}) SELECT {COLUMNS} FROM events"
    refused(postgres_store, f"{insert} ON CONFLICT (position) DO UPDATE SET at = 0")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE seals SET root = blocks",
        "UPDATE seals SET position = 1 WHERE number = 1",
        "UPDATE seals SET signature = root",
        "DELETE FROM seals",
    ],
)
def test_no_seal_is_changed_or_deleted(statement: str, store: Engine) -> None:
    fill(store)
    sealed(store)
    refused(store, statement, seals)


def test_no_seal_is_replaced_by_an_insert(sqlite_store: Engine) -> None:
    fill(sqlite_store)
    sealed(sqlite_store)
    refused(
        sqlite_store,
        "INSERT OR REPLACE INTO seals SELECT number, 1, root, blocks, at, NULL, NULL FROM seals",
        seals,
    )


def test_the_seals_are_not_truncated(postgres_store: Engine) -> None:
    fill(postgres_store)
    sealed(postgres_store)
    refused(postgres_store, "TRUNCATE seals", seals)


# -- that they are there, and what they were


def guarding(engine: Engine) -> list[str]:
    with reading(engine) as connection:
        return [str(one) for one in guards.check(connection, Count())]


def test_each_guard_is_as_it_was_made(store: Engine) -> None:
    assert guarding(store) == []


def test_a_guard_that_was_taken_away_is_named(store: Engine) -> None:
    unguarded(store)
    assert guarding(store) == [
        f"the database may change the log: its trigger {name} is gone, or is disabled"
        for name in guards.GUARDS[store.dialect.name]
    ]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("events_no_update", "BEFORE UPDATE ON events WHEN 0 BEGIN SELECT 1; END"),
        ("events_no_update", "BEFORE UPDATE ON events BEGIN SELECT 1; END"),
        ("events_no_delete", "AFTER DELETE ON events BEGIN SELECT 1; END"),
        ("events_no_replace", "BEFORE INSERT ON seals WHEN 0 BEGIN SELECT 1; END"),
        ("seals_no_update", "BEFORE UPDATE OF at ON seals BEGIN SELECT RAISE(ABORT, 'no'); END"),
    ],
)
def test_a_guard_that_refuses_something_else_is_named(name: str, change: str, sqlite_store: Engine) -> None:
    with writing(sqlite_store) as connection:
        connection.exec_driver_sql(f"DROP TRIGGER {name}")
        connection.exec_driver_sql(f"CREATE TRIGGER {name} {change}")
    assert guarding(sqlite_store) == [OTHER.format(name)]


NOTHING = "RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN coalesce(NEW, OLD); END $$"
ROW = "ON events FOR EACH ROW"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ((f"CREATE OR REPLACE FUNCTION seals_refuse() {NOTHING}",), ["seals_no_change", "seals_no_truncate"]),
        (
            (
                f"CREATE FUNCTION another() {NOTHING}",
                f"CREATE OR REPLACE TRIGGER events_no_delete BEFORE DELETE {ROW} EXECUTE FUNCTION another()",
            ),
            ["events_no_delete"],
        ),
        (
            (
                f"CREATE OR REPLACE TRIGGER events_no_update BEFORE UPDATE {ROW} WHEN (NEW.position < 0)"
                " EXECUTE FUNCTION events_refuse()",
            ),
            ["events_no_update"],
        ),
    ],
)
def test_a_guard_that_does_nothing_is_named(
    changes: tuple[str, ...], named: list[str], postgres_store: Engine
) -> None:
    with writing(postgres_store) as connection:
        for change in changes:
            connection.exec_driver_sql(change)
    assert guarding(postgres_store) == [OTHER.format(name) for name in named]


def test_a_guard_that_sleeps_until_a_replica_writes_is_named(postgres_store: Engine) -> None:
    with writing(postgres_store) as connection:
        connection.exec_driver_sql("ALTER TABLE seals ENABLE REPLICA TRIGGER seals_no_change")
    (found,) = guarding(postgres_store)
    assert found.endswith("its trigger seals_no_change is gone, or is disabled")
