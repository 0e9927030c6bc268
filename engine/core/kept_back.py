"""Notices of what is in quarantine, as octets: what was infected, at once; held spam, once a day. Pure.

Written for whoever was to get the mail. Of what was found only facts about it are told: who sent it, its subject, why it is
kept and under which id. Nothing of its content is ever in a notice.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from msgspec.structs import replace

from engine.core import report
from engine.core.report import Notice, about, short
from store.life import Message

LISTED_CHARACTERS = 100  # of a sender or subject in a digest


def infected(
    message: Message, *, recipient: str, hostname: str, postmaster: str, notice_id: str, now: datetime
) -> Notice:
    """Tell a recipient that a message is kept back because of what is in it."""
    lines = [
        "a message to you is kept back, because of what was found in it:",
        f"  {short(message.quarantined_by)}",
        "",
        *about(replace(message, recipients=())),  # whoever else was to get it is their business
        "",
        "Nothing of it was delivered, and you need not do anything. Its sender was not told. If you",
        f"expected this message, ask {postmaster} about it",
        f"(message {message.id}).",
    ]
    title = f"Kept back: {message.subject or '(no subject)'}"
    return report.to_recipient(
        title,
        lines,
        recipient=recipient,
        hostname=hostname,
        postmaster=postmaster,
        notice_id=notice_id,
        now=now,
    )


def digest(
    messages: Sequence[Message],
    *,
    recipient: str,
    hostname: str,
    postmaster: str,
    notice_id: str,
    now: datetime,
) -> Notice:
    """List for a recipient the spam that is held for them, oldest first; at least one message."""
    count = len(messages)
    what = "1 message to you was" if count == 1 else f"{count} messages to you were"
    lines = [f"{what} taken for spam and not delivered:", ""]
    for message in messages:
        lines += _entry(message)
    lines += [
        f"They are kept for some time and then deleted. If you want one of them, ask {postmaster}",
        "for it and name its id.",
    ]
    title = "1 message is held as spam" if count == 1 else f"{count} messages are held as spam"
    return report.to_recipient(
        title,
        lines,
        recipient=recipient,
        hostname=hostname,
        postmaster=postmaster,
        notice_id=notice_id,
        now=now,
    )


def _entry(message: Message) -> list[str]:
    scores = [f.score for f in message.findings if f.score is not None]
    score = f", score {max(scores):g}" if scores else ""
    sender = message.sender or message.reverse_path or "(nobody)"
    return [
        f"  {message.opened_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC  {short(sender, LISTED_CHARACTERS)}",
        f"    {short(message.subject or '(no subject)', LISTED_CHARACTERS)}",
        f"    id {message.id}{score}",
        "",
    ]
