"""Each figure is what counting the messages that its filter finds gives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from sqlalchemy import Engine

from store import figures, queries
from store.database import reading
from store.figures import Period
from store.queries import Filter
from tests.store.build import after, append, attempted, failed, opening, then
from tests.store.conftest import KINDS, Fresh
from tests.store.history import History, write

Json = dict[str, Any]

WHOLE = Period(since=after(days=-1), until=after(days=20), step=timedelta(hours=1))
PART = Period(since=after(minutes=100), until=after(minutes=333), step=timedelta(minutes=20))
UNEQUAL = Period(
    since=after(hours=1),
    until=after(hours=9),
    step=timedelta(hours=2),
    begins=tuple(after(hours=n) for n in (1, 3, 4, 6, 8)),
)
NOTHING = Period(since=after(days=-9), until=after(days=-8), step=timedelta(hours=1))
EDGES = [timedelta(seconds=1), timedelta(minutes=1), timedelta(minutes=30)]


@pytest.fixture(scope="module", params=KINDS)
def lived(request: pytest.FixtureRequest, fresh: Fresh) -> Iterator[Engine]:
    with fresh(request.param) as engine:
        write(engine, History(Random(8)), 400)
        yield engine


def rows(engine: Engine, wanted: Filter) -> list[Json]:
    with reading(engine) as connection:
        return list(queries.every(connection, wanted))


def counted(engine: Engine, period: Period, key: Callable[[Json], Any]) -> Counter[Any]:
    found = rows(engine, Filter(since=period.since, until=period.until))
    return Counter((name, row["state"]) for row in found if (name := key(row)) is not None)


def test_edges_are_where_steps_begin_and_the_end() -> None:
    short = Period(since=after(hours=1), until=after(hours=3.5), step=timedelta(hours=1))
    assert short.edges() == [after(hours=n) for n in (1, 2, 3, 3.5)]
    even = Period(since=after(hours=1), until=after(hours=3), step=timedelta(hours=1))
    assert even.edges() == [after(hours=n) for n in (1, 2, 3)]


@pytest.mark.parametrize("period", [WHOLE, PART, NOTHING], ids=["whole", "part", "nothing"])
def test_counts_are_of_what_is_found(lived: Engine, period: Period) -> None:
    with reading(lived) as connection:
        found = [
            figures.by_step(connection, period),
            figures.by_mailbox(connection, period),
            figures.by_direction(connection, period),
        ]
    assert found == [
        counted(lived, period, lambda row: (row["opened_at"] - period.since) // period.step),
        counted(lived, period, lambda row: row["mailbox"]),
        counted(lived, period, lambda row: row["direction"]),
    ]
    assert bool(found[0]) == (period is not NOTHING)


def test_steps_may_be_of_different_length(lived: Engine) -> None:
    edges = UNEQUAL.edges()
    assert edges == [after(hours=n) for n in (1, 3, 4, 6, 8, 9)]
    with reading(lived) as connection:
        found = figures.by_step(connection, UNEQUAL)
    assert found == counted(lived, UNEQUAL, lambda row: sum(edge <= row["opened_at"] for edge in edges) - 1)
    assert len({n for n, _ in found}) > 1


@pytest.mark.parametrize("period", [WHOLE, PART, NOTHING], ids=["whole", "part", "nothing"])
def test_next_hops_are_those_of_the_filter(lived: Engine, period: Period) -> None:
    with reading(lived) as connection:
        found = figures.by_next_hop(connection, period)
    assert {name for name, _ in found} == (
        set() if period is NOTHING else {"home", "provider", "branch", "mx"}
    )
    for (name, state), number in found.items():
        wanted = Filter(next_hop=name, state=state, since=period.since, until=period.until)  # type: ignore[arg-type]
        assert len(rows(lived, wanted)) == number


@pytest.mark.parametrize("period", [WHOLE, PART, NOTHING], ids=["whole", "part", "nothing"])
def test_times_taken_are_those_of_the_filter(lived: Engine, period: Period) -> None:
    with reading(lived) as connection:
        found = figures.by_time_taken(connection, period, EDGES, ("delivered", "failed"))
    for n, (slower, faster) in enumerate(zip([None, *EDGES], [*EDGES, None], strict=True)):
        for state in ("delivered", "failed"):
            span = {"since": period.since, "until": period.until}
            wanted = Filter(slower=slower, faster=faster, state=state, **span)
            assert len(rows(lived, wanted)) == found[n, state]
    assert len(found) > 3 or period is not WHOLE


def test_replies_are_put_together_by_how_they_begin(store: Engine) -> None:
    said = [
        "550 5.1.1 <a@example.com>: no such user",
        "550 5.1.1 <b@example.com>: no such user",
        "550 5.1.10 RESOLVER.ADR.RecipientNotFound",
        "554 5.7.124 not allowed to send here",
        "550 no",
        "550 no such user here, and there never has been one",
        "550 No such user here, and there may never be another",
        "4.4.1 exchange.example.local:25: connection refused",
        "100% * _ \\ full\n, really",
        None,
    ]
    for n, reply in enumerate(said):
        tried = opening(f"m{n}")
        append(store, tried)
        sent = then(tried, attempted())
        append(store, sent, then(sent, failed(reply=reply)))
    with reading(store) as connection:
        found = figures.replies(connection, WHOLE, 20)
        numbers = {one.reply: figures.count(connection, one, WHOLE) for one in found}
        assert {one.state for one in found} == {"failed"}
        assert numbers == {
            "550 5.1.1 *": 2,
            "550 5.1.10 *": 1,
            "554 5.7.124 *": 1,
            "550 no": 1,
            "550 No such user here, and the*": 2,
            "4.4.1 exchange.example.local:2*": 1,
            "100% * _ \\ full*, really": 1,
            "": 1,
        }
        assert [one.reply for one in figures.replies(connection, WHOLE, 2)] == [
            "550 5.1.1 *",
            "550 No such user here, and the*",
        ]
        assert figures.replies(connection, NOTHING, 2) == []
        assert figures.count(connection, found[0], NOTHING) == 0
    for one in found:
        assert len(rows(store, one)) == numbers[one.reply]


def test_what_is_counted_by_reply_is_what_is_found(lived: Engine) -> None:
    with reading(lived) as connection:
        found = figures.replies(connection, PART, 50)
        numbers = [figures.count(connection, one, PART) for one in found]
    assert len(found) > 2
    for one, number in zip(found, numbers, strict=True):
        wanted = Filter(state=one.state, reply=one.reply, since=PART.since, until=PART.until)
        assert len(rows(lived, wanted)) == number > 0
