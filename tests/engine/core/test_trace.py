"""Our Received field, and what Received fields tell of loops."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from email import message_from_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core import headers
from engine.core.trace import (
    HOPS_LIMIT,
    LINE_LENGTH_CHARACTERS,
    bridge,
    hops,
    loops,
    own_ids,
    received,
)

NOW = datetime(2025, 8, 12, 10, 5, 9, tzinfo=timezone(timedelta(hours=2)))
STRANGE = b"Received: from a.example (a.example [192.0.2.1])\r\n by b.example with ESMTP id x; date\r\n"


def ours(
    id: str = "01JXYZ", hostname: str = "gate.example.com", recipient: str | None = "info@example.com"
) -> bytes:
    return received(
        hostname=hostname,
        source="mailbox info at pop.example",
        protocol="POP3",
        id=id,
        recipient=recipient,
        now=NOW,
    )


def test_a_fetched_message_gets_a_field_with_the_mailbox_as_comment() -> None:
    assert ours() == (
        b"Received: (mailbox info at pop.example) by gate.example.com (mailgate) with\r\n".replace(
            b" with", b""
        )
        + b"\twith POP3 id 01JXYZ for <info@example.com>; Tue, 12 Aug 2025 08:05:09 +0000\r\n"
    )


FIELDS = b"Subject: x\r\nFrom: a@b.example\r\n\r\nbody\r\n"
SPOILING = [
    b" white space first\r\n",
    b"\tand a tab\r\n",
    b" \r\n",
    b"From anna@b.example Sun Mar  1 12:00:00 2026\r\n",
    b">From anna@b.example Sun Mar  1 12:00:00 2026\r\n",
    b"From anna@b.example Sun Mar  1 12:00:00 2026\n",
]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("first", SPOILING)
def test_a_first_line_that_would_spoil_the_header_becomes_the_value_of_a_field(
    first: bytes, kind: type[bytes]
) -> None:
    content = first + FIELDS
    read = message_from_bytes(ours() + bridge(kind(content)) + content)
    assert [name for name, _ in read.items()] == ["Received", "X-Mailgate-First-Line", "Subject", "From"]
    assert read["X-Mailgate-First-Line"].strip().encode() == first.strip()
    assert read["Received"].endswith("+0000")
    assert read.defects == []
    assert own_ids(ours() + bridge(content) + content, "gate.example.com") == ("01JXYZ",)


@pytest.mark.parametrize(
    "content",
    [
        FIELDS,
        b"From: a@b.example\r\n\r\n",
        b"From here on it is text\r\n\r\nand more\r\n",
        b"From here on\r\nit is text: all of it\r\n",
        b"no field at all\r\n" + FIELDS,
        b"\r\n the body\r\n",
        b">\r\n",
        b"",
    ],
)
def test_nothing_else_is_put_in_front(content: bytes) -> None:
    assert bridge(content) == b""
    read = message_from_bytes(ours() + content)
    assert read["Received"].endswith("+0000")


def test_a_submitted_message_gets_a_field_with_the_client() -> None:
    field = received(
        hostname="gate.example.com",
        source="client.example.local",
        protocol="ESMTPSA",
        id="01JXYZ",
        recipient=None,
        now=NOW.astimezone(UTC),
        peer_ip="2001:db8::5",
    )
    assert field == (
        b"Received: from client.example.local ([IPv6:2001:db8::5]) by gate.example.com\r\n"
        b"\t(mailgate) with ESMTPSA id 01JXYZ; Tue, 12 Aug 2025 08:05:09 +0000\r\n"
    )
    assert headers.facts(field).client_ip == "2001:db8::5"


def test_several_recipients_are_not_shown() -> None:
    assert b"for " not in ours(recipient=None)


@pytest.mark.parametrize("recipient", ["müller@example.com", "a@b>\r\nX: y", "", "a b@c"])
def test_a_recipient_that_cannot_stand_in_a_field_is_left_out(recipient: str) -> None:
    assert b"for " not in ours(recipient=recipient)


def test_our_own_field_does_not_make_us_the_client() -> None:
    assert headers.facts(ours() + STRANGE).client_ip == "192.0.2.1"


def test_our_ids_are_read_back_from_the_top_down() -> None:
    octets = ours("two") + STRANGE + ours("other", "other.example") + ours("one") + b"\r\n" + ours("body")
    assert own_ids(octets, "GATE.example.com") == ("two", "one")
    assert own_ids(octets, "example.com") == ()
    assert hops(octets) == 4


def test_one_passage_before_is_no_loop() -> None:
    assert loops(STRANGE + ours() + STRANGE + b"\r\n", "gate.example.com") is None


def test_two_passages_before_are_a_loop() -> None:
    reason = loops(ours("two") + STRANGE + ours("one") + b"\r\n", "gate.example.com")
    assert reason == "passed through gate.example.com 2 times before, as two, one"


def test_traces_of_another_gateway_are_no_loop() -> None:
    assert loops(ours(hostname="a.example") + ours(hostname="a.example"), "gate.example.com") is None


def test_too_many_hops_are_a_loop() -> None:
    assert loops(STRANGE * HOPS_LIMIT, "gate.example.com") is None
    assert loops(STRANGE * (HOPS_LIMIT + 1), "gate.example.com") == "101 Received fields, more than 100"
    assert loops(STRANGE * 3, "gate.example.com", limit_hops=2) == "3 Received fields, more than 2"


@given(st.binary(max_size=300), st.text(max_size=20))
def test_any_octets_have_a_count_and_a_judgement(octets: bytes, hostname: str) -> None:
    assert hops(octets) >= len(own_ids(octets, hostname))
    assert loops(octets, hostname) is None


@given(
    hostname=st.text(max_size=300),
    source=st.text(max_size=300),
    protocol=st.sampled_from(["POP3", "ESMTPS", "SMTP", ""]),
    id=st.from_regex(r"[A-Za-z0-9._-]{1,40}", fullmatch=True),
    recipient=st.one_of(st.none(), st.text(max_size=100), st.just("a@example.com")),
    peer_ip=st.one_of(st.none(), st.text(max_size=60)),
    now=st.datetimes(timezones=st.just(UTC)),
)
def test_whatever_comes_in_one_ascii_field_goes_out_that_is_recognised(
    hostname: str,
    source: str,
    protocol: str,
    id: str,
    recipient: str | None,
    peer_ip: str | None,
    now: datetime,
) -> None:
    field = received(
        hostname=hostname,
        source=source,
        protocol=protocol,
        id=id,
        recipient=recipient,
        peer_ip=peer_ip,
        now=now,
    )
    assert field.isascii()
    assert field.endswith(b"\r\n")
    lines = field.split(b"\r\n")[:-1]
    assert all(line.startswith(b"\t") for line in lines[1:])
    assert not any(octet < 32 and octet != 9 for line in lines for octet in line)
    assert all(len(line) <= max(LINE_LENGTH_CHARACTERS, 2 + 255 + 20) for line in lines)
    assert field.count(b";") == 1 + (recipient or "").count(";") * (b"for <" in field) + _semicolons(
        protocol, source
    )
    assert len(headers.split(field)) == 1
    assert own_ids(field + STRANGE + b"\r\n", hostname) == (id,)


def _semicolons(protocol: str, source: str) -> int:
    """Semicolons within the comment are allowed, and stay."""
    return source[:255].count(";") if protocol == "POP3" else 0
