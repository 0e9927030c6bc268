"""Opening the store: what is missing is not made by asking, what is behind is upgraded or named, and no password is told."""

import os
import re
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text

import migrations
from cli.context import EXIT_STORE, StoreFailure, ensure_store, opened
from engine import settings
from engine.settings import Settings
from store import database
from tests.cli.command import ROOT, Mailgate, configure


def configured(folder: Path, url: str) -> Settings:
    return settings.load(configure(folder, url))


def stamped(url: str, revision: str) -> None:
    """Make a store that says it is of this revision."""
    engine = database.open_store(url)
    migrations.upgrade(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})
    engine.dispose()


def test_asking_a_store_that_is_not_there_makes_no_file(mailgate: Mailgate) -> None:
    configure(mailgate.folder, "sqlite:///mailgate.db")
    for arguments in (["list"], ["queue"], ["events"], ["show", "x"], ["explain", "x"], ["raw", "x"]):
        answer = mailgate(*arguments)
        assert answer.code == 4
        assert "mailgate run" in answer.complaint
        assert "mailgate db upgrade" in answer.complaint
    assert [file.name for file in mailgate.folder.iterdir()] == ["mailgate.toml"]


def test_an_empty_file_holds_no_store_yet(mailgate: Mailgate) -> None:
    configure(mailgate.folder, "sqlite:///mailgate.db")
    (mailgate.folder / "mailgate.db").touch()
    answer = mailgate("list")
    assert answer.code == 4
    assert "mailgate db upgrade" in answer.complaint


def test_a_file_that_is_no_database_is_left_alone(mailgate: Mailgate) -> None:
    configure(mailgate.folder, "sqlite:///mailgate.db")
    letter = b"Dear reader,\n" * 1000
    (mailgate.folder / "mailgate.db").write_bytes(letter)
    answer = mailgate("list")
    assert answer.code == 4
    assert "not a database" in answer.complaint
    assert (mailgate.folder / "mailgate.db").read_bytes() == letter


def open_and_close(found: Settings) -> None:
    with opened(found):
        pass


@pytest.mark.parametrize("use", [open_and_close, ensure_store])
def test_a_store_of_a_newer_program_is_not_touched(
    use: Callable[[Settings], None], tmp_path: Path, sqlite_url: str
) -> None:
    stamped(sqlite_url, "9999")
    found = configured(tmp_path, sqlite_url)
    with pytest.raises(StoreFailure, match="upgrade mailgate") as refused:
        use(found)
    assert refused.value.code == EXIT_STORE


def test_an_older_store_in_a_file_is_moved_on_by_asking(mailgate: Mailgate, sqlite_url: str) -> None:
    """The schema's first step is the only one yet: an older store can be told by the attempt to move it on."""
    stamped(sqlite_url, "0000")
    configure(mailgate.folder, sqlite_url)
    for arguments in (["list"], ["db", "upgrade"]):
        answer = mailgate(*arguments)
        assert answer.code == 4
        assert re.match("the schema is none of mailgate's, and can't be upgraded: .*0000", answer.complaint)


def test_a_store_that_is_made_is_there_to_be_asked(tmp_path: Path, sqlite_url: str) -> None:
    found = configured(tmp_path, sqlite_url)
    ensure_store(found)
    ensure_store(found)
    with opened(found) as engine, database.reading(engine) as connection:
        assert migrations.standing(connection) == "current"


def test_no_folder_is_made_for_a_store(tmp_path: Path) -> None:
    with pytest.raises(StoreFailure, match=r"there is no folder .*/nowhere"):
        ensure_store(configured(tmp_path, "sqlite:///nowhere/mailgate.db"))
    assert not (tmp_path / "nowhere").exists()


def test_a_store_without_its_schema_is_made_on_a_server_by_its_owner_only(
    tmp_path: Path, postgres_url: str
) -> None:
    found = configured(tmp_path, postgres_url)
    for use in (open_and_close, ensure_store):
        with pytest.raises(StoreFailure, match="'mailgate db upgrade'"):
            use(found)
    engine = database.open_store(postgres_url)
    with database.reading(engine) as connection:
        assert migrations.standing(connection) == "empty"
    engine.dispose()


def test_an_older_store_on_a_server_is_left_to_db_upgrade(tmp_path: Path, postgres_url: str) -> None:
    stamped(postgres_url, "0000")
    with pytest.raises(StoreFailure, match="older mailgate: 'mailgate db upgrade'"):
        ensure_store(configured(tmp_path, postgres_url))


def test_an_unreachable_server_is_one_line_without_the_password(mailgate: Mailgate) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens there
        port = taken.getsockname()[1]
        configure(mailgate.folder, f"postgresql://mail:hunter2@127.0.0.1:{port}/mailgate")
        answer = mailgate("list")
    assert answer.code == 4
    assert answer.complaint.startswith("the store can't be used: ")
    assert "hunter2" not in answer.err


def test_a_damaged_store_is_one_line(tmp_path: Path, sqlite_url: str) -> None:
    found = configured(tmp_path, sqlite_url)
    ensure_store(found)
    file = Path(sqlite_url.removeprefix("sqlite:///"))
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    octets = bytearray(file.read_bytes())
    octets[100:4096] = os.urandom(3996)
    file.write_bytes(octets)
    answer = Mailgate(tmp_path)("list")
    assert answer.code == 4
    assert answer.complaint.startswith("the store can't be used: ")


def test_looking_at_a_current_store_does_not_import_alembic(tmp_path: Path, sqlite_url: str) -> None:
    ensure_store(configured(tmp_path, sqlite_url))
    code = (
        "import sys; from cli import context\n"
        "with context.opened(context.settings()): pass\n"
        "print('alembic' in sys.modules, 'rich' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["False", "False"]
