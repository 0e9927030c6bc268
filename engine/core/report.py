"""Notices the gateway writes: what could not be delivered, what was too large. As octets, pure.

A notice goes out from the null reverse-path (RFC 5321 section 6.1) and says `Auto-Submitted: auto-replied`
(RFC 3834), so that nothing ever answers it. It is written for the person who reads it: what happened, what
it means, what can be done. Never about another notice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from email.header import Header
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Final

from store.events import Failed
from store.life import Message

LINE_CHARACTERS = 300  # of a subject or reply that is quoted
FOLDED_CHARACTERS: Final = 78  # RFC 5322 section 2.1.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A message of our own, ready to be sent."""

    octets: bytes
    recipient: str
    subject: str
    message_id: str
    sender: str
    date: str


def failure(
    message: Message,
    failed: Sequence[Failed] = (),
    *,
    hostname: str,
    postmaster: str,
    notice_id: str,
    now: datetime,
) -> Notice:
    """Tell the postmaster that a message is given up and kept; `failed` is what made it so just now."""
    by_hand = bool(failed) and all(one.reason == "operator" for one in failed)
    lines = [
        "a person gave a message up. It is kept in the store and was not returned to its sender."
        if by_hand
        else "a message could not be delivered to the home server. It is kept in the store and was\n"
        "not returned to its sender.",
        "",
        *about(message),
        "",
        "What happened:" if any(one.reason != "rejected" for one in failed) else "What the home server said:",
        *(f"  {line}" for line in _fates(message, failed)),
        "",
        "Its whole life:",
        f"  mailgate show {message.id}",
    ]
    return _notice("Not delivered", message, lines, postmaster, hostname, postmaster, notice_id, now)


def _fates(message: Message, failed: Sequence[Failed]) -> Iterator[str]:
    """Say of each recipient that failed why; of a message that names none, why it did."""
    why = {number: event for event in failed for number in event.numbers}
    for one in message.recipients:
        if one.state == "failed":
            yield f"{one.address}: {short(_why(why.get(one.number), one.reply or ''))}"
    if not message.recipients:
        yield from (short(_why(event, "")) for event in failed)


def _why(event: Failed | None, reply: str) -> str:
    last = f"; the last answer was: {reply}" if reply else ""
    if event is not None and event.reason == "operator":
        comment = f" ({event.comment})" if event.comment else ""
        return f"{event.operator or 'a person'} decided that it is not tried again{comment}{last}"
    if event is not None and event.reason == "expired":
        return f"given up, for it was tried for long enough{last}"
    return reply or "no reply"


def oversize(
    message: Message,
    limit_octets: int,
    *,
    recipient: str,
    hostname: str,
    postmaster: str,
    notice_id: str,
    now: datetime,
) -> Notice:
    """Tell a recipient that a message is larger than the mail server takes, and where it is now."""
    if message.content is not None:
        place = ["a message is larger than the mail server accepts. It is kept in the store here."]
    else:
        place = ["a message to you is larger than your mail server accepts, so it was not fetched."]
        place += (
            [f"It is still in the mailbox '{message.mailbox}' at the provider."] if message.mailbox else []
        )
    lines = [
        *place,
        "",
        *about(message),
        f"  Largest accepted: {limit_octets:,} octets",
        "",
        f"Ask the sender for a smaller one, or {postmaster} to {'fetch' if message.content is None else 'deliver'} it for you",
        f"(message {message.id}).",
    ]
    return _notice("Message too large", message, lines, recipient, hostname, postmaster, notice_id, now)


def about(message: Message) -> list[str]:
    """Say which message it is; a line for each fact that is known."""
    known = [
        ("From", message.sender or message.reverse_path or None),
        ("Subject", message.subject),
        ("Message-ID", message.message_id),
        ("Size", f"{message.size_octets:,} octets"),
        ("To", ", ".join(r.address for r in message.recipients) or None),
    ]
    return [f"  {name}: {short(value)}" for name, value in known if value]


def _notice(
    title: str,
    message: Message,
    lines: list[str],
    recipient: str,
    hostname: str,
    postmaster: str,
    notice_id: str,
    now: datetime,
) -> Notice:
    begun = letter(title, message, recipient, hostname, postmaster, notice_id, now)
    return _with_text(begun, lines, hostname)


def _with_text(begun: Notice, lines: list[str], hostname: str) -> Notice:
    from email.policy import SMTP  # slow to import, and most runs write no notice

    content = EmailMessage(policy=SMTP.clone(max_line_length=998))
    content.set_content(letter_text(lines, hostname))
    content["Content-Language"] = "en"  # behind the content, which takes away every header of its own kind
    return replace(begun, octets=begun.octets + content.as_bytes())


def letter(
    title: str,
    message: Message,
    recipient: str,
    hostname: str,
    postmaster: str,
    notice_id: str,
    now: datetime,
) -> Notice:
    """Return a message of our own without its content; its subject tells which message it is about."""
    subject = f"{title}: {short(message.subject or '(no subject)')}"
    return headed(subject, recipient, hostname, postmaster, notice_id, now)


def headed(
    subject: str, recipient: str, hostname: str, postmaster: str, notice_id: str, now: datetime
) -> Notice:
    """Return a message of our own without its content: the octets go on with the fields that describe it.

    No library reads what strangers wrote, to put it in its own words: a subject may look like an encoded word that has line
    ends in it, and so may an address, which stands there as it is. Beyond ASCII it is in UTF-8 (RFC 6532).
    """
    sender, date, message_id = f"mailgate <{postmaster}>", format_datetime(now), f"<{notice_id}@{hostname}>"
    fields = {
        "From": sender,
        "To": recipient,
        "Subject": _encoded(subject),
        "Date": date,
        "Message-ID": message_id,
        "Auto-Submitted": "auto-replied",
    }
    return Notice(
        octets="".join(f"{name}: {value}\r\n" for name, value in fields.items()).encode(),
        recipient=recipient,
        subject=subject,
        message_id=message_id,
        sender=sender,
        date=date,
    )


def _encoded(subject: str) -> str:
    """RFC 2047, folded. What only looks like an encoded word is encoded, too: so it is read as it is."""
    charset = "us-ascii" if subject.isascii() and "=?" not in subject else "utf-8"
    header = Header(subject, charset, maxlinelen=FOLDED_CHARACTERS, header_name="Subject")
    return header.encode(linesep="\r\n")


def to_postmaster(
    subject: str, lines: list[str], *, hostname: str, postmaster: str, notice_id: str, now: datetime
) -> Notice:
    """Tell the postmaster of something that is not about one message."""
    begun = headed(short(subject), postmaster, hostname, postmaster, notice_id, now)
    return _with_text(begun, lines, hostname)


def letter_text(lines: list[str], hostname: str) -> str:
    """Return what a person reads, between salutation and signature."""
    return "\n".join(["Hello,", "", *lines, "", "-- ", f"mailgate at {hostname}", ""])


def to_recipient(
    subject: str,
    lines: list[str],
    *,
    recipient: str,
    hostname: str,
    postmaster: str,
    notice_id: str,
    now: datetime,
) -> Notice:
    """Tell a recipient of something; the subject is given whole."""
    begun = headed(short(subject), recipient, hostname, postmaster, notice_id, now)
    return _with_text(begun, lines, hostname)


def short(text: str, limit_characters: int = LINE_CHARACTERS) -> str:
    """One line of printable text: whatever a stranger wrote, it adds no header and no line."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= limit_characters else line[: limit_characters - 1] + "…"
