"""Reports that the gateway writes: a person can act on them, machines can read them, whatever strangers wrote."""

from __future__ import annotations

from email import message_from_bytes
from email.message import EmailMessage
from email.message import Message as Part
from email.policy import SMTP
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.core import bounce, dsn, envelope
from engine.core.owed import BY_HAND, Fate, Kind
from engine.core.report import Notice
from store.life import Message
from tests.engine.core.lives import INFO, NOON, policy, submitted

BOB = "bob@customer.example"
EVE = "eve@customer.example"
ORIGINAL = b"Subject: Offer 4712\r\nMessage-ID: <2@example.com>\r\n\r\nThe offer you asked for.\r\n"
REFUSED = "550 5.1.1 no such user"
SERVER = "192.0.2.25:25"
POLICY = policy()


def write(
    kind: Kind,
    message: Message,
    *replies: str,
    original: bytes = ORIGINAL,
    address: str = SERVER,
    **facts: Any,
) -> Notice:
    """A report about the first recipients, with a reply for each."""
    fates = tuple(
        Fate(recipient=one, reply=reply, address=address, **facts)
        for one, reply in zip(message.recipients, replies, strict=False)
    )
    return dsn.write(kind, message, fates, original, policy=POLICY, notice_id="06h0kps6nnnnnnnn", now=NOON)


def failure(message: Message | None = None, reply: str = REFUSED, **facts: Any) -> Notice:
    return write("failure", message or submitted(BOB), reply, **facts)


def parsed(notice: Notice) -> EmailMessage:
    message = message_from_bytes(notice.octets, policy=SMTP.clone(utf8=True))
    assert isinstance(message, EmailMessage)
    assert [part.defects for part in message.walk() if part.defects] == []
    return message


def parts(notice: Notice) -> list[Any]:
    return list(parsed(notice).iter_parts())


def text(notice: Notice) -> str:
    content: str = parts(notice)[0].get_content()
    return content.replace("\r\n", "\n")


def blocks(notice: Notice) -> list[Part]:
    """The blocks of the part for machines: of the message, then of each recipient."""
    found: list[Part] = parts(notice)[1].get_payload()
    return found


def test_a_person_reads_what_happened_to_whom_what_it_means_and_what_can_be_done() -> None:
    said = text(write("failure", submitted(BOB, EVE), REFUSED, "552 5.2.2 over quota"))
    assert "could not be delivered" in said
    assert "Subject: Offer 4712" in said
    assert f"  {BOB}\n    The server (192.0.2.25:25) said: {REFUSED}" in said
    assert "no such address" in said
    assert "the mailbox is full" in said
    assert "Questions? postmaster@example.com" in said
    assert max(map(len, said.splitlines())) < 80


@pytest.mark.parametrize(
    ("reply", "meaning"),
    [
        ("550 5.1.1 x", "no such address"),
        ("550 5.1.10 x", "takes no mail"),
        ("550 5.7.26 x", "by its rules"),
        ("550 x", "does not accept it"),
        ("552 5.3.4 x", "too large"),
    ],
)
def test_each_status_has_a_meaning(reply: str, meaning: str) -> None:
    assert meaning in text(failure(reply=reply))


def test_machines_read_each_recipient_s_fate() -> None:
    message = submitted(BOB, EVE, envid="QQ+2B1", orcpt=("rfc822;B+2BB@customer.example", ""))
    of_message, bob, eve = blocks(write("failure", message, REFUSED, "552 5.2.2 full"))
    assert of_message["Reporting-MTA"] == "dns; gate.example.com"
    assert of_message["Original-Envelope-Id"] == "QQ+1"
    assert of_message["Arrival-Date"] == "Sun, 01 Mar 2026 12:00:00 +0000"
    assert bob["Original-Recipient"] == "rfc822; B+B@customer.example"
    assert bob["Final-Recipient"] == f"rfc822; {BOB}"
    assert (bob["Action"], bob["Status"]) == ("failed", "5.1.1")
    assert bob["Remote-MTA"] == "dns; [192.0.2.25]"
    assert bob["Diagnostic-Code"] == f"smtp; {REFUSED}"
    assert (eve["Original-Recipient"], eve["Status"]) == (None, "5.2.2")


def test_without_an_envid_of_the_client_s_there_is_none_in_the_report() -> None:
    assert blocks(failure())[0]["Original-Envelope-Id"] is None


def test_a_delay_says_until_when_and_a_success_promises_no_more_than_is_known() -> None:
    late = write("delay", submitted(BOB), "451 4.3.0 later")
    (_, one) = blocks(late)
    assert (one["Action"], one["Status"]) == ("delayed", "4.3.0")
    assert one["Will-Retry-Until"] == "Fri, 06 Mar 2026 12:00:00 +0000"
    assert "tried again by itself" in text(late)
    passed = write("success", submitted(BOB), "250 2.0.0 queued")
    (_, one) = blocks(passed)
    assert (one["Action"], one["Status"]) == ("relayed", "2.0.0")
    assert "does not say\nthat it arrived" in text(passed)


@pytest.mark.parametrize(
    ("kind", "reply", "facts", "status"),
    [
        ("failure", "550 no", {}, "5.0.0"),
        ("failure", "550-5.7.1 no", {}, "5.7.1"),
        ("failure", "5.4.6 loop", {}, "5.4.6"),
        ("failure", "451 4.3.0 later", {}, "5.0.0"),
        ("failure", "451 4.3.0 later", {"expired": True}, "4.4.7"),
        ("failure", "552 no", {"too_large": True}, "5.3.4"),
        ("failure", "550 version 5.1.1 of it", {}, "5.0.0"),
        ("delay", "nothing came", {}, "4.0.0"),
        ("delay", "4.4.1 connect to smart.example:25: connection refused", {}, "4.4.1"),
        ("delay", "535 5.7.8 wrong (authentication as us failed with smart.example:25)", {}, "4.7.8"),
        ("success", "250 ok", {}, "2.0.0"),
    ],
)
def test_the_status_is_the_reply_s_or_a_fitting_one(
    kind: Kind, reply: str, facts: dict[str, Any], status: str
) -> None:
    (_, one) = blocks(write(kind, submitted(BOB), reply, **facts))
    assert one["Status"] == status


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (REFUSED, "smtp"),
        ("4.4.1 connect to smart.example:25: connection refused", "x-mailgate"),
        ("421 4.3.2 closing", "smtp"),
        ("535 5.7.8 wrong (authentication as us failed with smart.example:25)", "smtp"),
        ("553 5.1.3 not sent by mailgate: the recipient's address is empty", "x-mailgate"),
        ("the octets are no longer kept", "x-mailgate"),
    ],
)
def test_only_what_a_server_said_is_called_smtp(reply: str, kind: str) -> None:
    notice = failure(reply=reply)
    assert blocks(notice)[1]["Diagnostic-Code"] == f"{kind}; {reply}"
    assert (f"The server (192.0.2.25:25) said: {reply}" in text(notice)) is (kind == "smtp")
    assert (f"What happened: {reply}" in text(notice)) is (kind != "smtp")


def test_what_a_person_stopped_is_told_so_without_the_reason() -> None:
    notice = failure(reply=BY_HAND, address="", by_hand=True)
    said = text(notice)
    assert f"What happened: {BY_HAND}" in said
    assert "stopped here" in said
    assert "the other server" not in said
    assert blocks(notice)[1]["Diagnostic-Code"] == f"x-mailgate; {BY_HAND}"


def test_where_nobody_was_asked_no_server_is_named() -> None:
    assert blocks(failure(address=""))[1]["Remote-MTA"] is None
    assert blocks(failure(address="[2001:db8::1]:25"))[1]["Remote-MTA"] == "dns; [IPv6:2001:db8::1]"


def test_the_header_is_returned() -> None:
    returned = parts(failure())[2]
    assert returned.get_content_type() == "text/rfc822-headers"
    assert "Message-ID: <2@example.com>" in returned.get_payload()
    assert "The offer" not in returned.get_payload()


def test_all_of_it_is_returned_where_that_is_asked_for_and_it_is_small() -> None:
    def kind(original: bytes, of: Kind = "failure", **facts: Any) -> str:
        message = submitted(BOB, ret="FULL", size_octets=len(original) + facts.pop("more", 0), **facts)
        found: str = parts(write(of, message, REFUSED, original=original))[2].get_content_type()
        return found

    assert kind(ORIGINAL) == "message/rfc822"
    assert kind(ORIGINAL, smtputf8=True) == "message/global"
    assert kind(ORIGINAL, of="delay") == "text/rfc822-headers"
    assert kind(ORIGINAL, more=1) == "text/rfc822-headers"  # not all of it is at hand
    assert kind(ORIGINAL + b"x" * dsn.RETURNED_LIMIT_OCTETS) == "text/rfc822-headers"


def test_a_report_with_eight_bits_in_a_part_says_so_of_the_whole() -> None:
    notice = failure(original="Subject: Käse\r\n\r\n".encode())
    assert (
        parsed(notice)["Content-Transfer-Encoding"] == "8bit" == parts(notice)[2]["Content-Transfer-Encoding"]
    )
    assert parsed(failure())["Content-Transfer-Encoding"] == "7bit"


def test_a_message_whose_octets_are_gone_is_reported_without_them() -> None:
    assert len(parts(failure(original=b""))) == 2


def test_a_report_is_a_message_of_its_own_that_no_machine_answers() -> None:
    notice = failure()
    header = parsed(notice)
    assert header["Auto-Submitted"] == "auto-replied"
    assert (header["To"], notice.recipient) == (INFO, INFO)
    assert header.get_content_type() == "multipart/report"
    assert header.get_param("report-type") == "delivery-status"
    assert header["Message-ID"] == "<06h0kps6nnnnnnnn@gate.example.com>" == notice.message_id
    assert notice.subject == "Not delivered: Offer 4712"


def test_addresses_beyond_ascii_are_escaped_for_machines_and_readable_for_people() -> None:
    message = submitted("grün@bücher.example", reverse_path="jürgen@example.com")
    notice = failure(message)
    assert blocks(notice)[1]["Final-Recipient"] == r"utf-8; gr\x{FC}n@b\x{FC}cher.example"
    assert "grün@bücher.example" in text(notice)
    assert "To: jürgen@example.com\r\n".encode() in notice.octets


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=60))
def test_xtext_there_and_back(value: str) -> None:
    assert dsn.from_xtext(dsn.xtext(value)) == value
    assert not set(dsn.xtext(value)).intersection("= ")


anything = st.text(max_size=300)
recipients = st.lists(
    st.builds(
        "{}@{}".format,
        st.text("abcäöü.+-_'!#=?\\\" ", min_size=1, max_size=30),
        st.sampled_from(("customer.example", "bücher.example", "[192.0.2.1]")),
    ).filter(envelope.valid),
    min_size=1,
    max_size=4,
    unique_by=envelope.key,
)


@settings(max_examples=80)
@given(recipients, st.data(), st.sampled_from(("failure", "delay", "success")))
def test_what_goes_into_a_report_is_what_it_says_to_whoever_reads_it(
    addresses: list[str], data: st.DataObject, kind: Kind
) -> None:
    message = submitted(*addresses, envid=dsn.xtext(data.draw(st.from_regex(r"[!-~]{1,40}", fullmatch=True))))
    message = replace(message, subject=data.draw(anything), sender=data.draw(anything))
    replies = [f"550 5.1.{n} " + data.draw(anything) for n, _ in enumerate(addresses)]
    original = data.draw(st.binary(max_size=300))
    notice = write(kind, message, *replies, original=original)
    well_formed(notice)
    report = bounce.read(notice.octets, "gate.example.com")
    assert report is not None
    assert report.envid == dsn.from_xtext(message.envid or "")
    assert [said.final for said in report.recipients] == [envelope.parse(one) for one in addresses]
    assert {said.action for said in report.recipients} == {dsn.ACTIONS[kind]}
    if kind == "failure":
        assert [said.status for said in report.recipients] == [f"5.1.{n}" for n, _ in enumerate(addresses)]
    of_message, *of_recipients = blocks(notice)
    assert [one["Action"] for one in of_recipients] == [dsn.ACTIONS[kind]] * len(addresses)
    assert of_message["Reporting-MTA"] == "dns; gate.example.com"


@given(st.binary(max_size=600), st.sampled_from(("FULL", "HDRS", None)), st.booleans())
def test_whatever_is_returned_the_report_is_well_formed(original: bytes, ret: Any, smtputf8: bool) -> None:
    assume(original)
    well_formed(
        failure(submitted(BOB, ret=ret, smtputf8=smtputf8, size_octets=len(original)), original=original)
    )


def well_formed(notice: Notice) -> None:
    """Whole lines of at most 998 octets, and three parts at most, none hidden in another."""
    assert notice.octets.count(b"\n") == notice.octets.count(b"\r\n") == notice.octets.count(b"\r")
    assert b"\0" not in notice.octets
    assert max(map(len, notice.octets.split(b"\r\n"))) <= 998
    assert notice.octets.count(b"\r\n--=_06h0kps6nnnnnnnn") in (3, 4)
    header, _, body = notice.octets.partition(b"\r\n\r\n")
    names = [line.partition(b":")[0] for line in header.split(b"\r\n") if line[:1] not in (b" ", b"\t")]
    assert names == [
        b"From",
        b"To",
        b"Subject",
        b"Date",
        b"Message-ID",
        b"Auto-Submitted",
        b"MIME-Version",
        b"Content-Type",
        b"Content-Transfer-Encoding",
    ]
    body = notice.octets[len(header) :]
    encoding = b"7bit" if body.isascii() else b"8bit"
    assert header.endswith(b"\r\nContent-Transfer-Encoding: " + encoding)
