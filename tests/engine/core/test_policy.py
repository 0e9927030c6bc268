"""How long to wait after failures in a row."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.policy import JITTER, backoff, longest_backoff
from tests.engine.core.lives import policy

MIDDLE = 0.5  # the jitter that changes nothing


@pytest.mark.parametrize(
    ("failures", "minutes"), [(0, 5), (1, 5), (2, 10), (3, 20), (4, 40), (5, 60), (6, 60), (1_000_000, 60)]
)
def test_the_wait_doubles_up_to_the_cap(failures: int, minutes: int) -> None:
    assert backoff(policy(), failures, MIDDLE) == timedelta(minutes=minutes)


def test_a_first_wait_above_the_cap_is_the_cap() -> None:
    assert backoff(policy(first=timedelta(hours=2)), 1, MIDDLE) == timedelta(hours=1)


def test_jitter_is_a_tenth_of_the_wait_either_way() -> None:
    assert backoff(policy(), 1, 0.0) == timedelta(minutes=5) * (1 - JITTER)
    assert backoff(policy(), 1, 1.0) == timedelta(minutes=5) * (1 + JITTER)


def test_the_longest_wait_is_that_of_the_worst_luck() -> None:
    assert longest_backoff(policy()) == backoff(policy(), 99, 1.0) == timedelta(minutes=66)


@given(
    first=st.timedeltas(min_value=timedelta(seconds=1), max_value=timedelta(days=365)),
    cap=st.timedeltas(min_value=timedelta(seconds=1), max_value=timedelta(days=365)),
    failures=st.integers(0, 10_000),
    jitter=st.floats(0, 1),
)
def test_the_wait_is_within_a_tenth_of_what_first_and_cap_allow(
    first: timedelta, cap: timedelta, failures: int, jitter: float
) -> None:
    waits = backoff(policy(first=first, cap=cap), failures, jitter)
    rounding = timedelta(microseconds=1)
    assert min(first, cap) * (1 - JITTER) - rounding <= waits <= cap * (1 + JITTER) + rounding


@given(failures=st.integers(1, 100), jitter=st.floats(0, 1))
def test_one_failure_more_never_makes_the_wait_shorter(failures: int, jitter: float) -> None:
    assert backoff(policy(), failures, jitter) <= backoff(policy(), failures + 1, jitter)
