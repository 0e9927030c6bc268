"""A configuration differs in nothing from what it decided itself; another differs where it should, and is asked no further."""

from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.backtest import compare
from store.life import fold
from tests.engine.core.simulated import Gateway, configuration


@settings(max_examples=400, deadline=None)
@given(st.integers(min_value=0))
def test_a_configuration_differs_in_nothing_from_its_own_history(seed: int) -> None:
    random = Random(seed)
    candidate = configuration(random)
    gateway = Gateway(random, candidate)
    for _ in range(5):
        story = gateway.life()
        assert list(compare("m1", story, candidate)) == []


@settings(max_examples=200, deadline=None)
@given(st.integers(min_value=0))
def test_whatever_another_decides_each_recipient_differs_once(seed: int) -> None:
    random = Random(seed)
    story = Gateway(random, configuration(random)).life()
    other = configuration(random)
    found = list(compare("m1", story, other))
    assert found == list(compare("m1", story, other))
    message = fold("m1", story)
    assert message is not None
    told = Counter(address for one in found for address in one.recipients)
    there = Counter(r.address for r in message.recipients)
    assert all(told[address] <= there[address] for address in told)
    for one in found:
        assert story[one.revision][1] == one.at
        assert one.was != one.would
        assert one.why


def test_simulated_lives_have_every_event_that_a_policy_decides() -> None:
    seen: Counter[str] = Counter()
    for seed in range(300):
        random = Random(seed)
        seen.update(event.NAME for event, _ in Gateway(random, configuration(random)).life())
    decided = {
        "downloaded",
        "submitted",
        "rejected-oversize",
        "held",
        "quarantined",
        "discarded",
        "attempted",
    }
    assert decided | {"deferred", "failed", "scanned", "redelivery-requested", "released"} <= seen.keys()
