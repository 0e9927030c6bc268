"""The sample mail is real mail: a parser finds in it what each message says it shows."""

import re
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import parsedate_to_datetime

import pytest

from cli.demo_mail import (
    ATTACHMENT,
    DEFERRED_RECIPIENT,
    DOMAIN,
    HOME_SIZE_LIMIT_OCTETS,
    REFUSED_RECIPIENT,
    DemoMessage,
    demo_messages,
)
from cli.stand_in_mailbox import StandInMailbox

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MESSAGES = {message.uidl: message for message in demo_messages(now=NOON)}
# RFC 5322 section 2.1.1.
LINE_LIMIT_OCTETS = 998


def parsed(message: DemoMessage) -> EmailMessage:
    return message_from_bytes(message.octets, policy=policy.default)


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
def test_every_message_is_well_formed(message: DemoMessage) -> None:
    mail = parsed(message)
    assert mail.defects == []
    assert mail["Delivered-To"] == message.recipient
    assert message.recipient.endswith("@" + DOMAIN)
    assert NOON - timedelta(hours=1) <= parsedate_to_datetime(mail["Date"]) < NOON
    lines = message.octets.split(b"\r\n")
    assert lines[-1] == b""
    assert max(map(len, lines)) <= LINE_LIMIT_OCTETS
    assert not re.search(rb"[\r\n]", message.octets.replace(b"\r\n", b""))


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
def test_every_address_is_in_a_domain_set_aside(message: DemoMessage) -> None:
    domains = re.findall(rb"@([a-z0-9.-]+)", message.octets)
    assert domains
    assert all(domain.endswith((b".example", b"example.com")) for domain in domains)


def test_unique_ids_and_message_ids_are_unique_and_pop3_can_carry_them() -> None:
    assert len(MESSAGES) == len(demo_messages(now=NOON)) == 7
    assert len({parsed(message)["Message-ID"] for message in MESSAGES.values()}) == 7
    StandInMailbox(
        username="demo",
        password="demo",
        messages={uidl: message.octets for uidl, message in MESSAGES.items()},
    )


def test_the_same_now_gives_the_same_octets() -> None:
    assert demo_messages(now=NOON) == tuple(MESSAGES.values())


def test_the_encoded_subject_decodes() -> None:
    mail = parsed(MESSAGES["demo-1-greeting"])
    assert mail["Subject"] == "Grüße aus Köln: Anfrage"
    assert mail["From"].addresses[0].display_name == "Jürgen Groß"
    assert b"\r\n.\r\n" in MESSAGES["demo-1-greeting"].octets


def test_the_attachment_comes_out_whole() -> None:
    (attachment,) = parsed(MESSAGES["demo-2-invoice"]).iter_attachments()
    assert attachment.get_filename() == "invoice.pdf"
    assert attachment.get_content() == ATTACHMENT


def test_the_eight_bit_text_has_eight_bits() -> None:
    message = MESSAGES["demo-3-eight-bit"]
    assert not message.octets.isascii()
    assert "café" in parsed(message).get_content()
    assert parsed(message)["From"].addresses[0].display_name == "Zoë Brun"


def test_the_list_mail_bounces_to_the_list() -> None:
    mail = parsed(MESSAGES["demo-4-list"])
    assert mail["List-Id"]
    assert mail["Return-Path"] != f"<{mail['From'].addresses[0].addr_spec}>"


def test_one_recipient_each_is_refused_and_deferred() -> None:
    recipients = [message.recipient for message in MESSAGES.values()]
    assert recipients.count(REFUSED_RECIPIENT) == 1
    assert recipients.count(DEFERRED_RECIPIENT) == 1


def test_only_the_oversize_message_is_above_the_limit() -> None:
    above = [uidl for uidl, message in MESSAGES.items() if len(message.octets) > HOME_SIZE_LIMIT_OCTETS]
    assert above == ["demo-7-oversize"]
    assert 290 * 1024 < len(MESSAGES["demo-7-oversize"].octets) < 320 * 1024
