"""Frames come out as they went in, however they are cut; what can't be one ends it."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.wire.frames import GATHERED_OCTETS, Frame, FrameFault, Frames, beginning

FRAMES: list[tuple[bytes, bytes]] = [
    (b"", b""),
    (b"head", b""),
    (b"", b"body"),
    (b"small", b"s" * 300),
    (b"gathered", b"g" * GATHERED_OCTETS),
    (b"collected", random.Random(1).randbytes(GATHERED_OCTETS + 1)),
    (b"large", random.Random(2).randbytes(5 * GATHERED_OCTETS)),
    (b"h" * 1_000, b"end"),
]
STREAM = b"".join(beginning(head, len(body)) + body for head, body in FRAMES)


def fed(*chunks: bytes) -> list[tuple[bytes, bytes]]:
    frames = Frames(head_limit=1_000, body_limit=10 * GATHERED_OCTETS)
    found: list[Frame] = []
    for chunk in chunks:
        found += frames.feed(chunk)
    return [(head, bytes(body)) for head, body in found]


def test_all_at_once() -> None:
    assert fed(STREAM) == FRAMES


@pytest.mark.parametrize("octets", [7, 8, 9, 1_000, GATHERED_OCTETS - 1, GATHERED_OCTETS + 3])
def test_in_pieces(octets: int) -> None:
    assert fed(*(STREAM[at : at + octets] for at in range(0, len(STREAM), octets))) == FRAMES


@given(st.lists(st.integers(min_value=0, max_value=len(STREAM)), max_size=40))
def test_cut_anywhere(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(STREAM)]
    assert fed(*(STREAM[a:b] for a, b in pairwise(places))) == FRAMES


def test_octet_by_octet() -> None:
    frames = [(b"one", b"1"), (b"", b""), (b"two", b"22")]
    stream = b"".join(beginning(head, len(body)) + body for head, body in frames)
    assert fed(*(stream[at : at + 1] for at in range(len(stream)))) == frames


def test_nothing_comes_out_before_it_is_whole() -> None:
    stream = beginning(b"head", GATHERED_OCTETS * 2) + b"x" * (GATHERED_OCTETS * 2)
    assert fed(stream[:-1]) == []


@pytest.mark.parametrize(("head", "body"), [(1_001, 0), (0, 10 * GATHERED_OCTETS + 1), (1 << 31, 1 << 31)])
def test_what_is_too_long_is_refused_before_it_comes(head: int, body: int) -> None:
    lengths = head.to_bytes(4, "big") + body.to_bytes(4, "big")
    with pytest.raises(FrameFault, match=rf"a frame of {head} and {body} octets"):
        fed(STREAM, lengths)
