"""What the postmaster is told of a scanner: that it is down, and that it is up again. As octets, pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from engine.core.policy import Policy
from engine.core.report import Notice, short
from engine.core.report_words import letter, messages, moment, span
from engine.core.verdict import ScannerPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a scanner is: since when it is down, or was; what it said last; how many messages wait for it."""

    scanner: ScannerPolicy
    since: datetime
    said: str
    waiting: int


def down(standing: Standing, policy: Policy, notice_id: str, now: datetime) -> Notice:
    """Tell that a scanner can't be asked, and what becomes of the mail meanwhile."""
    name = standing.scanner.name
    lines = [
        f"the scanner '{name}' ({standing.scanner.kind}) gives no verdicts.",
        "",
        f"  Since:   {moment(standing.since)}",
        f"  It said: {short(standing.said)}",
        f"  Waiting: {messages(standing.waiting)}",
        "",
        *_meanwhile(standing.scanner),
        "It is tried again every minute, and you hear when it is back. What waits:",
        "  mailgate queue",
        "What it says to a test:",
        "  mailgate check --connect",
    ]
    return letter(f"Scanner {name} is down", lines, policy, notice_id, now)


def up(standing: Standing, policy: Policy, notice_id: str, now: datetime) -> Notice:
    """Tell that a scanner can be asked again."""
    name = standing.scanner.name
    lines = [
        f"the scanner '{name}' ({standing.scanner.kind}) gives verdicts again.",
        "",
        f"  Down from: {moment(standing.since)}",
        f"  To:        {moment(now)} ({span(now - standing.since)})",
        "",
        *_afterwards(standing),
    ]
    return letter(f"Scanner {name} is up again", lines, policy, notice_id, now)


def _meanwhile(scanner: ScannerPolicy) -> list[str]:
    if scanner.on_error == "pass":
        return [
            'Mail passes UNSCANNED by it meanwhile, for so the policy says (on_error = "pass").',
            "Each message has that on record.",
        ]
    return ["Nothing passes without its verdict: mail is taken in, kept, and waits. Nothing is lost."]


def _afterwards(standing: Standing) -> list[str]:
    if standing.scanner.on_error == "pass":
        name = standing.scanner.name
        return [
            'What came meanwhile has passed unscanned, as on_error = "pass" says. To have it looked at now:',
            f"  mailgate rescan --scanner {name} --since {standing.since.strftime('%Y-%m-%dT%H:%M:%SZ')}",
        ]
    if not standing.waiting:
        return ["Nothing waits for it any more."]
    return [f"What waited goes on now; left: {messages(standing.waiting)}."]
