"""A broken line of a listing says so of one message, and never ends the reading."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.wire import pop3_listing
from engine.wire.pop3_listing import OFFERS_LIMIT, TooManyOffers, sizes_of, uidls_of


def test_a_broken_line_of_a_listing_costs_only_its_own_message() -> None:
    lines = (
        b"1 120\r\n2\r\nrubbish\r\n3 -5\r\n4  9 more\r\n5 1_0\r\n\r\n6 6\r\n6 7\r\n0 9\r\n99999999999 1\r\n"
    )

    sizes = list(sizes_of(lines, b"\r\n"))

    assert [number for number, _ in sizes] == [1, 2, None, 3, 4, 5, None, 6, 6, None, None]
    assert [pair for pair in sizes if pair[0] is not None] == [
        (1, 120), (2, None), (3, None), (4, 9), (5, None), (6, 6), (6, 7),
    ]  # fmt: skip


def test_uidls_are_kept_verbatim_whatever_they_hold() -> None:
    long = b"u" * 60_000
    lines = (
        b"1 a b  c \r\n2 \xff\0\r\r\n3 "
        + long
        + b"\r\n4 "
        + b"u" * 66_000
        + b"\r\n5\r\n6 same\r\n7 same\r\n8 a\r\n8 b\r\n"
    )

    assert list(uidls_of(lines, b"\r\n")) == [
        (1, b"a b  c "), (2, b"\xff\0\r"), (3, long), (4, None), (5, None), (6, b"same"), (7, b"same"), (8, b"a"),
        (8, b"b"),
    ]  # fmt: skip


def test_a_listing_has_a_bound() -> None:
    body = b"1 1\r\n" * (OFFERS_LIMIT + 1)

    with pytest.raises(TooManyOffers):
        next(sizes_of(body, b"\r\n"))


@given(st.binary(max_size=60))
def test_no_listing_whatever_raises(body: bytes) -> None:
    list(sizes_of(body, b"\r\n"))
    list(uidls_of(body, b"\n"))


@given(
    st.lists(st.binary(max_size=12).filter(lambda line: b"\n" not in line)),
    st.booleans(),
    st.sampled_from([b"\r\n", b"\n"]),
    st.integers(1, 20),
)
def test_lines_are_the_same_however_many_are_split_at_once(
    lines: list[bytes], ended: bool, line_end: bytes, octets: int
) -> None:
    body = line_end.join(lines) + (line_end if lines and ended else b"")
    whole = body.split(line_end)
    if whole[-1] == b"":
        whole.pop()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pop3_listing, "SPLIT_OCTETS", octets)
        assert list(pop3_listing._lines(bytearray(body), line_end)) == whole
