"""Sample mail for `mailgate demo`: one message for each thing that can become of mail.

Owns the octets, and the names and limits the stand-in servers need so that every fate shows. Domains are
those RFC 2606 sets aside. Nothing is read from a file or a network; the same `now` gives the same octets.
"""

import base64
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import format_datetime

DOMAIN = "example.com"
REFUSED_RECIPIENT = "left.the.company@example.com"
DEFERRED_RECIPIENT = "sales@example.com"
# Above the largest sample but one, below the oversize one.
HOME_SIZE_LIMIT_OCTETS = 200 * 1024
OVERSIZE_OCTETS = 300 * 1024
# A one-page PDF's opening; the attachment is only there to be carried.
ATTACHMENT = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<< /Type /Catalog >>\nendobj\n" * 60


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoMessage:
    """A message as a provider's mailbox holds it. `shows` says in one line what it is there for."""

    uidl: str
    recipient: str
    octets: bytes
    shows: str


def demo_messages(*, now: datetime) -> tuple[DemoMessage, ...]:
    """The sample messages, oldest first. `now` must be aware; the mail is dated in the hour before it."""
    made = (
        _encoded_subject,
        _attachment,
        _eight_bit,
        _list_mail,
        _to_refused,
        _to_deferred,
        _oversize,
    )
    first = now - timedelta(minutes=5 * len(made))
    return tuple(make(first + timedelta(minutes=5 * place)) for place, make in enumerate(made))


def _letter(
    *,
    uidl: str,
    recipient: str,
    author: str,
    subject: str,
    body: bytes,
    sent_at: datetime,
    shows: str,
    reverse_path: str | None = None,
    fields: tuple[str, ...] = ("Content-Type: text/plain; charset=utf-8",),
) -> DemoMessage:
    """The trace a provider puts in front, the header, the body with CRLF line endings."""
    address = author[author.index("<") + 1 : -1]
    header = (
        f"Return-Path: <{address if reverse_path is None else reverse_path}>",
        f"Delivered-To: {recipient}",
        "Received: from mx.demo.example (mx.demo.example [192.0.2.25])",
        f"\tby pop.provider.example with ESMTPS id {uidl}",
        f"\tfor <{recipient}>; {format_datetime(sent_at + timedelta(seconds=4))}",
        f"Date: {format_datetime(sent_at)}",
        f"From: {author}",
        f"To: <{recipient}>",
        f"Subject: {subject}",
        f"Message-ID: <{uidl}@{address.partition('@')[2]}>",
        "MIME-Version: 1.0",
        *fields,
    )
    octets = "\r\n".join(header).encode("ascii") + b"\r\n\r\n" + body.replace(b"\n", b"\r\n")
    return DemoMessage(uidl=uidl, recipient=recipient, octets=octets, shows=shows)


def _encoded_subject(sent_at: datetime) -> DemoMessage:
    return _letter(
        uidl="demo-1-greeting",
        recipient="info@example.com",
        author="=?utf-8?Q?J=C3=BCrgen_Gro=C3=9F?= <juergen@demo.example>",
        subject="=?utf-8?B?" + base64.b64encode("Grüße aus Köln: Anfrage".encode()).decode() + "?=",
        fields=("Content-Type: text/plain; charset=us-ascii", "Content-Transfer-Encoding: 7bit"),
        body=b"Good morning,\n\nplease send us your price list.\n.\nThe line above is a single dot.\n",
        sent_at=sent_at,
        shows="an encoded subject and a line with a single dot",
    )


def _attachment(sent_at: datetime) -> DemoMessage:
    body = (
        b"--=_demo\nContent-Type: text/plain; charset=us-ascii\n\nThe invoice is attached.\n\n"
        b'--=_demo\nContent-Type: application/pdf; name="invoice.pdf"\n'
        b'Content-Disposition: attachment; filename="invoice.pdf"\nContent-Transfer-Encoding: base64\n\n'
        + base64.encodebytes(ATTACHMENT)
        + b"\n--=_demo--\n"
    )
    return _letter(
        uidl="demo-2-invoice",
        recipient="accounts@example.com",
        author="Demo Paper Ltd <billing@demo.example>",
        subject="Invoice 2041",
        fields=('Content-Type: multipart/mixed; boundary="=_demo"',),
        body=body,
        sent_at=sent_at,
        shows="a multipart message with an attachment",
    )


def _eight_bit(sent_at: datetime) -> DemoMessage:
    return _letter(
        uidl="demo-3-eight-bit",
        recipient="info@example.com",
        author="=?utf-8?Q?Zo=C3=AB_Brun?= <zoe.brun@demo.example>",
        subject="=?iso-8859-1?Q?D=E9jeuner_jeudi=3F?=",
        fields=("Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: 8bit"),
        body="Bonjour,\n\nça vous va à midi ? Le café est déjà réservé.\n\nZoë\n".encode(),
        sent_at=sent_at,
        shows="a text in eight bits",
    )


def _list_mail(sent_at: datetime) -> DemoMessage:
    return _letter(
        uidl="demo-4-list",
        recipient="info@example.com",
        author="Weekly News <news@lists.demo.example>",
        subject="[weekly] What changed this week",
        reverse_path="bounces+info=example.com@lists.demo.example",
        fields=(
            "List-Id: The weekly news <weekly.lists.demo.example>",
            "List-Unsubscribe: <https://lists.demo.example/leave>",
            "Precedence: list",
            "Content-Type: text/plain; charset=us-ascii",
        ),
        body=b"This week: nothing was lost.\n",
        sent_at=sent_at,
        shows="list mail, whose reverse-path is not its author",
    )


def _to_refused(sent_at: datetime) -> DemoMessage:
    return _letter(
        uidl="demo-5-refused",
        recipient=REFUSED_RECIPIENT,
        author="Old Friend <friend@demo.example>",
        subject="Are you still there?",
        body=b"I have not heard from you for a while.\n",
        sent_at=sent_at,
        shows="a recipient the home server refuses",
    )


def _to_deferred(sent_at: datetime) -> DemoMessage:
    return _letter(
        uidl="demo-6-deferred",
        recipient=DEFERRED_RECIPIENT,
        author="New Customer <customer@demo.example>",
        subject="Order 77",
        body=b"Ten of the blue ones, please.\n",
        sent_at=sent_at,
        shows="a recipient the home server defers once, then takes",
    )


def _oversize(sent_at: datetime) -> DemoMessage:
    line = b"0.1732  0.1741  0.1738  0.1755  0.1729  0.1744  0.1750\n"
    body = line * (OVERSIZE_OCTETS // len(line))
    return _letter(
        uidl="demo-7-oversize",
        recipient="info@example.com",
        author="Laboratory <lab@demo.example>",
        subject="All measurements of the year",
        body=body,
        sent_at=sent_at,
        shows="a message above the home server's limit",
    )
