"""Delivery status notifications that the gateway writes (RFC 3464). As octets, pure.

In front stands what a person reads: what happened to whom, what the other server said, what it means, what can be done.
Then the part for machines, then the header of the message, or all of it where RET=FULL asks for that and it is
small. All of it is well-formed whatever strangers wrote; an address beyond ASCII stands in the machine's part as RFC 6533
section 3 has it where UTF-8 may not pass.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime

from engine.core import headers, report
from engine.core.owed import Fate, Kind
from engine.core.policy import Policy
from engine.core.report import Notice
from store.life import Message

RETURNED_LIMIT_OCTETS = 50_000  # of a message that is returned whole, as with Postfix
FIELD_CHARACTERS = 700  # of a reply that is quoted: a line has 998
LINE_OCTETS = 998  # RFC 5322 section 2.1.1

TITLES: dict[Kind, str] = {"failure": "Not delivered", "delay": "Delayed", "success": "Passed on"}
ACTIONS: dict[Kind, str] = {"failure": "failed", "delay": "delayed", "success": "relayed"}
OPENINGS: dict[Kind, str] = {
    "failure": "your message could not be delivered to the following recipients.\nIt is not tried again.",
    "delay": "your message could not be delivered to the following recipients yet.\n"
    "It is tried again by itself: there is nothing that you have to do.",
    "success": "you asked to be told: your message was handed on for the following recipients.\n"
    "The server that took it sends no report of its own, so this does not say\nthat it arrived in the end.",
}
# By subject and detail of the status (RFC 3463), then by subject alone: what it means, and what can be done.
MEANINGS = {
    "1.1": ("there is no such address there", "check the spelling of the address, and send it again"),
    "1.2": ("there is no such domain", "check what stands behind the @, and send it again"),
    "1.3": ("this is not a valid address", "check the spelling of the address, and send it again"),
    "1.8": ("your own address was refused", "ask your administrator"),
    "1.10": ("this domain takes no mail", "check what stands behind the @"),
    "2.1": ("the mailbox is switched off", "ask the recipient in another way"),
    "2.2": ("the mailbox is full", "send it again later, or ask the recipient in another way"),
    "2.3": ("it is too large for the mailbox", "send a smaller message"),
    "3.4": (
        "it is too large for the other server",
        "send a smaller message, or the attachment in another way",
    ),
    "4.7": ("the other server did not take it in time", "send it again later; tell your administrator"),
    "6.7": ("the other server can't handle addresses beyond ASCII", "use another address of the recipient"),
    "1": ("the other server does not accept this address", "check the address"),
    "2": ("the mailbox can't take it", "send it again later, or ask the recipient in another way"),
    "4": ("the other server could not be reached", "send it again later; tell your administrator"),
    "7": (
        "the other server does not accept it by its rules",
        "read what the server said; the recipient's administrator can tell more",
    ),
}
STOPPED = ("it was stopped here, not by the recipient's server", "ask your administrator")
NO_MEANING = ("the other server does not accept it", "read what the server said, or ask your administrator")

_ENHANCED = re.compile(r"(?:\d{3}[ -])?([245])\.(\d{1,3}\.\d{1,3})(?=\s|$)")
_CODE = re.compile(r"([245])\d\d(?=[ -]|$)")
_OURS = re.compile(r".*not sent by mailgate")  # what an adapter says where no server was asked
_LINE_END = re.compile(rb"\r\n|\r|\n")
_XTEXT = re.compile(r"\+([0-9A-F]{2})")
_NOT_PLAIN = re.compile(r"[^!-*,-<>-\[\]-~]")  # RFC 6533 section 3: QCHAR


def write(
    kind: Kind,
    message: Message,
    fates: tuple[Fate, ...],
    original: bytes,
    *,
    policy: Policy,
    notice_id: str,
    now: datetime,
) -> Notice:
    """Return the report. `original` is the message from its start, as much as there is; b"" where it is gone."""
    begun = report.letter(
        TITLES[kind], message, message.reverse_path, policy.hostname, policy.postmaster, notice_id, now
    )
    boundary = f"=_{notice_id}"
    end = _end(message, policy, now)
    parts = [
        _for_people(kind, message, fates, policy, end),
        _for_machines(kind, message, fates, policy, end),
        _returned(kind, message, original),
    ]
    delimiter = f"--{boundary}".encode()
    body = b"".join(delimiter + b"\r\n" + part + b"\r\n" for part in parts if part)
    return replace(begun, octets=begun.octets + _described(body, boundary) + body + delimiter + b"--\r\n")


def _described(body: bytes, boundary: str) -> bytes:
    """The fields that describe the content: they say of a multipart, too, if there are 8 bits in it (RFC 2045 section 6.4)."""
    encoding = "7bit" if body.isascii() else "8bit"
    kind = f'multipart/report; report-type=delivery-status;\r\n\tboundary="{boundary}"'
    return (
        f"MIME-Version: 1.0\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode()
    )


def status(kind: Kind, fate: Fate) -> str:
    """Return the status code (RFC 3463): from the reply where it has a fitting one.

    What a server refused for good when the session was set up is tried again all the same: its class is that of a delay.
    """
    wanted = {"failure": "5", "delay": "4", "success": "2"}[kind]
    found = _ENHANCED.match(fate.reply)
    if fate.too_large:
        return "5.3.4"
    if kind == "failure" and fate.expired:
        return "4.4.7"
    if found is not None and (found[1] == wanted or kind == "delay"):
        return f"{wanted}.{found[2]}"
    return f"{wanted}.0.0"


def xtext(text: str) -> str:
    """Return ASCII text as an ESMTP parameter may have it (RFC 3461 section 4)."""
    return "".join(c if "!" <= c <= "~" and c not in "+=" else f"+{ord(c):02X}" for c in text)


def from_xtext(text: str) -> str:
    """Undo `xtext`."""
    return _XTEXT.sub(lambda found: chr(int(found[1], 16)), text)


def orcpt(address: str) -> str:
    """Return a recipient's address as ORCPT has it; "" for one beyond ASCII, which not every server could read."""
    return f"rfc822;{xtext(address)}" if address.isascii() else ""


def typed(address: str) -> str:
    """Return an address with its type (RFC 3464 section 2.1.2, RFC 6533 section 3)."""
    if address.isascii():
        return f"rfc822; {_field(address)}"
    return "utf-8; " + _NOT_PLAIN.sub(lambda found: rf"\x{{{ord(found[0]):X}}}", address)


def _for_people(
    kind: Kind, message: Message, fates: tuple[Fate, ...], policy: Policy, end: datetime | None
) -> bytes:
    lines = [OPENINGS[kind], "", *report.about(message), ""]
    for fate in fates:
        lines += _of_one(kind, fate)
    if kind == "delay":
        until = f"until {format_datetime(end)}" if end else "after that"
        lines += [f"If it can't be delivered {until}, you will be told."]
    lines += ["", f"Questions? {policy.postmaster} can look it up: it is message {message.id}."]
    from email.policy import SMTP  # slow to import, and most runs write no report

    part = EmailMessage()
    part.set_content(report.letter_text(lines, policy.hostname))
    del part["MIME-Version"]
    part["Content-Language"] = "en"
    return part.as_bytes(policy=SMTP)


def _of_one(kind: Kind, fate: Fate) -> list[str]:
    said = report.short(fate.reply) or "nothing is known"
    where = f" ({fate.address})" if fate.address else ""
    who = f"The server{where} said" if _by_smtp(fate.reply) else "What happened"
    lines = [f"  {report.short(fate.recipient.address)}", f"    {who}: {said}"]
    if kind == "failure":
        means, advice = STOPPED if fate.by_hand else _meaning(status(kind, fate))
        lines += [f"    That means: {means}.", f"    You can: {advice}."]
    return [*lines, ""]


def _by_smtp(reply: str) -> bool:
    """Whether a server said that, and not we ourselves."""
    return bool(_CODE.match(reply)) and not _OURS.match(reply)


def _meaning(code: str) -> tuple[str, str]:
    _, subject, detail = code.split(".")
    return MEANINGS.get(f"{subject}.{detail}") or MEANINGS.get(subject) or NO_MEANING


def _for_machines(
    kind: Kind, message: Message, fates: tuple[Fate, ...], policy: Policy, end: datetime | None
) -> bytes:
    lines = [
        "Content-Type: message/delivery-status",
        "",
        f"Reporting-MTA: dns; {_field(policy.hostname)}",
    ]
    if message.envid:
        lines.append(f"Original-Envelope-Id: {_field(from_xtext(message.envid))}")
    lines.append(f"Arrival-Date: {format_datetime(message.opened_at)}")
    for fate in fates:
        lines += ["", *_fields(kind, fate, end)]
    return "\r\n".join([*lines, ""]).encode("ascii")


def _fields(kind: Kind, fate: Fate, end: datetime | None) -> list[str]:
    """The fields of one recipient (RFC 3464 section 2.3)."""
    lines = [f"Original-Recipient: {_original(fate.recipient.orcpt)}"] if fate.recipient.orcpt else []
    lines += [
        f"Final-Recipient: {typed(fate.recipient.address)}",
        f"Action: {ACTIONS[kind]}",
        f"Status: {status(kind, fate)}",
    ]
    if fate.address:
        lines.append(f"Remote-MTA: dns; {_literal(fate.address)}")
    if fate.reply:
        kind_of_code = "smtp" if _by_smtp(fate.reply) else "x-mailgate"
        lines.append(f"Diagnostic-Code: {kind_of_code}; {_field(fate.reply)}")
    if kind == "delay" and end is not None:
        lines.append(f"Will-Retry-Until: {format_datetime(end)}")
    return lines


def _end(message: Message, policy: Policy, now: datetime) -> datetime | None:
    """Until when it is tried; None where nobody knows, for that begins once it is scanned."""
    return None if message.awaited is not None else message.going_since(now) + policy.give_up_after


def _original(orcpt: str) -> str:
    """ORCPT as the report has it: without its xtext (RFC 3461 section 6.3)."""
    kind, _, address = orcpt.partition(";")
    address = from_xtext(address)
    return f"{_field(kind)}; {_field(address)}" if address.isascii() else typed(address)


def _literal(address: str) -> str:
    """The other server, by its address: its name is only what the configuration calls it."""
    bare = address.rpartition(":")[0].strip("[]")
    return _field(f"[IPv6:{bare}]" if ":" in bare else f"[{bare}]")


def _field(text: str) -> str:
    return report.short(text, FIELD_CHARACTERS).encode("ascii", "replace").decode()


def _returned(kind: Kind, message: Message, original: bytes) -> bytes:
    """The message itself: its header, or all of it."""
    if not original:
        return b""
    whole = kind == "failure" and message.ret == "FULL" and len(original) == message.size_octets
    section = headers.section(original)
    if whole and len(original) <= RETURNED_LIMIT_OCTETS:
        content, name = original, "message/global" if message.smtputf8 else "message/rfc822"
    else:
        content, name = section, "message/global-headers" if message.smtputf8 else "text/rfc822-headers"
    content = b"\r\n".join(line[:LINE_OCTETS] for line in _LINE_END.split(content.replace(b"\0", b"?")))
    encoding = "7bit" if content.isascii() else "8bit"
    return f"Content-Type: {name}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode() + content
