"""Upgrading makes the schema that the program was written for, at once or not at all, however often it is asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from alembic import op
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect, select, text

import migrations
from store.database import open_store, reachable, reading, writing
from store.errors import StoreUnreachable
from store.read_tables import TEXTS_ON_SQLITE, metadata, texts

Open = Callable[[str], Engine]
WAIT_SECONDS = 60

# Everything a database knows of its own objects, in its own words.
OBJECTS = {
    "sqlite": "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name",
    "postgresql": """
        SELECT 'column', table_name, column_name, concat_ws(' ', data_type, is_nullable, column_default)
          FROM information_schema.columns WHERE table_schema = 'public'
        UNION SELECT 'index', tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
        UNION SELECT 'trigger', tgrelid::regclass::text, tgname, pg_get_triggerdef(oid) FROM pg_trigger
        UNION SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
         WHERE connamespace = 'public'::regnamespace AND contype <> 'n'
        ORDER BY 1, 2, 3""",
}


@pytest.fixture
def opened() -> Iterator[Open]:
    """Opens stores that are closed at the end."""
    engines: list[Engine] = []

    def open_it(url: str) -> Engine:
        engines.append(open_store(url))
        return engines[-1]

    yield open_it
    for engine in engines:
        engine.dispose()


@pytest.fixture
def empty(database_url: str, opened: Open) -> Engine:
    """A database with nothing in it."""
    return opened(database_url)


def objects(engine: Engine) -> list[tuple[Any, ...]]:
    with reading(engine) as connection:
        return [tuple(row) for row in connection.execute(text(OBJECTS[engine.dialect.name]))]


def standing(engine: Engine) -> tuple[str, str | None]:
    with reading(engine) as connection:
        return migrations.standing(connection), migrations.revision(connection)


def set_revision(engine: Engine, revision: str) -> None:
    with writing(engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :it"), {"it": revision})


def test_an_empty_database_becomes_a_store(empty: Engine) -> None:
    assert standing(empty) == ("empty", None)
    migrations.upgrade(empty)
    assert standing(empty) == ("current", migrations.HEAD)
    with reading(empty) as connection:
        found = {name for name in inspect(connection).get_table_names() if not searched(name)}
    assert found == {*metadata.tables, "alembic_version"}


def test_words_have_an_index_of_the_database_s_own_kind(empty: Engine) -> None:
    migrations.upgrade(empty)
    made = {row[1]: row[3] for row in objects(empty) if row[0] != "trigger" and searched(str(row[1]))}
    if empty.dialect.name == "sqlite":
        assert made["texts"] == TEXTS_ON_SQLITE
    else:
        made = {row[2]: row[3] for row in objects(empty) if row[2] == "texts_words"}
        assert "USING gin (words)" in made["texts_words"]
    with reading(empty) as connection:
        assert connection.execute(select(texts)).all() == []


def test_upgrading_again_changes_nothing(empty: Engine) -> None:
    migrations.upgrade(empty)
    before = objects(empty)
    migrations.upgrade(empty)
    assert objects(empty) == before


def test_head_is_the_last_step_and_steps_sort_as_they_follow() -> None:
    steps = ScriptDirectory(migrations.__path__[0])
    names = [step.revision for step in steps.walk_revisions()]
    assert steps.get_heads() == [migrations.HEAD]
    assert names == sorted(names, reverse=True)


@pytest.mark.parametrize(
    ("revision", "found"), [("0000", "behind"), ("9999", "unknown"), (migrations.HEAD, "current")]
)
def test_a_store_says_how_it_stands_to_the_program(revision: str, found: str, empty: Engine) -> None:
    migrations.upgrade(empty)
    set_revision(empty, revision)
    assert standing(empty) == (found, revision)


def test_the_steps_make_the_tables_the_program_knows(empty: Engine) -> None:
    migrations.upgrade(empty)
    with reading(empty) as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "compare_server_default": True,
                "include_name": lambda name, kind, _: kind != "table" or not searched(name),
            },
        )
        assert compare_metadata(context, metadata) == []


def test_the_steps_make_the_same_columns_and_indexes_in_the_database_s_own_words(
    empty: Engine, request: pytest.FixtureRequest, opened: Open, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Alembic compares not all there is: here a database is filled from the program's own tables.

    The program's tables name the conditions of partial indexes for SQLite only.
    """
    migrations.upgrade(empty)
    if empty.dialect.name == "sqlite":
        other = opened(f"sqlite:///{tmp_path_factory.mktemp('other')}/store.db")
    else:
        other = opened(request.getfixturevalue("postgres").create_database())
    with writing(other) as connection:
        metadata.create_all(connection)
    made, meant = without_triggers(empty), without_triggers(other)
    assert len(meant) > 20
    conditions = {
        row[2] if empty.dialect.name == "postgresql" else row[1] for row in made if "WHERE" in row[3]
    }
    assert conditions == {"events_rare_name", "uidls_present", "agenda_holder", "messages_slow"}
    if empty.dialect.name == "postgresql":
        made = {(*row[:3], row[3].partition("WHERE")[0]) for row in made}
    assert made == meant


def without_triggers(engine: Engine) -> set[tuple[str, ...]]:
    """Tables and indexes, blanks and brackets aside."""
    aside = str.maketrans("", "", " \n\t()\"'")
    return {
        tuple(str(part).translate(aside) for part in row)
        for row in objects(engine)
        if row[0] != "trigger"
        and "alembic_version" not in str(row)
        and not searched(str(row[2]))
        and not searched(str(row[1]))
    }


def searched(table: str) -> bool:
    """Whether it is the table of words, or one that FTS5 keeps behind it: none that SQLAlchemy makes."""
    return table == "texts" or table.startswith("texts_")


def test_the_log_is_guarded(empty: Engine) -> None:
    migrations.upgrade(empty)
    found = {
        name
        for row in objects(empty)
        if row[0] == "trigger"
        for name in row[1:3]
        if name.startswith("events_")
    }
    wanted = {"events_no_delete", "events_no_update"}
    assert found == wanted | (
        {"events_no_replace"} if empty.dialect.name == "sqlite" else {"events_no_truncate"}
    )


def test_a_step_that_fails_leaves_nothing_behind(empty: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    before, made = objects(empty), []
    create_index = op.create_index

    def fail_late(name: str, *given: Any, **options: Any) -> None:
        if name == "uidls_stream":
            raise InterruptedError
        create_index(name, *given, **options)
        made.append(name)

    with monkeypatch.context() as patched:
        patched.setattr(op, "create_index", fail_late)
        with pytest.raises(InterruptedError):
            migrations.upgrade(empty)
    assert len(made) > 5
    assert objects(empty) == before
    assert standing(empty) == ("empty", None)
    migrations.upgrade(empty)
    assert standing(empty) == ("current", migrations.HEAD)


def test_two_upgrades_at_once_wait_for_each_other(empty: Engine, database_url: str, opened: Open) -> None:
    others, ready = [opened(database_url) for _ in range(3)], threading.Barrier(3)

    def upgrade(engine: Engine) -> None:
        ready.wait(WAIT_SECONDS)
        migrations.upgrade(engine)

    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(upgrade, engine) for engine in others]:
            done.result(WAIT_SECONDS)
    assert standing(empty) == ("current", migrations.HEAD)


def test_a_store_is_used_while_another_looks_whether_it_must_be_upgraded(
    empty: Engine, opened: Open, database_url: str
) -> None:
    migrations.upgrade(empty)
    with writing(empty):
        assert standing(opened(database_url)) == ("current", migrations.HEAD)


def test_a_database_that_is_away_is_not_an_empty_one(opened: Open) -> None:
    away = opened("postgresql+psycopg://anna@127.0.0.1:1/mail")
    with pytest.raises(StoreUnreachable), reachable(away):
        migrations.upgrade(away)
