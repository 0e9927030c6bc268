"""Notices the gateway writes: what could not be delivered, what was too large. As octets, pure.

A notice goes out from the null reverse-path (RFC 5321 section 6.1) and says `Auto-Submitted: auto-replied`
(RFC 3834), so that nothing ever answers it. It is written for the person who reads it: what happened, what
it means, what can be done. Never about another notice.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

from store.life import Message

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
        *_about(message),
        "",
        "What the home server said:",
    ]
    for recipient in message.recipients:
        if recipient.state == "failed":
            lines.append(f"  {recipient.address}: {_short(recipient.reply or 'no reply')}")
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
        *_about(message),
        f"  Largest accepted: {limit_octets:,} octets",
        "",
        f"Ask the sender for a smaller one, or {postmaster} to fetch it for you",
        f"(message {message.id}).",
    ]
    return _notice("Message too large", message, lines, recipient, hostname, postmaster, notice_id, now)


def _about(message: Message) -> list[str]:
    """Say which message it is; a line for each fact that is known."""
    known = [
        ("From", message.sender or message.reverse_path or None),
        ("Subject", message.subject),
        ("Message-ID", message.message_id),
        ("Size", f"{message.size_octets:,} octets"),
        ("To", ", ".join(r.address for r in message.recipients) or None),
    ]
    return [f"  {name}: {_short(value)}" for name, value in known if value]


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
    subject = f"{title}: {_short(message.subject or '(no subject)')}"
    sender = f"mailgate <{postmaster}>"
    # Addresses beyond ASCII may stand in a header only as UTF-8 (RFC 6532): encoded words are not for them.
    headers = SMTP.clone(utf8=not (recipient + postmaster).isascii())
    written = EmailMessage(policy=headers.clone(max_line_length=998))
    written["From"] = sender
    written["To"] = recipient
    written["Subject"] = subject
    written["Date"] = format_datetime(now)
    written["Message-ID"] = f"<{notice_id}@{hostname}>"
    written["Auto-Submitted"] = "auto-replied"
    written.set_content("\n".join(["Hello,", "", *lines, "", "-- ", f"mailgate at {hostname}", ""]))
    written["Content-Language"] = "en"  # behind the content, which takes away every header of its own kind
    return Notice(
        octets=written.as_bytes(policy=headers),
        recipient=recipient,
        subject=subject,
        message_id=str(written["Message-ID"]),
        sender=sender,
        date=str(written["Date"]),
    )


def _short(text: str) -> str:
    """One line of printable text: whatever a stranger wrote, it adds no header and no line."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= LINE_CHARACTERS else line[: LINE_CHARACTERS - 1] + "…"
