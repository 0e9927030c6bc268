"""Words that all letters to the postmaster share: counts, times and spans as a person reads them, and the letter itself. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from engine.core.policy import Policy
from engine.core.report import Notice, to_postmaster


def letter(subject: str, lines: list[str], policy: Policy, notice_id: str, now: datetime) -> Notice:
    """Return a letter to the postmaster, about something here."""
    return to_postmaster(
        f"{subject} at {policy.hostname}",
        lines,
        hostname=policy.hostname,
        postmaster=policy.postmaster,
        notice_id=notice_id,
        now=now,
    )


def messages(count: int) -> str:
    """Return how many messages, in words."""
    return "1 message" if count == 1 else f"{count:,} messages"


def moment(at: datetime) -> str:
    """Return a time, to the second."""
    return at.strftime("%Y-%m-%d %H:%M:%S UTC")


def span(span: timedelta) -> str:
    """Return how long something took, in days, hours, minutes and seconds."""
    minutes, seconds = divmod(round(span.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = ((days, "d"), (hours, "h"), (minutes, "min"), (seconds, "s"))
    return " ".join(f"{count} {unit}" for count, unit in parts if count) or "0 s"
