"""Whatever is not as it was written is named, the first of it first (promise P7)."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from sqlalchemy import Engine, select

from store import erasing, pages, verify
from store.database import reading, writing
from store.read_tables import messages
from store.schema import contents, events
from store.verified import Count
from tests.store.attack import Row, findings, rewrite, sealed
from tests.store.build import after, append, attempted, delivered, opening, rows, then, unguarded
from tests.store.history import History, write

UNLIKE = "its hash is not that of its facts and of the event before it"
UNTOLD = "its personal facts are gone, and no 'erased' tells of it"


@pytest.fixture
def lives(store: Engine) -> Engine:
    """m1 has the positions 1, 3 and 4; m2 has 2, and m3 has 5."""
    one = opening("m1")
    two = then(one, attempted())
    append(store, one, opening("m2"), two, then(two, delivered()), opening("m3"))
    return store


def octets(engine: Engine) -> list[str]:
    with reading(engine) as connection:
        return [str(one) for one in verify.contents(connection, Count())]


@pytest.mark.parametrize("seed", range(3))
def test_whatever_the_engine_writes_verifies(
    seed: int, store: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(store, History(Random(seed)), 120)
    log = rows(store, events)
    for remembered, page in ((50_000, 1_000), (1, 3)):
        monkeypatch.setattr(verify, "REMEMBERED", remembered)
        monkeypatch.setattr(pages, "PAGE_ROWS", page)
        count = Count()
        assert findings(store, count=count) == []
        assert (count.events, count.streams) == (len(log), len({row["stream"] for row in log}))
    assert octets(store) == []


def test_an_erasure_accounts_for_what_it_names_alone(lives: Engine) -> None:
    with writing(lives) as connection:
        erasing.erase(connection, "m1", operator="anna", reason="request 7", at=after(days=1))
    assert findings(lives) == []
    unguarded(lives, "UPDATE events SET personal = NULL, salt = NULL WHERE position IN (2, 5)")
    append(lives, opening("m4"))
    assert findings(lives) == [
        f"position 2 (m2, revision 0): {UNTOLD}",
        f"position 5 (m3, revision 0): {UNTOLD}",
    ]


def test_what_is_gone_of_a_stream_of_another_kind_is_named_too(sqlite_store: Engine) -> None:
    append(sqlite_store, opening("m1"), opening("m2"))
    unguarded(
        sqlite_store,
        "UPDATE events SET personal = NULL, salt = NULL",
        "UPDATE events SET stream = CAST(stream AS BLOB) WHERE position = 1",
    )
    assert [line for line in findings(sqlite_store) if line.endswith(UNTOLD)] == [
        f"position 1 (b'm1', revision 0): {UNTOLD}",
        f"position 2 (m2, revision 0): {UNTOLD}",
    ]


def test_an_empty_log_verifies(store: Engine) -> None:
    assert findings(store) == octets(store) == []


def test_a_log_whose_personal_facts_were_erased_verifies_and_its_seals_hold(store: Engine) -> None:
    write(store, History(Random(7)), 80)
    seal = sealed(store)
    streams = [row["id"] for row in rows(store, messages)][::3]
    for stream in streams:
        with writing(store) as connection:
            erasing.erase(connection, stream, operator="anna", reason="request 7", at=after(days=1))
    count = Count()
    assert findings(store, seal, count=count) == []
    kept = [row for row in rows(store, events) if row["digest"] is not None and row["personal"] is None]
    assert count.erased == len(kept) > 0
    assert (count.seals, count.sealed_until) == (2, count.events - len(streams))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("data = CAST('{}' AS {bytes})", [UNLIKE]),
        ("at = at + 1", [UNLIKE]),
        ("digest = hash", [UNLIKE, "its personal facts are not those that its digest stands for"]),
        ("digest = NULL", [UNLIKE, "its personal facts are not those that its digest stands for"]),
        ("personal = data", ["its personal facts are not those that its digest stands for"]),
        ("salt = hash", ["its personal facts are not those that its digest stands for"]),
        ("salt = NULL", ["its personal facts are not those that its digest stands for"]),
        ("personal = NULL", ["its personal facts are gone and their salt is not", UNTOLD]),
        ("personal = NULL, salt = NULL", [UNTOLD]),
        ("version = 9", [UNLIKE, "'downloaded' version 9 is newer than this program: upgrade mailgate"]),
        ("name = 'arrived'", [UNLIKE, "no event is called 'arrived'"]),
        ("hash = salt", [UNLIKE]),
        ("revision = 3", ["revision 2 does not stand before it"]),
        ("stream = 'm9'", [UNLIKE]),
    ],
)
def test_each_change_of_an_event_is_named(change: str, found: list[str], lives: Engine) -> None:
    kind = "BLOB" if lives.dialect.name == "sqlite" else "BYTEA"
    unguarded(lives, f"UPDATE events SET {change.replace('{bytes}', kind)} WHERE position = 2")
    row = rows(lives, events)[1]
    assert findings(lives) == [
        f"position 2 ({row['stream']}, revision {row['revision']}): {what}" for what in found
    ]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"version": 9}, "'downloaded' version 9 is newer than this program: upgrade mailgate"),
        ({"name": "arrived"}, "no event is called 'arrived'"),
    ],
)
def test_an_event_that_this_program_does_not_know_is_named_though_its_hash_fits(
    change: Row, found: str, lives: Engine
) -> None:
    rewrite(lives, lambda every: [one | change if one["position"] == 2 else one for one in every])
    assert findings(lives) == [f"position 2 (m2, revision 0): {found}"]


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (
            "DELETE FROM events WHERE position = 2",
            ["position 2: no event is here: positions without one are 2"],
        ),
        (
            "DELETE FROM events WHERE position IN (2, 3)",
            [
                "position 2: no event is here: positions without one are 2 to 3",
                "position 4 (m1, revision 2): revision 1 does not stand before it",
            ],
        ),
        (
            "DELETE FROM events WHERE position = 1",
            [
                "position 1: no event is here: positions without one are 1",
                "position 3 (m1, revision 1): revision 0 does not stand before it",
            ],
        ),
        (
            "UPDATE events SET position = 6 WHERE position = 1",
            [
                "position 1: no event is here: positions without one are 1",
                "position 3 (m1, revision 1): revision 0 does not stand before it",
            ],
        ),
        (
            "UPDATE events SET position = -4 WHERE position = 5",
            ["position -4 (m3, revision 0): it stands before the first position, where nothing is written"],
        ),
        (
            "UPDATE events SET hash = digest WHERE position = 1",
            [f"position 1 (m1, revision 0): {UNLIKE}", f"position 3 (m1, revision 1): {UNLIKE}"],
        ),
    ],
)
@pytest.mark.parametrize("remembered", [50_000, 0])
def test_what_is_gone_or_moved_is_named(
    remembered: int, damage: str, found: list[str], lives: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "REMEMBERED", remembered)
    monkeypatch.setattr(pages, "PAGE_ROWS", 1 if remembered == 0 else 1_000)
    unguarded(lives, damage)
    # That it comes too late shows at the one that it should have come before; by then its stream may be forgotten.
    assert [line for line in findings(lives) if not line.startswith("position 6 (m1")] == found


@pytest.mark.parametrize(
    "column", ["stream", "name", "data", "digest", "salt", "personal", "hash", "version"]
)
def test_a_value_of_another_kind_is_named_and_breaks_nothing(column: str, sqlite_store: Engine) -> None:
    append(sqlite_store, opening("m1"), opening("m2"))
    other = "CAST('m1' AS BLOB)" if column in ("stream", "name") else "'text'"
    unguarded(sqlite_store, f"UPDATE events SET {column} = {other} WHERE position = 1")
    found = findings(sqlite_store)
    assert found
    assert all(line.startswith("position 1 (") for line in found)


def test_octets_that_are_not_those_that_arrived_are_named(lives: Engine) -> None:
    with writing(lives) as connection:
        connection.execute(contents.update().where(contents.c.position == 2).values(octets=b"Subject: y"))
        connection.execute(contents.insert().values(position=4, octets=b"of nobody"))
        connection.execute(contents.delete().where(contents.c.position == 1))
    assert octets(lives) == [
        "position 2 (m2, revision 0): its octets are not those that arrived",
        "position 4: octets are kept here, and no message was opened",
    ]


def test_octets_are_looked_at_a_few_at_a_time(lives: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store.copying.BATCH_OCTETS", 10)
    monkeypatch.setattr("store.copying.BATCH_ROWS", 2)
    count = Count()
    with reading(lives) as connection:
        assert list(verify.contents(connection, count)) == []
        assert count.contents == len(connection.execute(select(contents.c.position)).all()) == 3


def test_progress_reaches_the_end(lives: Engine) -> None:
    seen: list[tuple[Any, ...]] = []
    with reading(lives) as connection:
        list(verify.log(connection, 5, Count(), progress=lambda *said: seen.append(said)))
        list(verify.contents(connection, Count(), lambda *said: seen.append(said)))
    assert seen == [("events", 5, 5), ("contents", 3, 3)]
