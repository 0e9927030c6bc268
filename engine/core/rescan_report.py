"""What the postmaster is told after messages were scanned again: what would not be delivered today. As octets, pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from engine.core.policy import Policy
from engine.core.report import Notice, short, to_postmaster
from store.life import Message
from store.recipient import ACCEPTED

TOLD = 50  # messages; more are counted


def rescan(
    found: Sequence[tuple[Message, str]], count: int, policy: Policy, notice_id: str, now: datetime
) -> Notice:
    """Tell of messages that have been delivered, and the rule by which each would be kept back today.

    `found` are the first of them, `count` is how many there are.
    """
    messages = "1 message" if count == 1 else f"{count:,} messages"
    lines = [
        f"kept messages were scanned again. {messages} had been delivered and would not be today.",
        "Nothing is recalled: whoever has them has to be told, or helped.",
    ]
    for message, rule in found[:TOLD]:
        had = ", ".join(r.address for r in message.recipients if r.state in ACCEPTED)
        lines += [
            "",
            f"  {message.id}: {short(rule)}",
            f"    From:    {short(message.sender or message.reverse_path or '<>')}",
            f"    Subject: {short(message.subject or '(none)')}",
            f"    Has it:  {short(had)}",
        ]
    if count > TOLD:
        lines += ["", f"And {count - TOLD:,} more."]
    lines += ["", "The whole life of each:", f"  mailgate show {found[0][0].id}"]
    return to_postmaster(
        f"Found after delivery: {messages} at {policy.hostname}",
        lines,
        hostname=policy.hostname,
        postmaster=policy.postmaster,
        notice_id=notice_id,
        now=now,
    )
