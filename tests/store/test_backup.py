"""A backup holds the store as it stood at one moment, and a restored store is that store."""

from __future__ import annotations

import stat
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, Table, func, select

import migrations
from store import backup, contents, copying, log
from store.database import open_store, reading, writing
from store.errors import StoreError
from store.events import Attempted, Deferred, Delivered, Downloaded
from store.life import Message
from store.log import Append, Unit
from store.mailbox_events import Adopted, Adoption, mailbox_stream
from store.read_tables import READ_TABLES
from store.schema import agenda
from store.schema import contents as contents_table
from store.schema import events as events_table
from store.schema import seals as seals_table
from tests import schema
from tests.store.attack import findings, sealed

NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
WAIT_SECONDS = 60
DERIVED = (*READ_TABLES, agenda)


@pytest.fixture
def opened() -> Iterator[Callable[[str], Engine]]:
    """Opens a store with the schema; closed at the end."""
    engines: list[Engine] = []

    def store(url: str) -> Engine:
        schema.make(url)
        engines.append(open_store(url))
        return engines[-1]

    yield store
    for engine in engines:
        engine.dispose()


def file_url(file: Path) -> str:
    return f"sqlite:///{file}"


def opening(number: int, octets: bytes) -> Append:
    """A message that is taken in."""
    event = Downloaded(
        mailbox="info",
        uidl=f"uid-{number}",
        size_octets=len(octets),
        listed_octets=len(octets),
        content=sha256(octets).hexdigest(),
        bare_newlines=False,
        recipient_count=1,
        policy="policy",
        reverse_path="jürgen@demo.example",
        recipients=("info@example.com",),
        routed_by=("recipients",),
        subject=f"number {number} \0",
    )
    return Append(f"message{number:06}", None, (event,), NOW + timedelta(seconds=number), octets)


def attempted(message: Message, number: int) -> Append:
    event = Attempted(numbers=(0,), next_hop="home", attempt=1, rule="domains", policy="policy")
    return Append(message.id, message, (event,), NOW + timedelta(seconds=number))


def answered(message: Message, number: int) -> Append:
    """Every third is deferred, the others delivered."""
    fact: dict[str, Any] = {"numbers": (0,), "next_hop": "home", "attempt": 1, "code": 250}
    if number % 3:
        event: Any = Delivered(address="127.0.0.1:25", tls="none", duration_ms=7, reply="2.0.0 OK", **fact)
    else:
        event = Deferred(**fact | {"code": 451}, retry_at=NOW, scope="message", policy="policy")
    return Append(message.id, message, (event,), NOW + timedelta(seconds=number))


def append(engine: Engine, *appends: Append) -> None:
    with writing(engine) as connection:
        assert log.append(connection, [Unit((one,)) for one in appends]) == [None] * len(appends)


def live(engine: Engine, number: int, size_octets: int = 200) -> None:
    """Append the life of one message."""
    first = opening(number, f"Subject: {number}\r\n\r\n".encode().ljust(size_octets, b"."))
    append(engine, first)
    assert isinstance(first.after, Message)
    second = attempted(first.after, number)
    append(engine, second)
    assert isinstance(second.after, Message)
    append(engine, answered(second.after, number))


def adopt(engine: Engine) -> None:
    event = Adopted(
        mailbox="info", uidls=(Adoption(uidl="old\xff", size_octets=9),), operator="anna", reason="test"
    )
    with reading(engine) as connection:
        before = log.mailbox(connection, "info")
    append(engine, Append(mailbox_stream("info"), before, (event,), NOW))


def rows(engine: Engine, table: Table) -> list[dict[str, Any]]:
    with reading(engine) as connection:
        found = connection.execute(select(table).order_by(*table.primary_key.columns)).mappings()
        return [dict(row) for row in found]


def derived(engine: Engine, table: Table) -> list[dict[str, Any]]:
    """Rows of a read table; who holds what is not history."""
    left_out = ("holder", "lease_until", "fence")
    return [{name: row[name] for name in row if name not in left_out} for row in rows(engine, table)]


def test_a_restored_store_is_the_store_row_by_row(
    database_url: str, tmp_path: Path, opened: Callable[[str], Engine]
) -> None:
    store = opened(database_url)
    for number in range(1, 8):
        live(store, number)
    adopt(store)
    kept = [sealed(store), sealed(store)]
    copied = backup.backup(store, tmp_path / "copy.db", migrations.upgrade)
    assert (copied.events, copied.messages, copied.octets) == (22, 7, 1400)
    again = opened(file_url(tmp_path / "again.db"))
    assert backup.restore(tmp_path / "copy.db", again) == copied
    assert findings(again, *kept) == []
    for table in (events_table, contents_table, seals_table):
        assert rows(again, table) == rows(store, table)
        assert rows(again, table)
    for table in DERIVED:
        assert derived(again, table) == derived(store, table)


def test_a_backup_restores_into_the_other_kind_of_database(
    database_url: str, sqlite_url: str, tmp_path: Path, opened: Callable[[str], Engine]
) -> None:
    """From an SQLite file into what the test was given; the sizes make several batches."""
    origin = opened(file_url(tmp_path / "origin.db"))
    live(origin, 1, copying.BATCH_OCTETS + 1)
    live(origin, 2, copying.BATCH_OCTETS - 1)
    live(origin, 3, 0)
    live(origin, 4, 2)
    sealed(origin)
    backup.backup(origin, tmp_path / "copy.db", migrations.upgrade)
    target = opened(database_url)
    backup.restore(tmp_path / "copy.db", target)
    assert rows(target, events_table) == rows(origin, events_table)
    assert rows(target, contents_table) == rows(origin, contents_table)
    assert rows(target, seals_table) == rows(origin, seals_table) != []
    for table in DERIVED:
        assert derived(target, table) == derived(origin, table)


def test_a_backup_made_while_others_append_is_the_store_at_one_moment(
    database_url: str, tmp_path: Path, opened: Callable[[str], Engine]
) -> None:
    store = opened(database_url)
    for number in range(1, 20):
        live(store, number)
    stop, done = threading.Event(), threading.Event()

    def go_on() -> None:
        number = 100
        while not stop.is_set():
            live(store, number)
            number += 1
            if number == 110:
                done.set()  # the backups begin amid the appends

    writer = threading.Thread(target=go_on)
    writer.start()
    try:
        assert done.wait(WAIT_SECONDS)
        files = [tmp_path / f"copy{number}.db" for number in range(3)]
        copies = [backup.backup(store, file, migrations.upgrade) for file in files]
    finally:
        stop.set()
        writer.join(WAIT_SECONDS)
    whole = rows(store, events_table)
    assert len(whole) > copies[-1].events or len(whole) > copies[0].events
    for file, copied in zip(files, copies, strict=True):
        with_read_tables = opened(file_url(file))
        assert rows(with_read_tables, events_table) == whole[: copied.events]
        opened_by = {row["position"] for row in whole[: copied.events] if row["name"] == "downloaded"}
        assert {row["position"] for row in rows(with_read_tables, contents_table)} == opened_by
        restored = opened(file_url(tmp_path / f"again-{file.name}"))
        backup.restore(file, restored)
        for table in DERIVED:
            assert derived(restored, table) == derived(with_read_tables, table)


def test_appending_goes_on_in_a_restored_store(
    database_url: str, tmp_path: Path, opened: Callable[[str], Engine]
) -> None:
    origin = opened(file_url(tmp_path / "origin.db"))
    live(origin, 3)
    backup.backup(origin, tmp_path / "copy.db", migrations.upgrade)
    store = opened(database_url)
    backup.restore(tmp_path / "copy.db", store)
    with reading(store) as connection:
        message = log.message(connection, "message000003")
        assert message is not None
        assert contents.get(connection, message) == b"Subject: 3\r\n\r\n".ljust(200, b".")
    append(store, attempted(message, 4))
    live(store, 5)
    assert [row["position"] for row in rows(store, events_table)] == list(range(1, 8))


def test_an_empty_store_can_be_backed_up_and_restored(
    database_url: str, tmp_path: Path, opened: Callable[[str], Engine]
) -> None:
    copied = backup.backup(opened(database_url), tmp_path / "copy.db", migrations.upgrade)
    assert copied == copying.Copied(events=0, messages=0, octets=0)
    assert backup.restore(tmp_path / "copy.db", opened(file_url(tmp_path / "again.db"))) == copied


def test_a_backup_is_one_private_file(
    database_url: str, tmp_path: Path, opened: Callable[[str], Engine]
) -> None:
    store = opened(database_url)
    live(store, 1)
    folder = tmp_path / "backups"
    folder.mkdir()
    backup.backup(store, folder / "copy 100%.db", migrations.upgrade)
    assert [file.name for file in folder.iterdir()] == ["copy 100%.db"]
    assert stat.S_IMODE((folder / "copy 100%.db").stat().st_mode) == 0o600
    before = (folder / "copy 100%.db").read_bytes()
    backup.restore(folder / "copy 100%.db", opened(file_url(tmp_path / "again.db")))
    assert [file.name for file in folder.iterdir()] == ["copy 100%.db"]
    assert (folder / "copy 100%.db").read_bytes() == before


def test_nothing_is_overwritten(sqlite_url: str, tmp_path: Path, opened: Callable[[str], Engine]) -> None:
    store = opened(sqlite_url)
    (tmp_path / "copy.db").write_text("precious")
    with pytest.raises(StoreError, match="exists already"):
        backup.backup(store, tmp_path / "copy.db", migrations.upgrade)
    assert (tmp_path / "copy.db").read_text() == "precious"


def test_a_backup_that_fails_leaves_nothing_behind(
    database_url: str, tmp_path: Path, opened: Callable[[str], Engine]
) -> None:
    store = opened(database_url)
    for number in range(30):
        live(store, number, 100_000)
    folder = tmp_path / "backups"
    folder.mkdir()

    class Stopped(Exception):
        pass

    def stop(doing: str, done: int, total: int) -> None:
        raise Stopped

    with pytest.raises((Stopped, StoreError)):
        backup.backup(store, folder / "copy.db", migrations.upgrade, stop)
    assert list(folder.iterdir()) == []
    with pytest.raises(StoreError, match=r"no backup was made: .*No such file or directory"):
        backup.backup(store, folder / "none" / "copy.db", migrations.upgrade)


def test_a_store_that_holds_something_is_not_restored_into(
    database_url: str, tmp_path: Path, opened: Callable[[str], Engine]
) -> None:
    store = opened(database_url)
    live(store, 1)
    backup.backup(store, tmp_path / "copy.db", migrations.upgrade)
    live(store, 2)
    before = rows(store, events_table)
    with pytest.raises(StoreError, match="the store is not empty"):
        backup.restore(tmp_path / "copy.db", store)
    assert rows(store, events_table) == before


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_a_damaged_backup_changes_nothing(
    kept: float, database_url: str, tmp_path: Path, opened: Callable[[str], Engine]
) -> None:
    origin = opened(file_url(tmp_path / "origin.db"))
    for number in range(40):
        live(origin, number, 20_000)
    backup.backup(origin, tmp_path / "copy.db", migrations.upgrade)
    whole = (tmp_path / "copy.db").read_bytes()
    (tmp_path / "cut.db").write_bytes(whole[: int(len(whole) * kept)])
    store = opened(database_url)
    with pytest.raises(StoreError, match=r"cut\.db|nothing was restored"):
        backup.restore(tmp_path / "cut.db", store)
    for table in (events_table, contents_table, *DERIVED):
        with reading(store) as connection:
            assert connection.scalar(select(func.count()).select_from(table)) == 0


@pytest.mark.parametrize(
    ("octets", "said"),
    [(None, "no such file"), (b"", "is no mailgate store"), (b"Dear backup, ..." * 99, "is no backup")],
)
def test_what_is_no_backup_is_refused_by_name(
    octets: bytes | None, said: str, sqlite_url: str, tmp_path: Path, opened: Callable[[str], Engine]
) -> None:
    file = tmp_path / "letter.db"
    if octets is not None:
        file.write_bytes(octets)
    with pytest.raises(StoreError, match=rf"letter\.db.*{said}"):
        backup.restore(file, opened(sqlite_url))


def test_progress_reaches_the_end(database_url: str, tmp_path: Path, opened: Callable[[str], Engine]) -> None:
    store = opened(database_url)
    for number in range(5):
        live(store, number)
    seen: list[tuple[str, int, int]] = []

    def see(doing: str, done: int, total: int) -> None:
        seen.append((doing, done, total))

    backup.backup(store, tmp_path / "copy.db", migrations.upgrade, see)
    assert any(done == total > 0 for _, done, total in seen)
    seen.clear()
    backup.restore(tmp_path / "copy.db", opened(file_url(tmp_path / "again.db")), see)
    assert seen[-1] == ("read tables", 15, 15)
