"""Whatever stands in a store in place of what was written is named in a line: SQLite keeps any value anywhere."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path
from sqlite3 import IntegrityError, connect

import pytest

from store.guards import GUARDS
from store.schema import contents, events, seals
from tests.cli.command import Mailgate, configure
from tests.cli.stock import Stock, stocked

VALUES = ("NULL", "'text'", "x'ff'", "9223372036854775807", "CAST(x'ff' AS TEXT)")
COMMANDS = ("audit conserve --json", "audit seal", "audit export {}", "raw {}", "show {} --json")
NOTHING = {"contents.position"}  # verify looks at octets that are there; conserve misses those that are not


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Stock:
    folder = tmp_path_factory.mktemp("whole")
    stock = stocked(folder, f"sqlite:///{folder}/store.db")
    assert stock.mailgate("audit", "keygen", "seal.key").code == 0
    assert stock.mailgate.process("audit", "seal", "--key", "seal.key").code == 0
    with connect(folder / "store.db") as driver:
        driver.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return stock


def tampered(whole: Stock, folder: Path, change: str) -> Mailgate | None:
    """A copy of the store with this change; None where the database itself does not take it."""
    folder.mkdir()
    shutil.copy(whole.mailgate.folder / "store.db", folder / "store.db")
    with closing(connect(folder / "store.db")) as driver:
        for name in GUARDS["sqlite"]:
            driver.execute(f"DROP TRIGGER {name}")
        try:
            assert driver.execute(change).rowcount == 1
        except IntegrityError:
            return None
        driver.commit()
    configure(folder, f"sqlite:///{folder}/store.db")
    return Mailgate(folder)


CELLS = [
    (f"UPDATE {table.name} SET {column.name} = {{}} WHERE {where}")
    for table, where in (
        (events, "position = 1"),
        (contents, "position = 1"),
        (seals, "number = 1"),
    )
    for column in table.c
    if str(column) not in NOTHING
]


@pytest.mark.parametrize("change", CELLS)
def test_what_stands_in_place_of_what_was_written_is_named_and_breaks_nothing(
    change: str, whole: Stock, tmp_path: Path
) -> None:
    stream = whole.ids["delivered"]
    for number, value in enumerate(VALUES):
        run = tampered(whole, tmp_path / str(number), change.format(value))
        if run is None:
            continue
        answer = run("audit", "verify", "--contents", "--json", TZ="America/New_York")
        assert answer.code == 1, (value, answer)
        named = [one["what"] for one in answer.json[:-1]] if answer.out else [answer.complaint]
        assert any("its trigger" not in what for what in named), value
        for command in COMMANDS:
            answer = run(*command.format(stream).split(), TZ="America/New_York")
            newer = answer.err and "is newer than this program" in answer.complaint
            assert answer.code in (0, 1) or newer, (value, command, answer)


def findings(run: Mailgate | None, *arguments: str) -> list[str]:
    assert run is not None
    answer = run("audit", "verify", "--json", *arguments)
    assert answer.code == 1
    return [one["what"] for one in answer.json[:-1] if "its trigger" not in one["what"]]


def test_a_seal_that_is_none_hides_nothing_else(whole: Stock, tmp_path: Path) -> None:
    run = tampered(whole, tmp_path / "0", "UPDATE seals SET at = 'noon' WHERE number = 1")
    assert run is not None
    with closing(connect(run.folder / "store.db")) as driver:
        driver.execute("INSERT INTO seals SELECT 2, position, root, blocks, 0, NULL, NULL FROM seals")
        driver.execute("UPDATE events SET at = at + 1 WHERE position = 2")
        driver.commit()
    assert [what.partition(":")[0] for what in findings(run)] == [
        "seal 1 on record can't be read",
        "its hash is not that of its facts and of the event before it",
    ]


def test_seals_that_changed_places_are_named(whole: Stock, tmp_path: Path) -> None:
    run = tampered(
        whole,
        tmp_path / "0",
        "INSERT INTO seals SELECT 2, 0, x'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',"
        " x'', 0, NULL, NULL",
    )
    assert "seal 2 covers fewer events than the seal before it" in findings(run)


def test_octets_before_the_first_position_are_named(whole: Stock, tmp_path: Path) -> None:
    run = tampered(whole, tmp_path / "0", "INSERT INTO contents VALUES (-1, x'00')")
    assert findings(run, "--contents") == ["octets are kept here, and no message was opened"]


def test_a_mailbox_row_that_is_none_is_one_line(whole: Stock, tmp_path: Path) -> None:
    run = tampered(whole, tmp_path / "0", "UPDATE mailboxes SET withheld = 'none' WHERE name = 'info'")
    assert run is not None
    for command in (("audit", "conserve"), ("mailbox", "list")):
        answer = run(*command)
        said = "mailbox info can't be read in the read tables; run: mailgate db rebuild"
        assert (answer.code, answer.complaint) == (1, said)


@pytest.mark.parametrize("command", [("show",), ("raw",), ("explain",), ("audit", "export")])
def test_a_message_that_the_log_does_not_know_is_one_line(
    command: tuple[str, ...], whole: Stock, tmp_path: Path
) -> None:
    run = tampered(whole, tmp_path / "0", "UPDATE messages SET id = 'zzzz' WHERE position = 1")
    assert run is not None
    answer = run(*command, "zzzz")
    said = "message zzzz is in the read tables and not in the log; run: mailgate db rebuild"
    assert (answer.code, answer.complaint) == (1, said)
