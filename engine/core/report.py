"""Notices the gateway writes: what could not be delivered, what was too large. As octets, pure.

A notice goes out from the null reverse-path (RFC 5321 section 6.1) and says `Auto-Submitted: auto-replied`
(RFC 3834), so that nothing ever answers it. It is written for the person who reads it: what happened, what
it means, what can be done. Never about another notice.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import TYPE_CHECKING

from store.life import Message

if TYPE_CHECKING:
    from email.policy import EmailPolicy

LINE_CHARACTERS = 300  # of a subject or reply that is quoted


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A message of our own, ready to be sent."""

    octets: bytes
    recipient: str
    subject: str
    message_id: str
    sender: str
    date: str


def failure(message: Message, *, hostname: str, postmaster: str, notice_id: str, now: datetime) -> Notice:
    """Tell the postmaster that a message could not be delivered and is kept."""
    lines = [
        "a message could not be delivered to the home server. It is kept in the store and was",
        "not returned to its sender.",
        "",
        *about(message),
        "",
        "What the home server said:",
    ]
    for recipient in message.recipients:
        if recipient.state == "failed":
            lines.append(f"  {recipient.address}: {short(recipient.reply or 'no reply')}")
    lines += ["", "Its whole life:", f"  mailgate show {message.id}"]
    return _notice("Not delivered", message, lines, postmaster, hostname, postmaster, notice_id, now)


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
    written = letter(title, message, recipient, hostname, postmaster, notice_id, now)
    return _with_text(written, lines, recipient, hostname, postmaster)


def _with_text(
    written: EmailMessage, lines: list[str], recipient: str, hostname: str, postmaster: str
) -> Notice:
    written.set_content(letter_text(lines, hostname))
    written["Content-Language"] = "en"  # behind the content, which takes away every header of its own kind
    return finished(written, recipient, written.as_bytes(policy=_headers(recipient, postmaster)))


def letter(
    title: str,
    message: Message,
    recipient: str,
    hostname: str,
    postmaster: str,
    notice_id: str,
    now: datetime,
) -> EmailMessage:
    """Return a message of our own without its content; its subject tells which message it is about."""
    subject = f"{title}: {short(message.subject or '(no subject)')}"
    return headed(subject, recipient, hostname, postmaster, notice_id, now)


def headed(
    subject: str, recipient: str, hostname: str, postmaster: str, notice_id: str, now: datetime
) -> EmailMessage:
    """Return a message of our own without its content."""
    written = EmailMessage(policy=_headers(recipient, postmaster).clone(max_line_length=998))
    written["From"] = f"mailgate <{postmaster}>"
    written["To"] = recipient
    written["Subject"] = subject
    written["Date"] = format_datetime(now)
    written["Message-ID"] = f"<{notice_id}@{hostname}>"
    written["Auto-Submitted"] = "auto-replied"
    return written


def to_postmaster(
    subject: str, lines: list[str], *, hostname: str, postmaster: str, notice_id: str, now: datetime
) -> Notice:
    """Tell the postmaster of something that is not about one message."""
    written = headed(short(subject), postmaster, hostname, postmaster, notice_id, now)
    return _with_text(written, lines, postmaster, hostname, postmaster)


def letter_text(lines: list[str], hostname: str) -> str:
    """Return what a person reads, between salutation and signature."""
    return "\n".join(["Hello,", "", *lines, "", "-- ", f"mailgate at {hostname}", ""])


def finished(written: EmailMessage, recipient: str, octets: bytes) -> Notice:
    """Return a letter as the notice it is."""
    return Notice(
        octets=octets,
        recipient=recipient,
        subject=str(written["Subject"]),
        message_id=str(written["Message-ID"]),
        sender=str(written["From"]),
        date=str(written["Date"]),
    )


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
    written = headed(short(subject), recipient, hostname, postmaster, notice_id, now)
    return _with_text(written, lines, recipient, hostname, postmaster)


def _headers(recipient: str, postmaster: str) -> EmailPolicy[EmailMessage]:
    """Addresses beyond ASCII may stand in a header only as UTF-8 (RFC 6532): encoded words are not for them."""
    from email.policy import SMTP  # slow to import, and most runs write no notice

    return SMTP.clone(utf8=not (recipient + postmaster).isascii())


def short(text: str, limit_characters: int = LINE_CHARACTERS) -> str:
    """One line of printable text: whatever a stranger wrote, it adds no header and no line."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= limit_characters else line[: limit_characters - 1] + "…"
