"""The whole store held against a configuration, on both databases."""

from __future__ import annotations

from random import Random

from sqlalchemy import Engine

import migrations
from engine import backtest
from engine.core.arrival import Candidate
from engine.core.backtest import Story, compare
from store import erasing
from store.database import open_store, reading, writing
from store.log import Append, Unit, append
from store.queries import Filter
from tests.engine.core.lives import NOON
from tests.engine.core.simulated import Gateway, configuration

LIVES = 230  # more than are read together


def recorded(engine: Engine, candidate: Candidate, random: Random) -> dict[str, Story]:
    """Fill a store with simulated lives; returns them by their ids, oldest first."""
    migrations.upgrade(engine)
    stories = {f"m{number:03}": Gateway(random, candidate).life() for number in range(LIVES)}
    with writing(engine) as connection:
        for stream, story in stories.items():
            before = None
            for event, at in story:
                octets = b"" if before is None else None
                one = Append(stream, before, (event,), at, octets)
                assert append(connection, [Unit((one,))]) == [None]
                before = one.after
    return stories


def test_its_own_history_differs_in_nothing_and_another_s_as_each_message_says(database_url: str) -> None:
    random = Random(4711)
    own, other = configuration(random), configuration(random)
    engine = open_store(database_url)
    stories = recorded(engine, own, random)
    with reading(engine) as connection:
        every = list(backtest.tested(connection, Filter(), own))
        changed = list(backtest.tested(connection, Filter(), other))
        inbound = list(backtest.tested(connection, Filter(mailbox="info"), other))
    assert [one.stream for one in every] == list(stories)[::-1]
    assert not any(one.differences or one.untold for one in every)
    assert [one.differences for one in changed] == [
        tuple(compare(stream, stories[stream], other)) for stream in list(stories)[::-1]
    ]
    assert 0 < sum(bool(one.differences) for one in changed) < LIVES
    assert 0 < len(inbound) < LIVES
    engine.dispose()


def test_what_was_erased_is_told_apart(database_url: str) -> None:
    random = Random(7)
    own = configuration(random)
    engine = open_store(database_url)
    recorded(engine, own, random)
    with writing(engine) as connection:
        erasing.erase(connection, "m007", operator="anna", reason="so", at=NOON)
    with reading(engine) as connection:
        untold = [one for one in backtest.tested(connection, Filter(), configuration(random)) if one.untold]
    assert [(one.stream, one.differences) for one in untold] == [("m007", ())]
    engine.dispose()
