"""How far something was told: never past what was not taken, and never twice what was."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from engine.core.cursor import Cursor


def test_it_stands_before_the_first_that_is_not_taken() -> None:
    cursor = Cursor()
    cursor.begin(10)
    cursor.look([12, 15, 16], 20)
    assert cursor.position == 11
    cursor.took(15)
    assert cursor.position == 11
    cursor.took(12)
    assert cursor.position == 15
    cursor.took(16)
    assert cursor.position == 20


def test_what_nobody_wants_is_passed_at_once() -> None:
    cursor = Cursor()
    cursor.begin(3)
    cursor.look([], 2_003)
    assert cursor.position == 2_003


def test_what_was_taken_beyond_it_is_not_waited_for_again() -> None:
    cursor = Cursor()
    cursor.begin(0)
    cursor.look([1, 2, 3], 3)
    cursor.took(2)
    cursor.begin(0)
    cursor.look([1, 2, 3], 3)
    assert [position for position in (1, 2, 3) if cursor.waits(position)] == [1, 3]
    cursor.took(1)
    assert cursor.position == 2


def test_it_stays_ahead_of_a_record_that_could_not_be_kept() -> None:
    cursor = Cursor()
    cursor.begin(0)
    cursor.look([1, 2], 2)
    cursor.took(1)
    cursor.begin(0)
    assert cursor.position == 1
    assert not cursor.waits(1)


def test_somebody_else_may_have_gone_further() -> None:
    cursor = Cursor()
    cursor.begin(0)
    cursor.look([1, 2, 3], 3)
    cursor.took(3)
    cursor.begin(2)
    cursor.look([3, 4], 4)
    assert (cursor.position, cursor.waits(3), cursor.waits(4)) == (3, False, True)


@given(wanted=st.sets(st.integers(1, 60)), seed=st.integers(), stops=st.integers(1, 9))
def test_whatever_the_order_each_is_taken_once_and_none_is_passed(
    wanted: set[int], seed: int, stops: int
) -> None:
    """Begun anew again and again, with some taken each time and no more on record than the position."""
    random, cursor, taken = Random(seed), Cursor(), []
    record = 0
    for _ in range(stops):
        cursor.begin(record)
        there = sorted(position for position in wanted if position > cursor.position)
        cursor.look(there, 60)
        waiting = [position for position in there if cursor.waits(position)]
        for position in random.sample(waiting, random.randint(0, len(waiting))):
            taken.append(position)
            cursor.took(position)
            assert {passed for passed in wanted if passed <= cursor.position} <= set(taken)
        if random.random() < 0.7:
            record = cursor.position
        cursor = cursor if random.random() < 0.9 else _restarted(cursor, record, taken)
    assert len(taken) == len(set(taken))


def _restarted(cursor: Cursor, record: int, taken: list[int]) -> Cursor:
    """A process that knows only what is on record: it would take again what is beyond."""
    taken[:] = [position for position in taken if position <= record]
    return Cursor()
