"""What the postmaster is told of trouble with a mailbox, a next hop, the disk or the store; and of its end. As octets, pure.

Each tells what is wrong and since when, what becomes of the mail meanwhile, and the commands that show it.
"""

from __future__ import annotations

from datetime import datetime

from engine.core.policy import Policy
from engine.core.report import Notice, short
from engine.core.report_words import letter, messages, moment, span
from store.mailbox_life import Mailbox

AFTERWARDS = "You hear when it is over."


def mailbox_failing(mailbox: Mailbox, policy: Policy, notice_id: str, now: datetime) -> Notice:
    """Tell that a mailbox can't be fetched from, or that fetching from it is suspended."""
    name = mailbox.name
    suspended = mailbox.health == "suspended"
    what = (
        f"fetching from the mailbox '{name}' is suspended."
        if suspended
        else f"the mailbox '{name}' can't be fetched from."
    )
    lines = [what, "", *_known(mailbox.since, mailbox.text), "", *_to_do(mailbox)]
    lines += ["", "Other mailboxes go on. What is in this one stays there: nothing is lost."]
    lines += [AFTERWARDS]
    lines += ["How all of them are:", "  mailgate mailbox list"]
    verb = "is suspended" if suspended else "fails"
    return letter(f"Mailbox {name} {verb}", lines, policy, notice_id, now)


def mailbox_recovered(
    mailbox: Mailbox, told_at: datetime, policy: Policy, notice_id: str, now: datetime
) -> Notice:
    """Tell that a mailbox is fetched from again; `told_at` is when it was told that it is not."""
    name = mailbox.name
    lines = [f"the mailbox '{name}' is fetched from again.", "", *_over(told_at, mailbox.since or now)]
    lines += ["", "How all of them are:", "  mailgate mailbox list"]
    return letter(f"Mailbox {name} works again", lines, policy, notice_id, now)


def next_hop_down(
    name: str,
    since: datetime | None,
    said: str | None,
    waiting: int,
    policy: Policy,
    notice_id: str,
    now: datetime,
) -> Notice:
    """Tell that a next hop takes nothing; `waiting` counts the messages for it."""
    lines = [f"the next hop '{name}' takes no mail.", "", *_known(since, said)]
    lines += [f"  Waiting: {messages(waiting)}", ""]
    lines += [
        "Mail for it is taken in, kept, and tried again until it works. What waited for",
        f"{span(policy.give_up_after)} is given up. {AFTERWARDS}",
        "What waits, and what it says to a greeting:",
        "  mailgate queue",
        "  mailgate check --connect",
    ]
    return letter(f"Next hop {name} is down", lines, policy, notice_id, now)


def next_hop_up(
    name: str, since: datetime, waiting: int, policy: Policy, notice_id: str, now: datetime
) -> Notice:
    """Tell that a next hop takes mail again."""
    lines = [f"the next hop '{name}' takes mail again.", "", *_over(since, now)]
    lines += [f"  Waiting:   {messages(waiting)}", "", "What is left goes on by itself:", "  mailgate queue"]
    return letter(f"Next hop {name} is up again", lines, policy, notice_id, now)


def disk_full(shortage: str, late: bool, policy: Policy, notice_id: str, now: datetime) -> Notice:
    """Tell that there is little room where the store is; `late`: that there was, too little to tell so."""
    lines = ["there is little room left where the store is:", "", f"  {shortage}", ""]
    now_so = [
        "Submitted mail is refused for now (452), and comes again; once the disk is full,",
        "nothing is fetched either. What is in the store is safe.",
    ]
    if late:
        lines[0] = "there was so little room where the store is that not even this could be told:"
        now_so = ["Submitted mail was refused meanwhile (452), and comes again. Now there is room."]
    lines += [
        *now_so,
        "Make room on that disk, or keep octets for a shorter time ([retention] contents).",
        AFTERWARDS,
        "How large the store is:",
        "  mailgate db status",
    ]
    return letter("Little room for mail", lines, policy, notice_id, now)


def disk_free(since: datetime, policy: Policy, notice_id: str, now: datetime) -> Notice:
    """Tell that there is room again."""
    lines = ["there is room again where the store is: mail is taken as ever.", "", *_over(since, now)]
    return letter("Room for mail again", [*lines, "", "  mailgate db status"], policy, notice_id, now)


def store_back(since: datetime, said: str, policy: Policy, notice_id: str, now: datetime) -> Notice:
    """Tell afterwards that the store was out of reach: while it is, nothing can be told."""
    lines = ["the store could not be reached or written to, and can be again.", ""]
    lines += [f"  Since:      {moment(since)}", f"  Over since: {moment(now)} ({span(now - since)} later)"]
    lines += [f"  It said:    {short(said)}", ""]
    lines += [
        "Meanwhile nothing was fetched, taken or handed over. What was accepted before is",
        "there, and goes on:",
        "  mailgate queue",
        "  mailgate audit conserve",
    ]
    return letter("The store was out of reach", lines, policy, notice_id, now)


def _to_do(mailbox: Mailbox) -> list[str]:
    name = mailbox.name
    if mailbox.health == "suspended":
        return [
            "All its messages seem to have new unique ids, and would be delivered a second",
            "time. Look at the mailbox; then this takes what is there as seen, and fetching",
            "goes on with what is new:",
            f"  mailgate mailbox adopt {name}",
        ]
    if mailbox.permanent:
        return [
            "It is tried again, but waiting won't help: the configuration or the account",
            "must be put right. Then, to try it now:",
            f"  mailgate mailbox poll {name}",
        ]
    return ["It is tried again by itself. To try it now:", f"  mailgate mailbox poll {name}"]


def _known(since: datetime | None, said: str | None) -> list[str]:
    known = [("Since:  ", None if since is None else moment(since)), ("It said:", said and short(said))]
    return [f"  {label} {value}" for label, value in known if value]


def _over(told_at: datetime, over_at: datetime) -> list[str]:
    later = span(over_at - told_at)
    return [f"  You heard:  {moment(told_at)}", f"  Over since: {moment(over_at)} ({later} later)"]
