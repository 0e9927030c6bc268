"""How many were open at some times is what a look at the store as it stood at each of them finds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.event import listen

from store import depth, past
from store.database import reading, writing
from store.queries import Filter
from store.recipient import ATTENTION
from tests.store.build import after, append, attempted, delivered, opening, then
from tests.store.conftest import KINDS, Fresh
from tests.store.history import History, write

HOUR = timedelta(hours=1)


@pytest.fixture(scope="module", params=KINDS)
def lived(request: pytest.FixtureRequest, fresh: Fresh) -> Iterator[Engine]:
    with fresh(request.param) as engine:
        write(engine, History(Random(47)), 400)
        yield engine


def looked_up(engine: Engine, at: datetime) -> dict[str, int]:
    with reading(engine) as connection:
        found = Counter(row["state"] for row in past.every(connection, Filter(), at))
    return {state: found[state] for state in ATTENTION}


def asked(engine: Engine, times: list[datetime]) -> list[dict[str, int]]:
    with reading(engine) as connection:
        found = depth.between(connection, times)
    return [{state: found[state][n] for state in ATTENTION} for n in range(len(times))]


@pytest.mark.parametrize(
    "times",
    [
        [after(minutes=n) for n in range(0, 700, 20)],
        [after(minutes=n) for n in range(300, 400, 5)] + [after(minutes=397.5)],
        [after(minutes=250), after(minutes=251)],
        [after(minutes=250)],
        [after(days=-3), after(days=-2)],
        [after(days=100)],
    ],
    ids=["whole", "part", "step", "one", "before", "after"],
)
@pytest.mark.parametrize("page", [3, 500])
def test_each_depth_is_that_of_the_store_as_it_stood(
    lived: Engine, times: list[datetime], page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(depth, "PAGE", page)
    assert asked(lived, times) == [looked_up(lived, at) for at in times]


def test_all_kinds_of_waiting_are_met(lived: Engine) -> None:
    met: Counter[str] = Counter()
    for found in asked(lived, [after(minutes=n) for n in range(0, 700, 20)]):
        met.update({state: count for state, count in found.items() if count})
    assert set(met) >= {"received", "deferred", "held", "outcome-unknown"}


def test_a_look_after_a_longer_step_finds_what_is_open_then(store: Engine) -> None:
    """As on the day on which summer time ends."""
    opened = opening("m1")
    append(store, opened)
    append(store, then(opened, attempted(), delivered(), at=after(minutes=20)))
    times = [after(hours=n, minutes=10) for n in (-19, -13, -7, 0, 6, 8)]
    assert [found["received"] for found in asked(store, times)] == [0, 0, 0, 1, 0, 0]
    assert asked(store, times) == [looked_up(store, at) for at in times]


def test_a_message_that_is_closed_between_two_looks_is_in_none(store: Engine) -> None:
    opened = opening("m1")
    append(store, opened)
    tried = then(opened, attempted(), at=after(seconds=1))
    append(store, tried)
    append(store, then(tried, delivered(), at=after(minutes=10)))
    with reading(store) as connection:
        found = depth.between(connection, [after(minutes=n) for n in (-5, 5, 15)])
    assert found == {state: [0, int(state == "outcome-unknown"), 0] for state in ATTENTION}


def test_a_clock_that_went_back_counts_as_the_log_has_it(store: Engine) -> None:
    opened = opening("m1")
    append(store, opened)
    tried = then(opened, attempted(), at=after(hours=3))
    append(store, tried)
    append(store, then(tried, delivered(), at=after(hours=1.5)))
    times = [after(hours=n) for n in range(-1, 5)]
    assert asked(store, times) == [looked_up(store, at) for at in times]


def test_what_was_closed_at_once_is_never_read(lived: Engine) -> None:
    """Each query is led by an index, or goes through the span it is about."""
    statements: list[tuple[str, Any]] = []
    with writing(lived) as connection:
        listen(connection, "before_cursor_execute", lambda *given: statements.append((given[2], given[3])))
        depth.between(connection, [after(minutes=400), after(minutes=460)])
        if connection.dialect.name == "postgresql":
            connection.execute(text("SET LOCAL enable_seqscan = off"))
        how = "EXPLAIN QUERY PLAN " if connection.dialect.name == "sqlite" else "EXPLAIN "
        plans = [
            str(connection.exec_driver_sql(how + sql, parameters).all())
            for sql, parameters in list(statements)
            if "messages" in sql and "ORDER BY" in sql
        ]
    assert any("messages_slow" in plan for plan in plans)
    assert sum("messages_state" in plan for plan in plans) == len(ATTENTION)
    assert not any("TEMP B-TREE" in plan or "Sort" in plan for plan in plans)
