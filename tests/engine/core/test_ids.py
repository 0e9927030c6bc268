"""Ids of messages: sixteen characters that sort by time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.ids import ALPHABET, LENGTH, RANDOM_BITS, message_id

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
times = st.timedeltas(timedelta(0), datetime(9999, 12, 31, tzinfo=UTC) - EPOCH).map(lambda span: EPOCH + span)
randoms = st.integers(0, (1 << RANDOM_BITS) - 1)


def read(written: str) -> int:
    value = 0
    for character in written:
        value = value * 32 + ALPHABET.index(character)
    return value


def test_an_id_is_this() -> None:
    assert message_id(EPOCH + 1000 * MILLISECOND, 1) == "00000003x0000001"


@given(times, randoms)
def test_an_id_has_sixteen_characters_that_tell_the_millisecond_and_the_random_bits(
    now: datetime, random: int
) -> None:
    written = message_id(now, random)
    assert len(written) == LENGTH
    assert divmod(read(written), 1 << RANDOM_BITS) == ((now - EPOCH) // MILLISECOND, random)


@given(times, times, randoms, randoms)
def test_ids_of_different_milliseconds_sort_by_time(
    one: datetime, other: datetime, random: int, other_random: int
) -> None:
    if (one - EPOCH) // MILLISECOND < (other - EPOCH) // MILLISECOND:
        assert message_id(one, random) < message_id(other, other_random)


def test_more_random_bits_than_fit_do_not_touch_the_time() -> None:
    assert message_id(EPOCH, (1 << RANDOM_BITS) + 5) == message_id(EPOCH, 5)


def test_the_zone_of_the_time_makes_no_difference() -> None:
    there = timezone(timedelta(hours=5))
    assert message_id(datetime(2026, 3, 1, 17, tzinfo=there), 7) == message_id(
        datetime(2026, 3, 1, 12, tzinfo=UTC), 7
    )


@pytest.mark.parametrize("letter", "ilou")
def test_no_letter_can_be_taken_for_a_digit(letter: str) -> None:
    assert letter not in ALPHABET
