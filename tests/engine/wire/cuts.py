"""Ways to cut what comes in: whole, octet by octet, anywhere."""

from collections.abc import Callable, Iterable
from itertools import pairwise

from hypothesis import strategies as st


def pieces(octets: bytes, cuts: Iterable[int]) -> list[bytes]:
    """The octets, cut at these places."""
    places = [0, *sorted({cut % (len(octets) + 1) for cut in cuts}), len(octets)]
    return [octets[a:b] for a, b in pairwise(places) if a < b]


def fed(feed: Callable[[bytes], bool], cut: list[bytes], *, end: bool = False) -> list[bool]:
    """What a reader said to each piece, and to the end of the connection."""
    return [feed(piece) for piece in [*cut, *([b""] if end else [])]]


anywhere = st.lists(st.integers(0, 10_000), max_size=12)
