"""The content survey and the dot stuffing, against a line-by-line model of RFC 5321."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.wire.smtp_content import MOST_HEADER_OCTETS, Stuffing, Survey, utf8_header_section

# Chunks made of what matters: ends of lines, dots, and something else.
chunks = st.lists(
    st.text(alphabet="\r\n.xé", max_size=6).map(lambda text: text.encode()) | st.binary(max_size=5),
    max_size=12,
)


def wanted(content: bytes) -> bytes:
    """The content with CRLF line endings, complete, not yet stuffed."""
    lines = re.split(rb"\r\n|\r|\n", content)
    unfinished = lines.pop()
    return b"".join(line + b"\r\n" for line in lines) + (unfinished + b"\r\n" if unfinished else b"")


def stuffed(content: bytes) -> bytes:
    lines = wanted(content).split(b"\r\n")[:-1]
    return b"".join((b"." if line.startswith(b".") else b"") + line + b"\r\n" for line in lines)


def sent(pieces: list[bytes]) -> bytes:
    survey = Survey()
    for piece in pieces:
        survey.feed(piece)
    stuffing = Stuffing(mend=survey.lone_line_ends > 0)
    return b"".join(stuffing.feed(piece) for piece in pieces) + stuffing.finish()


@given(chunks)
@example([b".", b"."])
@example([b"a\r", b"\n.", b".\r\n"])
@example([b"a\r", b"\r", b"\n", b"."])
@example([b"\n", b".", b"\r"])
def test_what_is_sent_is_the_content_stuffed_however_it_is_cut(pieces):
    assert sent(pieces) == stuffed(b"".join(pieces))


@given(chunks)
@example([b"a\r", b"\nb"])
def test_the_size_is_that_of_the_octets_sent_before_stuffing(pieces):
    survey = Survey()
    for piece in pieces:
        survey.feed(piece)
    assert survey.size_octets == len(wanted(b"".join(pieces)))


@given(chunks)
def test_lone_line_ends_are_counted_however_the_content_is_cut(pieces):
    survey = Survey()
    for piece in pieces:
        survey.feed(piece)
    content = b"".join(pieces)
    assert survey.lone_line_ends == len(re.findall(rb"\r(?!\n)|(?<!\r)\n", content))
    assert survey.eight_bit == any(octet > 127 for octet in content)


@given(st.lists(st.sampled_from([b"", b".", b"..", b"a", b".a", b"a."])), st.integers(1, 7))
def test_proper_content_is_stuffed_without_mending(lines, step):
    content = b"".join(line + b"\r\n" for line in lines)
    stuffing = Stuffing(mend=False)
    out = b"".join(stuffing.feed(content[at : at + step]) for at in range(0, len(content), step))
    assert out + stuffing.finish() == stuffed(content)


def test_nothing_sent_can_end_the_data_early():
    assert b"\r\n.\r\n" not in b"\r\n" + sent([b".\n", b".\r\n.\r", b".\r", b"\n", b"x\n.\n"])


def test_content_without_a_dot_at_a_line_start_is_not_copied():
    content = b"no dots here\r\n" * 1000
    assert Stuffing(mend=False).feed(content) is content


@pytest.mark.parametrize(
    ("start", "answer"),
    [
        (b"Subject: plain\r\n\r\nb\xc3\xb6dy", False),
        (b"Subject: b\xc3\xb6se\r\n\r\nbody", True),
        (b"Subject: b\xc3\xb6se\n\nbody", True),
        (b"Subject: b\xf6se\r\n\r\nbody", False),
        (b"Subject: b\xc3\xb6se", True),
        (b"Subject: plain\n\r\nb\xc3\xb6dy", False),
        (b"Subject: plain\r\n\nb\xc3\xb6dy\r\n\r\n", False),
        (b"Subject: plain\r\rb\xc3\xb6dy", False),
        (b"Subject: plain\r\n\rb\xc3\xb6dy", False),
        (b"Subject: plain\rX: b\xc3\xb6se\r\n\r\n", True),
        (b"\r\nb\xc3\xb6dy", False),
        (b"X: b\xc3\xb6se\r\n" + b"X: y\r\n" * MOST_HEADER_OCTETS, False),
    ],
)
def test_only_utf8_in_the_header_section_wants_smtputf8(start, answer):
    assert utf8_header_section(start[:MOST_HEADER_OCTETS]) is answer
