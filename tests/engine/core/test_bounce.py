"""Reports that come back: every usual shape is read, and what is forged or ambiguous changes nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core import bounce, dsn
from engine.core.bounce import PARTS_LIMIT, RECIPIENTS_LIMIT, StatusReport
from store.events import Delivered, Failed, Relayed
from store.life import Message
from tests.engine.bounces import SHAPES, Bounced, exim, postfix
from tests.engine.core.lives import after, attempted, downloaded, policy, submitted

HOST = "gate.example.com"
BOB = "bob@customer.example"
EVE = "eve@customer.example"
ENVID = bounce.own_envid(Bounced().id, HOST)
ABOUT = Bounced()
REPORT = "06h0kps6bbbbbbbb"
Shape = Callable[[Bounced], bytes]


def relayed(*recipients: str, **facts: Any) -> Message:
    """A message that left us, for these or for Bob."""
    message = attempted(submitted(*(recipients or (BOB,)), **facts))
    numbers = tuple(r.number for r in message.recipients)
    event = Relayed(
        numbers=numbers, next_hop="smart", attempt=1, address="", tls="none", code=250, duration_ms=1
    )
    return replace_id(after(message, event))


def replace_id(message: Message, id: str = ABOUT.id) -> Message:
    from msgspec.structs import replace as replaced

    return replaced(message, id=id)


def read(octets: bytes) -> StatusReport:
    report = bounce.read(octets, HOST)
    assert report is not None
    return report


def verdicts(octets: bytes, message: Message | None = None) -> list[tuple[str, tuple[int, ...]]]:
    """What a report proves of a message, by name and recipients."""
    found = bounce.verdicts(message or relayed(), read(octets), REPORT, policy())
    return [(event.NAME, event.numbers) for event in found]


@pytest.mark.parametrize("shape", SHAPES)
def test_each_usual_shape_is_read(shape: Shape) -> None:
    for octets in (shape(ABOUT), shape(ABOUT).replace(b"\r\n", b"\n")):
        report = read(octets)
        assert (report.ids, report.message_id) == ((ABOUT.id,), ABOUT.message_id)
        (said,) = report.recipients
        assert (said.final, said.action, said.diagnostic) == (BOB, "failed", ABOUT.said)
        assert verdicts(octets) == [("failed", (0,))]


@pytest.mark.parametrize(
    ("action", "proven"),
    [
        ("failed", ["failed"]),
        ("Failed (bad address)", ["failed"]),
        ("delivered", ["delivered"]),
        ("expanded", ["delivered"]),
        ("relayed", []),
        ("delayed", []),
        ("eaten", []),
    ],
)
def test_an_action_proves_what_rfc_3464_lets_it_prove(action: str, proven: list[str]) -> None:
    assert [name for name, _ in verdicts(postfix(replace(ABOUT, action=action)))] == proven


def test_a_failure_says_when_by_whom_and_why() -> None:
    (event,) = bounce.verdicts(relayed(), read(postfix(ABOUT)), REPORT, policy())
    assert isinstance(event, Failed)
    assert (event.reason, event.report, event.code, event.reply) == ("bounced-later", REPORT, 550, ABOUT.said)
    assert (event.next_hop, event.recipients) == ("smart", (BOB,))


def test_a_positive_report_without_a_reply_says_its_status() -> None:
    octets = exim(replace(ABOUT, action="delivered", status="2.0.0", said=""))
    (event,) = bounce.verdicts(relayed(), read(octets), REPORT, policy())
    assert isinstance(event, Delivered)
    assert (event.code, event.reply, event.report) == (None, "delivered, status 2.0.0", REPORT)


def test_what_it_proves_is_the_state_of_those_that_were_relayed_and_of_nobody_else() -> None:
    message = relayed(BOB, EVE)
    failed = after(message, *bounce.verdicts(message, read(postfix(ABOUT)), REPORT, policy()))
    assert [r.state for r in failed.recipients] == ["failed", "relayed"]
    positive = postfix(replace(ABOUT, action="delivered"))
    assert verdicts(positive, failed) == []
    late = Delivered(
        numbers=(0, 1),
        next_hop="",
        attempt=1,
        address="",
        tls="",
        code=None,
        duration_ms=0,
        report=REPORT,
    )
    assert [r.state for r in after(failed, late).recipients] == ["failed", "delivered"]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_report_about_another_message_proves_nothing(shape: Shape) -> None:
    for other in (
        replace(ABOUT, id="06h0kps6cccccccc"),
        replace(ABOUT, message_id="<other@example.com>"),
        replace(ABOUT, recipient=EVE),
    ):
        assert verdicts(shape(other)) == []


def test_only_outgoing_mail_is_reported_on() -> None:
    assert verdicts(postfix(ABOUT), replace_id(attempted(downloaded(BOB)))) == []
    assert verdicts(postfix(ABOUT), replace_id(attempted(submitted(BOB)))) == []


def test_our_envid_names_the_message_and_must_agree_with_the_rest() -> None:
    stripped = postfix(replace(ABOUT, hostname="elsewhere.example", envid=ENVID))
    assert read(stripped).ids == (ABOUT.id,)
    assert verdicts(stripped) == [("failed", (0,))]
    foreign = bounce.own_envid("06h0kps6cccccccc", HOST)
    torn = postfix(replace(ABOUT, envid=foreign))
    assert set(read(torn).ids) == {ABOUT.id, "06h0kps6cccccccc"}
    assert verdicts(torn) == []


def test_an_envid_of_the_client_s_must_agree_where_there_is_one() -> None:
    message = relayed(envid="QQ+2B1")
    assert verdicts(postfix(replace(ABOUT, envid="QQ+1")), message) == [("failed", (0,))]
    assert verdicts(postfix(replace(ABOUT, envid="QQ+2")), message) == []


def test_an_envid_that_only_looks_like_ours_names_nothing() -> None:
    for envid in ("06h0kps6aaaaaaaa@elsewhere.example", "06H0KPS6AAAAAAAA@gate.example.com", "x" * 300):
        assert read(postfix(replace(ABOUT, hostname="elsewhere.example", envid=envid))).ids == ()


def test_the_last_passage_is_the_one_that_counts() -> None:
    """Mail that came in and was forwarded to the outside carries two traces of ours."""
    before = Bounced(id="06h0kps6dddddddd").header.partition("From:")[0].replace("\n", "\r\n").encode()
    octets = postfix(ABOUT).replace(b"From: Info", before + b"From: Info")
    assert read(octets).ids == (ABOUT.id,)


def test_what_contradicts_itself_proves_nothing() -> None:
    second = f"Final-Recipient: rfc822; {BOB}\r\nAction: delivered\r\nStatus: 2.0.0\r\n\r\n--".encode()
    octets = postfix(ABOUT).replace(b"\r\n\r\n--4B5C61F3A1", b"\r\n\r\n" + second + b"4B5C61F3A1", 3)
    assert {said.action for said in read(octets).recipients} == {"failed", "delivered"}
    assert verdicts(octets) == []


def test_a_recipient_that_was_forwarded_is_known_by_the_address_we_were_given() -> None:
    octets = postfix(ABOUT).replace(b"Final-Recipient: rfc822; bob@", b"Final-Recipient: rfc822; b.smith@")
    assert verdicts(octets) == [("failed", (0,))]
    unnamed = octets.replace(b"Original-Recipient: rfc822;bob@", b"Original-Recipient: rfc822;list@")
    assert verdicts(unnamed) == []
    assert verdicts(unnamed, relayed(orcpt=("rfc822;list@customer.example",))) == [("failed", (0,))]


def test_an_address_beyond_ascii_is_read_in_the_escapes_of_rfc_6533() -> None:
    address = "grün@bücher.example"
    octets = exim(ABOUT).replace(f"rfc822;{BOB}".encode(), dsn.typed(address).encode())
    assert read(octets).recipients[0].final == address


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable"])
def test_an_encoded_part_is_decoded(encoding: str) -> None:
    import base64
    import quopri

    octets = exim(ABOUT)
    start = octets.index(b"Reporting-MTA")
    status = octets[start : octets.index(b"\r\n--", start)]
    encoded = base64.encodebytes(status) if encoding == "base64" else quopri.encodestring(status)
    head = b"message/delivery-status\r\nContent-Transfer-Encoding: " + encoding.encode()
    mangled = octets.replace(status, encoded).replace(b"message/delivery-status\r\n", head + b"\r\n", 1)
    assert verdicts(mangled) == [("failed", (0,))]


def test_blocks_without_or_with_too_many_empty_lines_are_read() -> None:
    octets = exim(ABOUT)
    tight = octets.replace(b"mx.customer.example\r\n\r\nAction", b"mx.customer.example\r\nAction")
    wide = octets.replace(b"mx.customer.example\r\n\r\nAction", b"mx.customer.example\r\n\r\n \r\n\r\nAction")
    assert tight != octets != wide
    assert verdicts(tight) == verdicts(wide) == [("failed", (0,))]


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"Content-Type: multipart/report\r\n\r\n",
        b'Content-Type: multipart/report; boundary=""\r\n\r\n--\r\n',
        b"Content-Type: multipart/report; boundary=x\r\n\r\nno part\r\n",
        b"Content-Type: multipart/report; boundary=x\r\n\r\n--x\r\n\r\ntext\r\n--x--\r\n",
        b"Content-Type: text/plain; boundary=x\r\n\r\n--x\r\nContent-Type: message/delivery-status\r\n\r\n\r\n--x--",
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: message/delivery-status\r\n\r\n",
    ],
)
def test_what_is_no_report_is_read_as_none(octets: bytes) -> None:
    assert bounce.read(octets, HOST) is None


def test_reading_is_bounded() -> None:
    recipients = b"".join(
        b"Final-Recipient: rfc822; r%d@x.example\r\nAction: failed\r\n\r\n" % n for n in range(2_000)
    )
    many = exim(ABOUT).replace(b"Action: failed\r\n", recipients, 1)
    assert len(read(many).recipients) == RECIPIENTS_LIMIT
    parts = b"--x\r\nContent-Type: text/plain\r\n\r\n.\r\n" * PARTS_LIMIT
    late = b"--x\r\nContent-Type: message/delivery-status\r\n\r\nAction: failed\r\n--x--\r\n"
    assert bounce.read(b"Content-Type: multipart/report; boundary=x\r\n\r\n" + parts + late, HOST) is None


@settings(max_examples=200)
@given(st.data())
def test_whatever_is_cut_or_changed_in_a_report_it_is_read_without_an_error(data: st.DataObject) -> None:
    octets = bytearray(data.draw(st.sampled_from(SHAPES))(ABOUT))
    for _ in range(data.draw(st.integers(0, 8))):
        at = data.draw(st.integers(0, len(octets)))
        octets[at : at + data.draw(st.integers(0, 200))] = data.draw(st.binary(max_size=40))
    report = bounce.read(bytes(octets), HOST)
    if report is not None:
        for event in bounce.verdicts(relayed(), report, REPORT, policy()):
            assert event.numbers == (0,)


@given(st.binary(max_size=2_000))
def test_whatever_stands_behind_a_report_s_header_it_is_read_without_an_error(body: bytes) -> None:
    head = (
        b"Content-Type: multipart/report; boundary=x\r\n\r\n--x\r\nContent-Type: message/delivery-status\r\n"
    )
    bounce.read(head + body, HOST)


CORPUS = os.environ.get("MAILGATE_CORPUS", "")


@pytest.mark.skipif(
    not Path(CORPUS).is_dir() or not CORPUS, reason="MAILGATE_CORPUS names no folder of .eml files"
)
def test_real_mail_is_read_without_an_error() -> None:
    for file in sorted(Path(CORPUS).rglob("*.eml")):
        report = bounce.read(file.read_bytes(), HOST)
        assert report is None or report.ids == ()


def test_a_hostname_too_long_for_an_envid_is_cut() -> None:
    assert len(dsn.xtext(bounce.own_envid(ABOUT.id, "a" * 253))) == 100
    assert dsn.xtext(bounce.own_envid(ABOUT.id, "büro.example")) == f"{ABOUT.id}@b?ro.example"
