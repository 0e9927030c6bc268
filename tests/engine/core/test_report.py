"""Notices of the gateway's own: whatever a stranger wrote, well-formed mail that a person can act on."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.core import envelope, report
from engine.core.report import LINE_CHARACTERS, Notice
from store.events import Failed
from store.life import Message
from tests.engine.core.lives import INFO, NOON, SALES, attempted, delivered, downloaded, failed

POSTMASTER = "postmaster@example.com"


def failure(message: Message, *failed: Failed, postmaster: str = POSTMASTER) -> Notice:
    return report.failure(
        message, failed, hostname="gate.example.com", postmaster=postmaster, notice_id="notice-1", now=NOON
    )


def oversize(message: Message, recipient: str = INFO, limit_octets: int = 10_000_000) -> Notice:
    return report.oversize(
        message,
        limit_octets,
        recipient=recipient,
        hostname="gate.example.com",
        postmaster=POSTMASTER,
        notice_id="notice-1",
        now=NOON,
    )


def parsed(notice: Notice) -> EmailMessage:
    message = message_from_bytes(notice.octets, policy=SMTP.clone(utf8=True))
    assert isinstance(message, EmailMessage)
    assert message.defects == []
    return message


def text(notice: Notice) -> str:
    content: str = parsed(notice).get_content()
    return content


def refused() -> Message:
    return failed(delivered(attempted(downloaded(INFO, SALES)), 1), 0)


def test_a_failure_notice_says_which_message_what_the_server_said_and_what_to_do() -> None:
    said = text(failure(refused()))
    assert "From: Alice <alice@customer.example>" in said
    assert "Subject: Invoice 4711" in said
    assert "Message-ID: <1@customer.example>" in said
    assert f"{INFO}: 5.1.1 no such user" in said
    assert "mailgate show message-1" in said


def test_a_failure_notice_does_not_say_that_the_recipients_who_got_it_failed() -> None:
    assert f"{SALES}:" not in text(failure(refused()))


def given_up(**facts: Any) -> Failed:
    return Failed(next_hop=None, attempt=1, code=None, policy="p", **facts)


def test_what_a_person_gave_up_is_not_laid_on_the_home_server() -> None:
    event = given_up(numbers=(0,), reason="operator", operator="anna", comment="wrong address")
    said = text(failure(refused(), event))
    assert "a person gave a message up." in said
    assert "home server" not in said
    decided = "anna decided that it is not tried again (wrong address)"
    assert f"  {INFO}: {decided}; the last answer was: 5.1.1 no such user\r\n" in said
    nobody = text(failure(downloaded(), replace(event, numbers=())))
    assert f"What happened:\r\n  {decided}\r\n" in nobody


def test_what_was_tried_for_too_long_is_said_to_be() -> None:
    said = text(failure(refused(), given_up(numbers=(0,), reason="expired")))
    assert f"{INFO}: given up, for it was tried for long enough; the last answer was: 5.1.1 no such" in said


def test_an_oversize_notice_says_how_large_it_is_how_large_it_may_be_and_where_it_is() -> None:
    said = text(oversize(replace(downloaded(INFO, size_octets=48_300_000), content=None)))
    assert "48,300,000 octets" in said
    assert "10,000,000 octets" in said
    assert "still in the mailbox 'info'" in said
    assert POSTMASTER in said


def test_a_notice_about_a_message_that_is_here_says_that_it_is_kept() -> None:
    said = text(oversize(downloaded(INFO)))
    assert "kept in the store" in said
    assert "not fetched" not in said


def test_facts_that_are_not_known_leave_no_empty_lines_behind() -> None:
    bare = replace(downloaded(), subject=None, message_id=None, sender=None, reverse_path="")
    said = text(oversize(bare))
    assert not any(line.strip().endswith(":") for line in said.splitlines())
    assert parsed(oversize(bare))["Subject"] == "Message too large: (no subject)"


def test_a_notice_is_never_answered_by_a_machine() -> None:
    notice = parsed(failure(refused()))
    assert notice["Auto-Submitted"] == "auto-replied"
    assert notice["Content-Language"] == "en"


def test_a_notice_has_what_every_message_must_have() -> None:
    notice = failure(refused())
    header = parsed(notice)
    assert header["From"].addresses[0].addr_spec == POSTMASTER
    assert header["To"].addresses[0].addr_spec == POSTMASTER
    assert header["Date"].datetime == NOON
    assert header["Message-ID"] == "<notice-1@gate.example.com>" == notice.message_id
    assert (notice.recipient, notice.subject) == (POSTMASTER, header["Subject"])


def test_the_date_is_that_of_the_notice_whatever_the_zone() -> None:
    there = datetime(2026, 3, 1, 17, tzinfo=timezone(timedelta(hours=5)))
    notice = report.failure(
        refused(), hostname="gate.example.com", postmaster=POSTMASTER, notice_id="n", now=there
    )
    assert parsed(notice)["Date"].datetime == NOON


def test_a_subject_with_line_ends_adds_no_header() -> None:
    message = replace(refused(), subject="hello\r\nBcc: victim@example.com\r\n\r\nbody")
    notice = parsed(failure(message))
    assert notice["Bcc"] is None
    assert notice["Subject"] == "Not delivered: hello Bcc: victim@example.com body"


@pytest.mark.parametrize(
    "subject",
    [
        "=?utf-8?q?hello=0D=0ABcc:_victim@example.com=0D=0A=0D=0A<b>body</b>?=",
        "Grüße =?utf-8?b?DQpCY2M6IHZpY3RpbUBleGFtcGxlLmNvbQ==?= 💶",
        "ü =?unknown-8bit?q?=FF?=",
        "=?us-ascii?q?a?= =?us-ascii?q?b?=",
        "half of one =?utf-8?q?",
    ],
)
def test_a_subject_that_still_looks_encoded_is_told_as_it_is(subject: str) -> None:
    message = replace(refused(), subject=subject)
    for recipient in (INFO, "grün@bücher.example"):
        for notice in (failure(message), oversize(message, recipient)):
            well_formed(notice)
            assert parsed(notice)["Subject"] == notice.subject
            assert notice.subject.endswith(f": {subject}")


@pytest.mark.parametrize(
    "address",
    [
        '"=?utf-8?q?a?= b, \\"c\\""@example.com',
        "=?utf-8?b?DQpCY2M6?=@example.com",
        f'"{"a, (b) " * 20}"@example.com',
        f"{'a' * 200}=?utf-8?q?x?=@{'b' * 30}.example",
    ],
)
def test_an_address_stands_in_the_header_as_it_is_whatever_it_looks_like(address: str) -> None:
    assert envelope.valid(address)
    notice = oversize(downloaded(address), address)
    well_formed(notice)
    assert f"\r\nTo: {address}\r\n".encode() in notice.octets


def test_a_long_reply_is_cut() -> None:
    lines = text(failure(failed(attempted(downloaded(INFO)), reply="x" * 5_000))).splitlines()
    assert max(map(len, lines)) < LINE_CHARACTERS + 100
    assert any(line.endswith("x…") for line in lines)


def test_an_address_beyond_ascii_stands_in_the_header_as_it_is() -> None:
    recipient = "grün@bücher.example"
    notice = oversize(downloaded(recipient), recipient)
    assert f"To: {recipient}\r\n".encode() in notice.octets


def test_a_subject_beyond_ascii_is_encoded_where_the_addresses_are_ascii() -> None:
    notice = failure(replace(refused(), subject="Rechnung für März " + "💶" * 200))
    header = notice.octets.partition(b"\r\n\r\n")[0]
    assert header.isascii()
    assert max(map(len, header.split(b"\r\n"))) <= 78
    assert parsed(notice)["Subject"].startswith("Not delivered: Rechnung für März 💶")


words = st.sampled_from(("=?utf-8?q?", "=?utf-8?b?DQo=?=", "=?us-ascii?q?=0D=0A?=", "=?x?q?=FF?=", "?=", " "))
anything = st.text(max_size=400) | st.lists(words | st.text(max_size=20), max_size=20).map("".join)
locals_ = st.text("abcäöü.+-_'!#=?\"\\ ", min_size=1, max_size=70)
domains = st.sampled_from(("example.com", "bücher.example", "[192.0.2.1]", "a" * 60 + ".example"))


@settings(max_examples=40)
@given(anything, anything, anything, anything)
def test_whatever_strangers_wrote_the_notice_is_well_formed(
    subject: str, sender: str, message_id: str, reply: str
) -> None:
    message = replace(refused(), subject=subject, sender=sender, message_id=message_id)
    message = replace(message, recipients=(replace(message.recipients[0], reply=reply),))
    for notice in (failure(message), oversize(message)):
        well_formed(notice)


@settings(max_examples=60)
@given(locals_, domains, st.booleans())
def test_whoever_the_recipient_is_the_notice_is_well_formed(local: str, domain: str, quoted: bool) -> None:
    address: Any = f'"{local}"@{domain}' if quoted else f"{local}@{domain}"
    assume(envelope.valid(address))
    notice = oversize(downloaded(address), address)
    well_formed(notice)
    assert notice.recipient == address
    well_formed(failure(failed(attempted(downloaded(address)))))


def well_formed(notice: Notice) -> None:
    """Whole lines of at most 998 octets, each header once, nothing but what belongs there."""
    assert notice.octets.count(b"\n") == notice.octets.count(b"\r\n") == notice.octets.count(b"\r")
    assert b"\0" not in notice.octets
    assert max(map(len, notice.octets.split(b"\r\n"))) <= 998
    header = notice.octets.partition(b"\r\n\r\n")[0]
    names = [line.partition(b":")[0] for line in header.split(b"\r\n") if line[:1] not in (b" ", b"\t")]
    assert sorted(names) == sorted(
        [
            b"From",
            b"To",
            b"Subject",
            b"Date",
            b"Message-ID",
            b"Auto-Submitted",
            b"Content-Language",
            b"Content-Type",
            b"Content-Transfer-Encoding",
            b"MIME-Version",
        ]
    )
    assert "mailgate" in parsed(notice)["From"]
