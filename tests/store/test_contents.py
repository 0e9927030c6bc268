"""Octets come back as they arrived, or not at all (promise P4)."""

from __future__ import annotations

import os
from datetime import datetime

import pytest
from msgspec.structs import replace
from sqlalchemy import Engine, delete, update

from store import contents, log
from store.database import reading, writing
from store.errors import Damaged
from store.life import Message
from store.log import LARGE_OCTETS, Append
from store.schema import contents as table
from tests.store.build import (
    NOW,
    after,
    append,
    attempted,
    delivered,
    message,
    opening,
    oversize,
    rows,
    then,
)

ALL_OCTETS = bytes(range(256)) * 3 + b"\r\n.\r\n\0\xff\r\r\n\n"


def get(engine: Engine, stream: str = "m1") -> bytes | None:
    with reading(engine) as connection:
        return contents.get(connection, message(connection, stream))


@pytest.mark.parametrize("size", [0, 1, LARGE_OCTETS, LARGE_OCTETS + 1])
def test_octets_come_back_as_they_arrived(size: int, store: Engine) -> None:
    octets = (ALL_OCTETS * (size // len(ALL_OCTETS) + 1))[:size]
    append(
        store, opening("m1", octets=octets), opening("m2", octets=ALL_OCTETS), opening("m3", octets=octets)
    )
    assert (get(store), get(store, "m2"), get(store, "m3")) == (octets, ALL_OCTETS, octets)


def test_forty_megabytes_come_back_as_they_arrived(store: Engine) -> None:
    octets = os.urandom(1 << 20) * 40
    append(store, opening(octets=octets))
    assert get(store) == octets


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("size", [10, LARGE_OCTETS + 10])
def test_octets_may_come_in_any_kind_of_buffer(kind: type, size: int, store: Engine) -> None:
    octets = os.urandom(size)
    facts = opening(octets=octets).events
    append(store, Append("m1", None, facts, NOW, kind(octets)))
    assert get(store) == octets


@pytest.mark.parametrize("damage", [b"", b"Subject: y\r\n\r\n", b"Subject: x\r\n\r\n\0"])
def test_octets_that_are_not_those_that_arrived_are_never_given_out(damage: bytes, store: Engine) -> None:
    append(store, opening())
    with writing(store) as connection:
        connection.execute(update(table).values(octets=damage))
    with pytest.raises(Damaged, match="message m1: the stored octets are not those that arrived"):
        get(store)


def test_the_beginning_is_what_stands_there(store: Engine) -> None:
    octets = ALL_OCTETS * 1_000
    append(
        store, opening("m1", octets=octets), opening("m2", octets=b""), Append("m3", None, (oversize(),), NOW)
    )
    with reading(store) as connection:
        for size in (1, 700, len(octets), len(octets) + 1):
            assert contents.beginning(connection, message(connection), size) == octets[:size]
        assert contents.beginning(connection, message(connection, "m2"), 9) == b""
        assert contents.beginning(connection, message(connection, "m3"), 9) is None


def test_there_are_no_octets_of_what_was_never_here_or_is_gone(store: Engine) -> None:
    append(store, Append("m1", None, (oversize(),), NOW), opening("m2"), opening("m3"))
    assert get(store) is None
    with writing(store) as connection:
        connection.execute(delete(table).where(table.c.position == 2))
    assert get(store, "m2") is None
    assert get(store, "m3") is not None
    assert [row["position"] for row in rows(store, table)] == [3]


def test_octets_of_an_unknown_message_are_none(store: Engine) -> None:
    unknown = opening("nobody").after
    assert isinstance(unknown, Message)
    with reading(store) as connection:
        assert contents.get(connection, replace(unknown, id="else")) is None
        assert log.message(connection, "nobody") is None


def test_octets_of_what_is_closed_are_found_page_by_page_oldest_first(store: Engine) -> None:
    first = [opening(f"m{n}") for n in range(5)]
    append(store, *first)
    append(store, *(then(first[n], attempted(), delivered(), at=after(days=n)) for n in (0, 1, 3, 4)))

    def closed(before: datetime, limit: int) -> list[str]:
        found, behind = [], 0
        with reading(store) as connection:
            while behind is not None:
                some, behind = contents.closed(connection, before, behind, limit)
                found += [name for name, _ in some]
        return found

    for limit in (1, 2, 100):
        assert closed(after(days=3), limit) == ["m0", "m1", "m3"]
        assert closed(after(days=-1), limit) == []
    with writing(store) as connection:
        contents.drop(connection, ["m1", "m3"])
    assert [get(store, name) is None for name in ("m0", "m1", "m2", "m3", "m4")] == [
        False,
        True,
        False,
        True,
        False,
    ]
    assert closed(after(days=9), 1) == ["m0", "m4"]
