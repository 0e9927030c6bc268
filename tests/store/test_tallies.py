"""How much of what happened in an hour, and how long it took."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine

from store import tallies
from store.database import reading, writing
from store.events import Event, Quarantined, Scanned
from store.log import Append, Unit, append, message
from store.tallies import MOST_OCTETS, NO_BUCKET, Tally, bucket_of, middle_ms
from tests.store.build import (
    NOW,
    POLICY,
    after,
    attempted,
    deferred,
    delivered,
    downloaded,
    failed,
    oversize,
    relayed,
    submitted,
)

OCTETS = b"Subject: x\r\n\r\n"


def put(store: Engine, stream: str, *events: tuple[float, Event]) -> None:
    """Append events to a stream, each so many seconds after NOW."""
    for seconds, event in events:
        with writing(store) as connection:
            before = message(connection, stream)
            octets = OCTETS if before is None else None
            one = Append(stream, before, (event,), after(seconds=seconds), octets)
            assert append(connection, [Unit((one,))]) == [None]


def counted(store: Engine, hours: int = 1) -> dict[tuple[str, str, str], Tally]:
    with reading(store) as connection:
        found = list(tallies.between(connection, NOW, after(hours=hours - 1)))
    return {(one.kind, one.name, one.what): one for one in found}


def scanned(verdict: Any, duration_ms: int = 3, **facts: Any) -> Scanned:
    return Scanned(scanner="clamd", verdict=verdict, duration_ms=duration_ms, policy=POLICY, **facts)


def test_what_happened_is_counted_by_whom_it_concerns(store: Engine) -> None:
    put(store, "m1", (0, downloaded()), (1, scanned("clean")), (2, attempted()), (3, delivered()))
    put(store, "m2", (4, downloaded(uidl="2")), (5, scanned("clean", 300)), (6, attempted()))
    put(store, "m2", (7, deferred(retry_at=after(seconds=8))), (8, attempted()), (9, failed()))
    put(store, "m3", (10, submitted()), (11, attempted(next_hop="mx:a.example")))
    put(store, "m3", (12, relayed(next_hop="mx:a.example")))
    kept = Quarantined(reason="infected", rule="clamd found it", scanner="clamd", policy=POLICY)
    put(store, "m4", (13, downloaded(uidl="4")), (14, scanned("infected", 9)), (15, kept))
    put(store, "m4", (16, scanned("clean", late=True)), (17, scanned("error", 0, blame="scanner")))
    size = len(OCTETS)
    found = counted(store)
    assert {key: (one.count, one.octets) for key, one in found.items()} == {
        ("in", "info", "inbound"): (3, 3 * size),
        ("in", "", "outbound"): (1, size),
        ("scan", "clamd", "clean"): (2, 2 * size),
        ("scan", "clamd", "infected"): (1, size),
        ("scan", "clamd", "error"): (1, size),
        ("rescan", "clamd", "clean"): (1, size),
        ("out", "home", "delivered"): (1, size),
        ("out", "home", "deferred"): (1, size),
        ("out", "home", "failed"): (1, size),
        ("out", "mx", "relayed"): (1, size),
        ("kept", "clamd", "infected"): (1, size),
    }
    assert found["out", "home", "delivered"].spread == {bucket_of(3000): 1}
    assert found["out", "mx", "relayed"].spread == {bucket_of(2000): 1}
    assert found["scan", "clamd", "clean"].spread == {bucket_of(3): 1, bucket_of(300): 1}
    assert found["scan", "clamd", "error"].spread == {}


def test_sizes_that_nobody_can_believe_add_up_all_the_same(store: Engine) -> None:
    absurd = oversize(size_octets=999_999_999_999_999_999)
    several = [Append(f"m{n}", None, (absurd,), NOW) for n in range(20)]
    with writing(store) as connection:
        assert append(connection, [Unit((one,)) for one in several]) == [None] * 20
    for hours in range(20):
        put(store, f"n{hours}", (hours * 3_600, absurd))
    (one,) = counted(store, hours=20).values()
    assert (one.count, one.octets) == (40, 40 * MOST_OCTETS)


def test_only_the_hours_asked_for_are_counted(store: Engine) -> None:
    put(store, "m1", (0, downloaded()))
    put(store, "m2", (3600, downloaded(uidl="2")))
    put(store, "m3", (2 * 3600, downloaded(uidl="3")))
    assert [counted(store, hours)["in", "info", "inbound"].count for hours in (1, 2, 3)] == [1, 2, 3]


@pytest.mark.parametrize(("share", "expected"), [(0.5, 10), (0.95, 1000), (1.0, 1000)])
def test_a_quantile_is_what_so_many_did_not_exceed(share: float, expected: int) -> None:
    spread = {bucket_of(10): 60, bucket_of(100): 34, bucket_of(1000): 6}
    one = Tally(kind="scan", name="clamd", what="clean", count=100, octets=0, spread=spread)
    found = one.quantile_ms(share)
    assert found is not None
    assert abs(found - expected) <= expected / 8 + 1


def test_of_what_took_no_time_nothing_is_said() -> None:
    one = Tally(kind="in", name="info", what="inbound", count=1, octets=0, spread={})
    assert one.quantile_ms(0.5) is None


@given(st.integers(0, 10**12))
def test_a_bucket_tells_a_duration_to_an_eighth(milliseconds: int) -> None:
    bucket = bucket_of(milliseconds)
    assert bucket > NO_BUCKET
    assert abs(middle_ms(bucket) - milliseconds) <= milliseconds / 8 + 1


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_buckets_are_in_the_order_of_what_they_hold(one: int, other: int) -> None:
    assert (bucket_of(one) <= bucket_of(other)) or one > other
