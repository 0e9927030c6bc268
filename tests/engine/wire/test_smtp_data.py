"""Content comes out as it was before the dots were stuffed, however it is cut; only CRLF.CRLF ends it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.wire.lines import LineBuffer
from engine.wire.smtp_content import Stuffing
from engine.wire.smtp_data import BEGINNING_OCTETS, DataContent

# Octets that matter are made likely; the others are there too.
PIECES = [
    b"\r\n",
    b"\r\n.",
    b"\r\n..",
    b"\n.",
    b".",
    b"\r",
    b"\n",
    b"\n.\r\n",
    b"\r.\r",
    b"\0",
    b"a",
    b"\xe4 b",
]
SCRAPS = st.lists(st.sampled_from(PIECES) | st.binary(max_size=4), max_size=30).map(b"".join)
CUTS = st.lists(st.integers(0, 400), max_size=12)
END = b"\r\n.\r\n"
# What some servers take for the end of data. To us it is content, whatever stands around it.
SMUGGLED = (
    b"\n.\n",
    b"\r.\r",
    b"\n.\r\n",
    b"\r\n.\n",
    b"\r\n.\r",
    b"\r.\n",
    b"\r.\r\n",
    b"\n.\r",
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
    b"\0\r\n.\r\0\n",
    b"\n\r.\r\n",
    b"\r\n.\r\r\n",
    b"\n\n.\n\n",
)


def stuffed(content: bytes) -> bytes:
    """As a client sends it that doubles the dots and leaves everything else alone."""
    writer = Stuffing(mend=False)
    return writer.feed(content) + writer.finish() + b".\r\n"


def read(
    sent: bytes, cuts: list[int] | None = None, *, limit_octets: int = 10**6
) -> tuple[DataContent, bytes]:
    """The content and what is left behind it, of a stream that is cut at `cuts`."""
    stream = b"DATA\r\n" + sent
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts or ()), len(stream)]
    buffer = LineBuffer()
    content: DataContent | None = None
    done = False
    for start, stop in pairwise(edges):
        buffer.feed(stream[start:stop])
        if content is None and buffer.line(100) is not None:
            content = DataContent(buffer, limit_octets=limit_octets)
        if content is not None and not done:
            done = content.take(buffer)
    assert content is not None
    assert done, "the end was not found"
    return content, buffer.octets[buffer.start :]


def everywhere(sent: bytes) -> list[int]:
    """Cuts between all octets."""
    return list(range(len(sent) + 7))


@given(content=SCRAPS, cuts=CUTS, behind=SCRAPS)
@example(content=b"", cuts=[], behind=b"")
@example(content=b".", cuts=list(range(20)), behind=b".\r\n")
def test_content_comes_back_octet_for_octet(content: bytes, cuts: list[int], behind: bytes) -> None:
    content = content + b"\r\n" if content else content
    found, left = read(stuffed(content) + behind, cuts)
    assert (found.octets, found.size_octets, left) == (content, len(content), behind)


@given(content=SCRAPS)
def test_content_octet_by_octet_is_the_same(content: bytes) -> None:
    sent = stuffed(content + b"\r\n")
    found, left = read(sent, everywhere(sent))
    assert (found.octets, left) == (content + b"\r\n", b"")


@pytest.mark.parametrize("variant", SMUGGLED)
@pytest.mark.parametrize("cut", ["whole", "octet by octet"])
def test_nothing_but_crlf_dot_crlf_ends_the_content(variant: bytes, cut: str) -> None:
    second = b"MAIL FROM:<evil@example.com>\r\nRCPT TO:<victim@example.com>\r\nDATA\r\nFrom: evil\r\n"
    sent = b"first" + variant + second + b".\r\nQUIT\r\n"
    found, left = read(sent, everywhere(sent) if cut != "whole" else None)
    assert second in found.octets
    assert found.octets.startswith(b"first")
    assert left == b"QUIT\r\n"


@pytest.mark.parametrize(
    ("sent", "content"),
    [
        (b".\r\n", b""),
        (b"..\r\n.\r\n", b".\r\n"),
        (b".single dot of a client that forgot\r\n.\r\n", b"single dot of a client that forgot\r\n"),
        (b"\r\n..\r\n...\r\n.\r\n", b"\r\n.\r\n..\r\n"),
        (b"a\n..b\r..c\r\n.\r\n", b"a\n..b\r..c\r\n"),  # these dots begin no line
        (b"\r\r\n.\r\n", b"\r\r\n"),
        (b"nul \0 and \xff\r\n.\r\n", b"nul \0 and \xff\r\n"),
    ],
)
def test_a_dot_goes_from_the_start_of_each_line_and_from_nowhere_else(sent: bytes, content: bytes) -> None:
    for cuts in ([], everywhere(sent)):
        assert read(sent, cuts)[0].octets == content


def test_a_line_may_have_any_length() -> None:
    line = b"x" * 300_000 + b"\r\n"
    found, _ = read(line + b".\r\n", list(range(0, 300_000, 1_000)))
    assert found.octets == line


def test_of_content_over_the_limit_so_much_is_kept_and_no_more() -> None:
    found, _ = read(b"x" * (3 * BEGINNING_OCTETS) + b"\r\n.\r\n", [], limit_octets=2 * BEGINNING_OCTETS)
    assert found.octets == b"x" * BEGINNING_OCTETS


@given(content=SCRAPS, cuts=CUTS)
def test_content_over_the_limit_is_read_to_its_end_and_only_its_beginning_kept(
    content: bytes, cuts: list[int]
) -> None:
    content = b"0123456789" + content + b"\r\n"
    found, left = read(stuffed(content) + b"NOOP\r\n", cuts, limit_octets=len(content) - 1)
    assert (found.too_large, found.octets, found.size_octets) == (True, content, len(content))
    assert left == b"NOOP\r\n"


def test_content_at_the_limit_is_kept_and_stuffed_dots_do_not_count() -> None:
    content = b"." * 5 + b"\r\n"
    found, _ = read(stuffed(content), limit_octets=len(content))
    assert (found.too_large, found.octets) == (False, content)
