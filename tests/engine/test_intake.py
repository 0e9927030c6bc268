"""What comes in becomes an event: facts, recipients, loops; nothing is dropped and nothing is too odd."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import intake
from engine.core import report
from engine.core.policy import Policy
from engine.core.routing import MailboxRule
from engine.intake import Arrival
from engine.opening import HASH_ASIDE_OCTETS, digest, has_bare_newlines
from engine.ports import Submission
from store.codec import decode, encode
from store.events import Downloaded, Generated, Held, RejectedOversize, Reported, Submitted
from store.life import Message
from store.log import Append
from tests.engine.core import lives
from tests.engine.rig import mail
from tests.engine.situations import opened_by

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
INFO = "info@example.com"
FIXED = MailboxRule(recipients=(INFO, "sales@example.com"))
MULTIDROP = MailboxRule(headers=("Delivered-To",), domains=("example.com",))
POLICY: Policy = lives.policy()


def arrival(rule: MailboxRule = FIXED, **changes: Any) -> Arrival:
    facts: dict[str, Any] = {"mailbox": "info", "uidl": "uidl-1", "listed_octets": 123, "rule": rule}
    return Arrival(**(facts | changes))


async def opened(octets: bytes | bytearray | memoryview, rule: MailboxRule = FIXED) -> Append:
    return await intake.downloaded(arrival(rule), octets, POLICY, NOON)


def downloaded(append: Append) -> Downloaded:
    event = append.events[0]
    assert isinstance(event, Downloaded)
    return event


async def test_a_message_that_comes_in_opens_a_stream_with_its_facts_and_octets() -> None:
    octets = mail(7, 500)
    append = await opened(octets)
    assert append.before is None
    assert append.octets == octets
    event = downloaded(append)
    assert (event.mailbox, event.uidl, event.listed_octets, event.size_octets) == (
        "info",
        "uidl-1",
        123,
        len(octets),
    )
    assert event.content == sha256(octets).hexdigest()
    assert event.reverse_path == "sender7@elsewhere.example"
    assert (event.recipients, event.recipient_count) == (FIXED.recipients, 2)
    assert event.routed_by == ("mailbox recipients", "mailbox recipients")
    assert (event.subject, event.message_id) == ("number 7", "<7@elsewhere.example>")
    assert event.policy == POLICY.version
    assert isinstance(append.after, Message)
    assert append.after.state == "received"
    assert append.after.due_at == NOON


REPORT = b"Content-Type: multipart/report; report-type=delivery-status; boundary=x\r\n"


@pytest.mark.parametrize(
    ("header", "marked"),
    [
        (b"Return-Path: <>\r\n" + REPORT, True),
        (b"Return-Path: <a@x.example>\r\nAuto-Submitted: auto-replied\r\n" + REPORT, True),
        (b"Return-Path: <a@x.example>\r\n" + REPORT, False),
        (b"Return-Path: <>\r\nContent-Type: text/plain\r\n", False),
    ],
)
async def test_what_a_machine_sent_as_a_report_is_marked_as_one(header: bytes, marked: bool) -> None:
    append = await opened(header + b"\r\n--x--\r\n")
    assert downloaded(append).status_report is marked
    assert isinstance(append.after, Message)
    assert append.after.status_report is marked


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_octets_of_every_kind_have_the_same_facts(kind: Any) -> None:
    octets = mail(7)
    assert downloaded(await opened(kind(octets))) == downloaded(await opened(octets))


@pytest.mark.parametrize(
    ("octets", "bare"),
    [
        (b"", False),
        (b"a\r\nb\r\n", False),
        (b"a\nb\r\n", True),
        (b"a\rb\r\n", True),
        (b"a\r\n\r", True),
        (b"\n", True),
        (b"a\n\rb", True),
        (b"a\r\r\n", True),
    ],
)
def test_a_lone_cr_or_lf_is_noticed(octets: bytes, bare: bool) -> None:
    assert has_bare_newlines(octets) is bare
    assert has_bare_newlines(memoryview(octets)) is bare


@given(st.binary(max_size=60).map(lambda raw: raw.translate(bytes(b"\r\nab"[n % 4] for n in range(256)))))
def test_a_lone_cr_or_lf_is_what_is_left_without_the_pairs(octets: bytes) -> None:
    rest = octets.replace(b"\r\n", b"")
    assert has_bare_newlines(octets) is (b"\r" in rest or b"\n" in rest)


async def test_a_large_message_has_the_same_digest_as_a_small_one_would() -> None:
    octets = b"x" * (HASH_ASIDE_OCTETS + 1)
    assert await digest(octets) == sha256(octets).hexdigest()


def submission(*recipients: str, **facts: Any) -> Submission:
    usual: dict[str, Any] = {
        "peer": "192.0.2.9",
        "helo": "exchange.example.com",
        "protocol": "ESMTPSA",
        "tls": "TLSv1.3 TLS_AES_256_GCM_SHA384",
        "user": "alice",
        "reverse_path": INFO,
        "recipients": recipients,
    }
    return Submission(**(usual | facts))


async def test_a_message_a_client_hands_in_opens_a_stream_with_its_envelope() -> None:
    octets = mail(7, 500)
    wishes = {
        "notify": ("NEVER", ""),
        "orcpt": ("", "rfc822;x@elsewhere.example"),
        "envid": "E1",
        "ret": "FULL",
    }
    append = await opened_by(
        submission("desk@branch.example", "x@elsewhere.example", **wishes), octets, POLICY, NOON
    )
    assert append.octets == octets
    (event,) = append.events
    assert isinstance(event, Submitted)
    assert (event.direction, event.automatic, event.next_hop) == ("outbound", False, None)
    assert (event.size_octets, event.content) == (len(octets), sha256(octets).hexdigest())
    message = append.after
    assert isinstance(message, Message)
    assert (message.reverse_path, message.user, message.peer, message.helo) == (
        INFO,
        "alice",
        "192.0.2.9",
        "exchange.example.com",
    )
    assert [(r.address, r.notify, r.orcpt) for r in message.recipients] == [
        ("desk@branch.example", "NEVER", ""),
        ("x@elsewhere.example", "", "rfc822;x@elsewhere.example"),
    ]
    assert (message.envid, message.ret) == ("E1", "FULL")
    assert decode(event.NAME, event.VERSION, *encode(event)) == event


@pytest.mark.parametrize(
    ("recipients", "direction"),
    [
        ((INFO,), "inbound"),
        ((INFO, "desk@branch.example"), "outbound"),
        (("desk@branch.example",), "outbound"),
    ],
)
async def test_what_is_all_for_our_own_domains_comes_in(recipients: tuple[str, ...], direction: str) -> None:
    append = await opened_by(submission(*recipients), mail(1), POLICY, NOON)
    assert isinstance(append.after, Message)
    assert append.after.direction == direction


async def test_what_a_machine_or_a_list_sent_is_known_as_such() -> None:
    octets = b"Auto-Submitted: auto-replied\r\n" + mail(1)
    append = await opened_by(submission(INFO), octets, POLICY, NOON)
    assert isinstance(append.after, Message)
    assert append.after.automatic


async def test_mail_for_nobody_of_ours_is_held_with_the_reason() -> None:
    append = await opened(mail(1), MULTIDROP)
    held = append.events[1]
    assert isinstance(held, Held)
    assert (held.why, held.rule) == ("unroutable", "no header named an own address (Delivered-To absent)")
    assert downloaded(append).recipient_count == 0
    assert isinstance(append.after, Message)
    assert append.after.due_at is None
    assert append.after.state == "held"


async def test_the_third_passage_through_us_is_held_as_a_loop() -> None:
    trace = (
        "Received: (mailbox info) by gate.example.com (mailgate) with POP3 id {};\r\n\tSun, 1 Mar 2026\r\n"
    )
    once = await opened(mail(1, header=trace.format("a")))
    assert len(once.events) == 1
    twice = await opened(mail(1, header=trace.format("a") + trace.format("b")))
    held = twice.events[1]
    assert isinstance(held, Held)
    assert held.why == "loop"
    assert "gate.example.com" in held.rule


async def test_many_hops_through_others_are_no_loop_until_there_are_far_too_many() -> None:
    hop = "Received: from a.example by b.example; Sun, 1 Mar 2026 12:00:00 +0000\r\n"
    assert len((await opened(mail(1, header=hop * 40))).events) == 1
    assert isinstance((await opened(mail(1, header=hop * 101))).events[1], Held)


async def test_ids_are_made_anew_for_each_message() -> None:
    streams = {(await opened(mail(1))).stream for _ in range(50)}
    assert len(streams) == 50


def test_what_is_too_large_opens_a_closed_stream_with_the_facts_of_its_header() -> None:
    header = mail(3).partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    append = intake.oversize(arrival(), header, 100, "next-hop", "home", POLICY, NOON)
    (event,) = append.events
    assert isinstance(event, RejectedOversize)
    assert (event.size_octets, event.limit_octets, event.limit_from, event.next_hop) == (
        123,
        100,
        "next-hop",
        "home",
    )
    assert (event.subject, event.reverse_path) == ("number 3", "sender3@elsewhere.example")
    assert append.octets is None
    assert isinstance(append.after, Message)
    assert append.after.state == "rejected-oversize"
    assert [recipient.address for recipient in append.after.recipients] == list(FIXED.recipients)


def test_what_is_too_large_is_on_record_without_a_header_too() -> None:
    append = intake.oversize(arrival(), None, 100, "config", None, POLICY, NOON)
    (event,) = append.events
    assert isinstance(event, RejectedOversize)
    assert (event.subject, event.reverse_path, event.recipients) == (None, "", FIXED.recipients)


def test_a_notice_opens_its_own_stream_and_is_named_on_the_message_it_is_about() -> None:
    about = lives.failed(lives.attempted(lives.downloaded(INFO)))
    written = report.failure(
        about, hostname="gate.example.com", postmaster="postmaster@example.com", notice_id="n", now=NOON
    )
    append, reported = intake.notice("failure", about, written, NOON)
    (event,) = append.events
    assert isinstance(event, Generated)
    assert (event.kind, event.about, event.reverse_path) == ("failure", about.id, "")
    assert event.recipients == ("postmaster@example.com",)
    assert event.content == sha256(written.octets).hexdigest()
    assert append.octets == written.octets
    assert reported == Reported(kind="failure", report=append.stream)
    assert isinstance(append.after, Message)
    assert append.after.direction == "internal"
    assert append.after.due_at == NOON


headerish = st.lists(
    st.tuples(
        st.sampled_from((b"Subject", b"From", b"Return-Path", b"Delivered-To", b"Received", b"Date", b"X")),
        st.binary(max_size=40),
    ),
    max_size=6,
).map(lambda fields: b"".join(name + b": " + value + b"\r\n" for name, value in fields) + b"\r\nbody")


@given(st.one_of(headerish, st.binary(max_size=200)), st.sampled_from((FIXED, MULTIDROP)))
async def test_whatever_arrives_can_be_put_on_record_and_read_back(octets: bytes, rule: MailboxRule) -> None:
    append = await opened(octets, rule)
    rejected = intake.oversize(arrival(rule), octets, 1, "config", None, POLICY, NOON)
    for event in (*append.events, *rejected.events):
        encoded = encode(event)
        assert decode(event.NAME, event.VERSION, encoded.data, encoded.personal) == event
        assert orjson.loads(encoded.data) is not None
    assert append.octets == octets
