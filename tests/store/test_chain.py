"""The hashes as stored follow from the rows alone, before and after erasure, and from no other rows."""

from __future__ import annotations

import json
from hashlib import sha256
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine

from store.chain import digest, link
from store.database import writing
from store.schema import events
from tests.store.build import append, attempted, delivered, opening, rows, then, unguarded
from tests.store.history import History, write

Row = dict[str, Any]


def hash_of(previous: bytes, row: Row) -> bytes:
    """The hash of an event, worked out again from the words of the design."""
    mark = None if row["digest"] is None else row["digest"].hex()
    head = [row["stream"], row["revision"], row["name"], row["version"], row["at"], mark]
    framed = json.dumps(head, separators=(",", ":"), ensure_ascii=False).encode()
    return sha256(previous + framed + row["data"]).digest()


def broken(log: list[Row]) -> list[tuple[str, int]]:
    """Where the chains don't hold."""
    heads: dict[str, bytes] = {}
    found: list[tuple[str, int]] = []
    for row in log:
        good = row["hash"] == hash_of(heads.get(row["stream"], bytes(32)), row)
        if row["personal"] is not None:
            good = good and row["digest"] == sha256((row["salt"] or b"") + row["personal"]).digest()
        if not good:
            found.append((row["stream"], row["revision"]))
        heads[row["stream"]] = row["hash"]
    return found


def test_every_chain_verifies_from_the_rows_alone(store: Engine) -> None:
    write(store, History(Random(11)), 150)
    log = rows(store, events)
    assert broken(log) == []
    assert len({row["hash"] for row in log}) == len(log)


def test_chains_still_verify_once_personal_facts_are_erased(store: Engine) -> None:
    write(store, History(Random(12)), 60)
    with writing(store) as connection:
        connection.exec_driver_sql("UPDATE events SET personal = NULL, salt = NULL")
    log = rows(store, events)
    assert broken(log) == []
    assert all(row["personal"] is None and row["salt"] is None for row in log)
    assert any(row["digest"] is not None for row in log)


@pytest.mark.parametrize(
    "change",
    [
        "stream = 'm9'",
        "revision = 7",
        "name = 'relayed'",
        "version = 0",
        "at = at + 1",
        "data = CAST('{}' AS {bytes})",
        "digest = NULL",
        "digest = salt",
        "personal = CAST('[]' AS {bytes})",
        "salt = hash",
        "hash = digest",
    ],
)
def test_any_column_changed_behind_the_triggers_back_shows(change: str, store: Engine) -> None:
    first = opening()
    second = then(first, attempted())
    append(store, first, second, then(second, delivered()))
    kind = "BLOB" if store.dialect.name == "sqlite" else "BYTEA"
    unguarded(store, f"UPDATE events SET {change.replace('{bytes}', kind)} WHERE position = 2")
    assert broken(rows(store, events))


def test_an_event_taken_out_of_the_middle_shows(store: Engine) -> None:
    first = opening()
    second = then(first, attempted())
    append(store, first, second, then(second, delivered()))
    unguarded(store, "DELETE FROM events WHERE position = 2")
    assert broken(rows(store, events)) == [("m1", 2)]


def test_equal_personal_facts_have_different_digests(store: Engine) -> None:
    append(store, opening("m1"), opening("m2"))
    one, other = rows(store, events)
    assert one["personal"] == other["personal"]
    assert one["digest"] != other["digest"]
    assert len(one["salt"]) == 16


rows_of_one = st.fixed_dictionaries(
    {
        "stream": st.text(st.characters(exclude_categories=["Cs"]), max_size=3),
        "revision": st.integers(0, 12),
        "name": st.sampled_from(["a", "a1", "1"]),
        "version": st.integers(0, 12),
        "at": st.integers(0, 12),
        "data": st.sampled_from([b"{}", b"", b"[]"]),
        "digest": st.sampled_from([None, b"\1", b"\1\2"]),
    }
)


@given(rows_of_one, rows_of_one)
def test_two_different_events_never_hash_alike(one: Row, other: Row) -> None:
    before = bytes(32)
    assert link(before, **one) == hash_of(before, one)
    assert (link(before, **one) == link(before, **other)) == (one == other)
    assert link(b"\1" * 32, **one) != link(before, **one)


def test_the_digest_needs_the_salt() -> None:
    assert digest(b"a" * 16, b"x") != digest(b"b" * 16, b"x")
