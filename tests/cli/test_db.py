"""`mailgate db`: where the store stands, and that a copy of it is as good as it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import select

import migrations
from store.database import open_store, reading
from store.read_tables import READ_TABLES
from store.schema import agenda
from tests.cli.installation import Installation, installed
from tests.real.postgres import Postgres


@pytest.fixture
def house(tmp_path: Path, sqlite_url: str) -> Iterator[Installation]:
    with installed(tmp_path, sqlite_url) as house:
        yield house


def tables(house: Installation) -> dict[str, list[tuple[object, ...]]]:
    """The read tables, and when messages are due, row by row."""
    engine = open_store(house.store_url)
    with reading(engine) as connection:
        found = {
            table.name: [
                tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key.columns))
            ]
            for table in READ_TABLES
        }
        due = select(agenda.c.stream, agenda.c.lane, agenda.c.wake_at).order_by(agenda.c.stream)
        messages = connection.execute(due.where(agenda.c.stream.not_like("mailbox-%")))
        found["agenda"] = [tuple(row) for row in messages]
    engine.dispose()
    return found


def test_status_before_and_after_the_store_is_made(database_url: str, tmp_path: Path) -> None:
    with installed(tmp_path, database_url) as house:
        assert "'mailgate db upgrade' makes it" in house.mailgate("db", "status", code=4)
        assert f"made, schema {migrations.HEAD}" in house.mailgate("db", "upgrade")
        assert "is up to date" in house.mailgate("db", "upgrade")
        house.put(2)
        house.home.fault("rcpt", "reply", code=451, text="4.7.1 later")
        house.mailgate("run", "--once", code=1)
        (found,) = house.rows("db", "status")
        assert found["schema"] == migrations.HEAD
        assert found["schema_standing"] == "current"
        assert (found["messages"], found["open"]) == (2, 1)
        assert found["events"] == len(house.rows("events"))
        assert found["size_octets"] > 0
        assert found["newest_at"]
        assert not found["gateway_runs"]
        assert "2, 1 open" in house.mailgate("db", "status")
        with house.running():
            assert house.rows("db", "status")[0]["gateway_runs"]


def test_the_password_of_the_store_is_never_shown(house: Installation) -> None:
    house.store_url = "postgresql://gate:hunter2@127.0.0.1:1/mail"
    house.configure()
    for words in ("status", "upgrade", "rebuild"):
        house.mailgate("db", words, code=4)  # which looks for the password itself
    house.mailgate("check")


def test_asking_for_the_status_makes_no_file(house: Installation) -> None:
    house.mailgate("db", "status", code=4)
    assert [file.name for file in house.folder.iterdir()] == ["mailgate.toml"]


def test_a_store_of_a_newer_mailgate_is_left_alone(house: Installation) -> None:
    house.mailgate("db", "upgrade")
    engine = open_store(house.store_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    engine.dispose()
    for words in ("status", "upgrade", "rebuild"):
        assert "newer" in house.mailgate("db", words, code=4)


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_in_which_mail_does_not_fit_is_refused(
    encoding: Any, postgres: Postgres, tmp_path: Path
) -> None:
    url = postgres.create_database(encoding)
    try:
        with installed(tmp_path, url) as house:
            for words, code in ((("db", "upgrade"), 4), (("check", "--connect"), 1), (("run", "--once"), 4)):
                said = " ".join(house.mailgate(*words, code=code).split())
                assert f"the database has encoding {encoding}, and mail needs UTF8: create it with" in said
    finally:
        postgres.drop_database(url)


def test_a_right_that_the_store_s_user_lacks_is_named(postgres_url: str, tmp_path: Path) -> None:
    conninfo = postgres_url.replace("+psycopg", "")
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("CREATE ROLE guest LOGIN")
    try:
        with installed(tmp_path, postgres_url.replace("postgres@", "guest@")) as house:
            lacks = "the store can't be used: permission denied for {}: GRANT it to the store's user, or"
            assert lacks.format("schema public") in house.mailgate("db", "upgrade", code=4)
            house.store_url = postgres_url
            house.configure()
            house.mailgate("db", "upgrade")
            house.store_url = postgres_url.replace("postgres@", "guest@")
            house.configure()
            for words in (("list",), ("run", "--once")):
                assert lacks.format("table alembic_version") in house.mailgate(*words, code=4)
    finally:
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute("DROP ROLE guest")


def test_rebuilt_tables_equal_those_of_before(database_url: str, tmp_path: Path) -> None:
    with installed(tmp_path, database_url) as house:
        house.mailgate("db", "upgrade")
        house.put(5)
        house.home.fault("rcpt", "reply", code=451, text="4.7.1 later", times=2)
        house.mailgate("run", "--once", code=1)
        before = tables(house)
        assert "read tables made anew from " in house.mailgate("db", "rebuild")
        assert tables(house) == before
        assert before["messages"]
        assert before["agenda"]


def test_rebuild_and_restore_keep_away_from_a_running_gateway(database_url: str, tmp_path: Path) -> None:
    with installed(tmp_path, database_url) as house:
        house.mailgate("db", "upgrade")
        house.mailgate("db", "backup", "copy.db")
        with house.running():
            assert "a gateway runs on this store" in house.mailgate("db", "rebuild", code=4)
            assert "a gateway runs on this store" in house.mailgate("db", "restore", "copy.db", code=4)


def test_a_gateway_goes_on_with_a_restored_store(database_url: str, tmp_path: Path) -> None:
    """Copied while a gateway runs, restored elsewhere: nothing is fetched twice, what was deferred is delivered."""
    with installed(tmp_path, database_url) as house:
        house.configure(mailbox='remove = "never"', more='[retry]\nfirst = "1s"\n')
        house.mailgate("db", "upgrade")
        house.put(3)
        later = house.home.fault("rcpt", "reply", code=451, text="4.7.1 later", times=1)
        house.mailgate("run", "--once", code=1)
        assert later.fired
        house.home.fault("rcpt", "reply", code=451, text="4.7.1 later", times=None)
        with house.running():
            said = house.mailgate("db", "backup", "copy.db")
            assert "3 messages with " in said
            assert "exists already" in house.mailgate("db", "backup", "copy.db", code=1)
        house.home.heal()
        house.store_url = f"sqlite:///{house.folder}/restored.db"
        house.configure(mailbox='remove = "never"', more='[retry]\nfirst = "1s"\n')
        assert "3 messages with " in house.mailgate("db", "restore", "copy.db")
        for _ in range(10):
            if "message is open" not in house.mailgate("run", "--once", code=None):
                break
        assert len(house.home.ledger) == 3
        assert len(house.mailbox.retrievals()) == 3
        assert "is not empty" in house.mailgate("db", "restore", "copy.db", code=1)


def test_what_is_open_in_a_copy_is_said_before_it_is_sent_again(house: Installation) -> None:
    house.put(3)
    house.home.fault("rcpt", "reply", code=451, text="4.7.1 later", times=3)
    house.configure(more='[retry]\nfirst = "1s"\n')
    house.mailgate("run", "--once", code=1)
    house.mailgate("db", "backup", "copy.db")
    while "open" in house.mailgate("run", "--once", code=None):
        pass
    assert len(house.home.ledger) == 3

    house.store_url = f"sqlite:///{house.folder}/restored.db"
    house.configure(more='[retry]\nfirst = "1s"\n')
    assert "3 messages open: what was handed over after" in house.mailgate("db", "restore", "copy.db")
    assert house.mailgate("hold", "--before", "1s", "--yes", "--reason", "restored").count(": held") == 3
    house.mailgate("run", "--once", code=1)
    assert len(house.home.ledger) == 3

    house.store_url = f"sqlite:///{house.folder}/copy.db"
    house.configure(more='[retry]\nfirst = "1s"\n')
    said = house.mailgate("run", "--once", code=None)
    assert "a copy made by 'mailgate db backup', open in it: 3 messages; what its original" in said
    while "open" in (said := house.mailgate("run", "--once", code=None)):
        assert "a copy made by" not in said
    assert len(house.home.ledger) == 6


def test_a_copy_in_which_nothing_is_open_is_nothing_to_tell_of(house: Installation) -> None:
    house.put(2)
    house.mailgate("run", "--once")
    house.mailgate("db", "backup", "copy.db")
    house.store_url = f"sqlite:///{house.folder}/copy.db"
    house.configure()
    assert "a copy made by" not in house.mailgate("run", "--once")
    house.mailgate("db", "backup", "again.db")
    house.store_url = f"sqlite:///{house.folder}/restored.db"
    house.configure()
    assert " open: " not in house.mailgate("db", "restore", "again.db")


def test_a_restore_fills_a_database_that_has_no_schema_yet(house: Installation, postgres_url: str) -> None:
    house.put(2)
    house.mailgate("run", "--once")
    house.mailgate("db", "backup", "copy.db")
    before = tables(house)
    house.store_url = postgres_url
    house.configure()
    house.mailgate("db", "restore", "copy.db")
    assert tables(house) == before


def test_what_is_no_backup_is_refused(house: Installation) -> None:
    house.file.with_name("letter.db").write_text("Dear backup, " * 500)
    assert "letter.db is no backup" in house.mailgate("db", "restore", "letter.db", code=1)
    assert "none.db: no such file" in house.mailgate("db", "restore", "none.db", code=1)
    assert "No such file or directory" in house.mailgate("db", "backup", "none/copy.db", code=1)
