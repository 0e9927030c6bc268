"""Delivery status notifications that come back, and what they prove of a message of ours (RFC 3464). Pure, never raises.

Anybody can write one. What a forged one could do is bounded so: it says something only of a message that goes out and that it
names by an id of ours (ENVID, or our Received field in the header it returns) or by its Message-ID, which only those know
who had a copy; only of recipients that were relayed; and all that it says must agree. Even then it sends no mail, stops
none that is under way and brings nothing to light: a person who reads the record finds the report named there beside what it
claims. Whoever could forge one can as well send it to the sender, who has nothing to check it by. `relayed` and
`delayed` prove nothing and change nothing.

No report is due about a report of ours, for it has the null reverse-path; some servers send one all the same, to whom it says
it is from. Such a one is recorded like any other, and nobody is told again.

Read is the start of the message only, by hand: a parser that builds a tree of whatever strangers nest has no bounds.
"""

from __future__ import annotations

import re
from binascii import Error as TransferEncodingError
from binascii import a2b_base64, a2b_qp
from dataclasses import dataclass

from engine.core import dsn, envelope, headers, ids, trace
from engine.core.headers import Field
from engine.core.policy import Policy
from store.events import Delivered, Failed
from store.life import Message
from store.recipient import Recipient

READ_LIMIT_OCTETS = 256 * 1024  # the returned message comes last, and of that only the header counts
PARTS_LIMIT = 16  # three are usual
RECIPIENTS_LIMIT = 1_000
ENVID_LIMIT_CHARACTERS = 100  # RFC 3461 section 4.4

# What each action proves (RFC 3464 section 2.3.3). Who expanded a list delivered to the address that we were given.
PROVES = {"failed": "failed", "delivered": "delivered", "expanded": "delivered"}

_BOUNDARY = re.compile(rb'boundary[ \t]*=[ \t]*(?:"([^"\r\n]{1,200})"|([^\s;"]{1,200}))', re.IGNORECASE)
_BLANK_LINES = re.compile(rb"\n(?:[ \t]*\r?\n)+")
_ID = re.compile(rf"[{ids.ALPHABET}]{{{ids.LENGTH}}}(?=@)")
_CODE = re.compile(r"([245]\d\d)(?=[ -]|$)")
_HEXPOINT = re.compile(r"\\x\{([0-9A-Fa-f]{1,6})\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a report says of one recipient. `original` is the address that the sender gave, `final` where it ended."""

    original: str | None
    final: str | None
    action: str  # in lower case
    status: str
    diagnostic: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusReport:
    """A report as it was read. `ids` are those of ours that it names: more than one contradict each other."""

    envid: str | None
    ids: tuple[str, ...]
    message_id: str | None  # of the message it returns
    recipients: tuple[Said, ...]


def own_envid(message_id: str, hostname: str) -> str:
    """Return the ENVID that we give to a message of this id, not yet as xtext."""
    return f"{message_id}@{hostname.encode('ascii', 'replace').decode()}"[:ENVID_LIMIT_CHARACTERS]


def read(octets: bytes, hostname: str) -> StatusReport | None:
    """Return what a message reports; None for one that is no report. READ_LIMIT_OCTETS of it are enough."""
    octets = octets[:READ_LIMIT_OCTETS]
    parts = _parts(octets)
    status = next((content for kind, content in parts if kind.endswith(b"delivery-status")), None)
    if status is None:
        return None
    envid, recipients = _statuses(status)
    returned = next((content for kind, content in parts if _is_message(kind)), b"")
    named = [
        _own(envid, hostname),
        *trace.own_ids(returned, hostname)[:1],
    ]  # the last passage was the one out
    return StatusReport(
        envid=envid,
        ids=tuple(dict.fromkeys(one for one in named if one is not None)),
        message_id=headers.facts(returned).message_id,
        recipients=recipients,
    )


def verdicts(
    message: Message, report: StatusReport, stream: str, policy: Policy
) -> tuple[Delivered | Failed, ...]:
    """Return what a report proves of a message; `stream` is the report's own. Nothing, where anything contradicts."""
    if message.direction == "inbound" or _contradicts(message, report):
        return ()
    events: list[Delivered | Failed] = []
    for recipient in message.recipients:
        said = [one for one in report.recipients if _speaks_of(one, recipient)]
        proven = {PROVES[one.action] for one in said if one.action in PROVES}
        if recipient.state == "relayed" and len(proven) == 1:
            last = next(one for one in said if one.action in PROVES)
            events.append(_verdict(message, recipient, last, stream, policy))
    return tuple(events)


def _contradicts(message: Message, report: StatusReport) -> bool:
    if any(one != message.id for one in report.ids):
        return True
    if message.envid and report.envid and dsn.from_xtext(message.envid) != report.envid:
        return True
    return bool(report.message_id and message.message_id and report.message_id != message.message_id)


def _speaks_of(said: Said, recipient: Recipient) -> bool:
    if not recipient.address:
        return False  # erased
    known = {envelope.key(recipient.address)}
    if said.final is not None and envelope.key(said.final) in known:
        return True
    given = _address(recipient.orcpt and dsn.from_xtext(recipient.orcpt))
    known |= {envelope.key(given)} if given else set()
    return said.original is not None and envelope.key(said.original) in known


def _verdict(
    message: Message, recipient: Recipient, said: Said, stream: str, policy: Policy
) -> Delivered | Failed:
    reply = said.diagnostic or f"{said.action}, status {said.status or 'unknown'}"
    found = _CODE.match(reply)
    code = int(found[1]) if found else None
    if PROVES[said.action] == "delivered":
        return Delivered(
            numbers=(recipient.number,),
            next_hop=recipient.next_hop or "",
            attempt=message.attempts,
            address="",
            tls="",
            code=code,
            duration_ms=0,
            report=stream,
            recipients=(recipient.address,),
            reply=reply,
        )
    return Failed(
        numbers=(recipient.number,),
        reason="bounced-later",
        next_hop=recipient.next_hop,
        attempt=message.attempts,
        code=code,
        report=stream,
        policy=policy.version,
        recipients=(recipient.address,),
        reply=reply,
    )


def _parts(octets: bytes) -> list[tuple[bytes, bytes]]:
    """The parts of a multipart/report, each with its media type and its content, decoded."""
    section = headers.section(octets)
    fields = headers.split(section)
    kind = _value(fields, b"content-type")
    found = _BOUNDARY.search(kind)
    if found is None or _media(kind) != b"multipart/report":
        return []
    chunks = (b"\n" + octets[len(section) :]).split(b"\n--" + (found[1] or found[2]), PARTS_LIMIT + 1)
    parts = []
    for chunk in chunks[1 : PARTS_LIMIT + 1]:
        if chunk.startswith(b"--"):
            break
        parts.append(_part(chunk.partition(b"\n")[2]))
    return parts


def _part(chunk: bytes) -> tuple[bytes, bytes]:
    section = headers.section(chunk)
    fields = headers.split(section)
    content = chunk[len(section) :].removeprefix(b"\r").removeprefix(b"\n")
    encoding = _value(fields, b"content-transfer-encoding").lower()
    return _media(_value(fields, b"content-type")), _decoded(content, encoding)


def _decoded(content: bytes, encoding: bytes) -> bytes:
    if encoding == b"quoted-printable":
        return a2b_qp(content)
    if encoding != b"base64":
        return content
    try:
        return a2b_base64(content + b"===")
    except TransferEncodingError:
        return b""


def _is_message(kind: bytes) -> bool:
    return kind in (b"message/rfc822", b"text/rfc822-headers", b"message/global", b"message/global-headers")


def _statuses(content: bytes) -> tuple[str | None, tuple[Said, ...]]:
    """The ENVID, and what is said of each recipient. Some leave out the empty line behind the first block."""
    blocks = _BLANK_LINES.split(content.strip(b"\r\n \t"), RECIPIENTS_LIMIT + 1)[: RECIPIENTS_LIMIT + 1]
    read = [headers.split(block + b"\n") for block in blocks]
    envid = headers.text(_value(read[0], b"original-envelope-id")) or None
    said = (_said(fields) for fields in read if _value(fields, b"action"))
    return envid, tuple(said)


def _said(fields: tuple[Field, ...]) -> Said:
    def text(name: bytes) -> str:
        return headers.text(_value(fields, name))

    kind, typed, diagnostic = text(b"diagnostic-code").partition(";")
    return Said(
        original=_address(text(b"original-recipient")),
        final=_address(text(b"final-recipient")),
        action=(text(b"action").partition("(")[0].split() or [""])[0].lower(),
        status=text(b"status").partition("(")[0].strip(),
        diagnostic=(diagnostic if typed else kind).strip(),
    )


def _address(typed: str) -> str | None:
    """An address without its type; one in the escapes of RFC 6533 section 3 as it is."""
    kind, semicolon, address = typed.partition(";")
    address = address if semicolon else kind
    if kind.strip().lower() == "utf-8":
        address = _HEXPOINT.sub(_character, address)
    return envelope.parse(address)


def _character(found: re.Match[str]) -> str:
    point = int(found[1], 16)
    return chr(point) if point <= 0x10FFFF else "?"


def _own(envid: str | None, hostname: str) -> str | None:
    """The id in an ENVID that is of our making."""
    found = _ID.match(envid or "")
    return found[0] if found and own_envid(found[0], hostname) == envid else None


def _value(fields: tuple[Field, ...], name: bytes) -> bytes:
    return next((field.value for field in fields if field.name.lower() == name), b"")


def _media(value: bytes) -> bytes:
    """The media type, in lower case; b"" for none."""
    return value.partition(b";")[0].strip().lower()
