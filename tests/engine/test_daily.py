"""The daily report: once a day, with what needs a look in front, and figures that are those of the commands behind them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP

from engine.daily import Daily
from engine.mailbox_record import record
from engine.telling import Teller
from engine.watched import Watched
from store.events import Discarded, Generated, Held, MessageEvent, Quarantined
from store.life import Message
from store.log import Append, Unit
from store.mailbox_events import PollFailed
from tests.engine.rig import NOON, POSTMASTER, Rig, mail

AT = timedelta(hours=7)
NEXT = NOON.replace(hour=7) + timedelta(days=1)


def made(
    rig: Rig,
    at_seconds: int | None = int(AT.total_seconds()),
    shortage: Callable[[], str | None] = lambda: None,
) -> Daily:
    means = rig.means()
    watched = Watched(mailboxes=tuple(rig.boxes), hops=tuple(rig.homes), shortage=shortage)
    return Daily(means, watched, teller=Teller(means, rig.worker.wake), at_seconds=at_seconds)


def reports(rig: Rig) -> list[EmailMessage]:
    """The reports, in the order in which they were written."""
    taken = [message_from_bytes(one.octets, policy=SMTP) for one in rig.home.taken_for(POSTMASTER)]
    ours = [one for one in taken if one["Subject"].startswith("Daily report")]
    return sorted(ours, key=lambda one: one["Date"].datetime)  # type: ignore[arg-type,return-value]


def text(report: EmailMessage) -> str:
    return str(report.get_content()).replace("\r\n", "\n")


async def happens(rig: Rig, message: Message, *events: MessageEvent) -> None:
    await rig.journal.append(Unit((Append(message.id, message, events, rig.clock()),)))


def daily_count(rig: Rig) -> int:
    return sum(event.kind == "daily" for event in rig.events(Generated))


async def test_a_report_comes_once_a_day_whoever_is_restarted_and_however_many_there_are(
    database_url: str,
) -> None:
    async with Rig(database_url) as rig:
        rig.put(mail(1))
        await rig.through()
        daily = made(rig)
        assert not await daily.send()  # the store is younger than today's time
        rig.clock.at = NEXT - timedelta(seconds=1)
        assert not await daily.send()
        rig.clock.at = NEXT
        assert sum(await asyncio.gather(*(one.send() for one in (daily, made(rig), made(rig))))) == 1
        assert not await daily.send()
        await rig.restart()
        assert not await made(rig).send()
        rig.clock.later(hours=23, minutes=59)
        assert not await made(rig).send()
        rig.clock.later(days=3)  # nobody was there at its time
        assert await made(rig).send()
        assert not await made(rig).send()
        await rig.settled()
        assert daily_count(rig) == 2


async def test_where_it_is_not_asked_for_there_is_none(database_url: str) -> None:
    async with Rig(database_url) as rig:
        rig.put(mail(1))
        await rig.through()
        rig.clock.at = NEXT
        assert not await made(rig, at_seconds=None).send()


async def test_on_a_quiet_day_all_is_well(database_url: str) -> None:
    async with Rig(database_url) as rig:
        rig.put(mail(1))
        await rig.through()
        rig.clock.later(days=2)
        assert await made(rig).send()
        await rig.settled()
        (report,) = reports(rig)
        assert report["Subject"] == "Daily report: all is well at gate.example.com"
        said = text(report)
        assert "from 2026-03-02 12:00 to 2026-03-03 12:00 UTC:\n\nAll is well.\n" in said
        assert "WHAT HAPPENED\n  nothing\n" in said
        assert "WHAT WAITS NOW\n  nothing\n" in said
        assert "1 of 1 are well" in said
        assert "mailgate db status" in said


async def test_nothing_is_counted_twice_and_nothing_left_out(database_url: str) -> None:
    """Whatever the time of the reports: each goes on from where the one before ended."""
    async with Rig(database_url) as rig:
        sent = 0
        for _ in range(60):
            rig.clock.later(minutes=79)
            rig.put(mail(sent))
            sent += 1
            await rig.through()
            await made(rig, at_seconds=7 * 3600 + 1800).send()
        rig.clock.later(days=1)
        assert await made(rig, at_seconds=7 * 3600 + 1800).send()
        await rig.settled()
        assert len(reports(rig)) > 3
        counted = sum(
            int(line.split()[2].replace(",", ""))
            for one in reports(rig)
            for line in text(one).splitlines()
            if line.startswith("  came in ")
        )
        spans = [line for one in reports(rig) for line in text(one).splitlines() if line.startswith("from ")]
        ends = [(line[5:21], line[25:41]) for line in spans]
        assert [begin for begin, _ in ends[1:]] == [end for _, end in ends[:-1]]
        before = [
            m for m in rig.messages() if m.direction == "inbound" and f"{m.opened_at:%F %H:%M}" < ends[0][0]
        ]
        assert counted + len(before) == sent


async def test_a_long_name_stands_apart_from_its_figure(database_url: str) -> None:
    async with Rig(database_url) as rig:
        rig.works = False
        await rig.restart()
        rig.put(mail(1))
        await rig.poll()
        (kept,) = rig.messages()
        rule = {"rule": "5?? *as spam*", "policy": "p"}
        await happens(rig, kept, Quarantined(reason="refused-as-spam", numbers=(0,), **rule))
        rig.clock.at = NEXT
        assert await made(rig).send()
        rig.works = True
        await rig.restart()
        await rig.settled()
        (report,) = reports(rig)
        assert "  quarantined (refused-as-spam) 1   mailgate events --event quarantined" in text(report)


async def test_what_needs_a_look_comes_first_with_the_commands_behind_it(database_url: str) -> None:
    async with Rig(database_url) as rig:
        rig.put(*map(mail, range(5)))
        rig.home.fault("rcpt", "reply", code=550, text="5.1.1 nobody", times=1)
        rig.home.fault("rcpt", "reply", code=451, text="4.3.0 later", times=1)
        await rig.poll()
        await rig.settled()
        rig.works = False
        await rig.restart()
        rig.put(mail(7), mail(8))
        await rig.poll()
        held, gone = (m for m in rig.messages() if m.state == "received" and m.direction == "inbound")
        by = {"operator": "anna", "policy": "p"}
        await happens(rig, held, Held(why="operator", rule="by hand", **by))
        await happens(rig, gone, Discarded(numbers=(0,), **by))
        rig.clock.later(hours=2)
        failed = PollFailed(
            mailbox="info", kind="auth", permanent=True, text="-ERR [AUTH] wrong\r\n password"
        )
        await record(rig.means(), "info", (failed,))
        rig.clock.at = NEXT
        assert await made(rig, shortage=lambda: "7 MB are free in /var, less than 9 MB").send()
        rig.works = True
        await rig.restart()
        await rig.settled()
        (report,) = reports(rig)
        assert report["Subject"] == "Daily report: 5 things need a look at gate.example.com"
        said = text(report)
        assert (
            "mailbox info fails since 2026-03-01 14:00: -ERR [AUTH] wrong password\n    mailgate mailbox list"
            in said
        )
        assert "7 MB are free in /var, less than 9 MB:\n    mailgate db status" in said
        times = "--since 2026-03-01T07:00:00Z --until 2026-03-02T07:00:00Z"
        assert f"1 message failed for good:\n    mailgate events --event failed {times}" in said
        assert "1 message is held until you decide:\n    mailgate list --state held" in said
        assert "a message has waited for 19 h:\n    mailgate explain " in said
        figures = {line[:28].strip(): line[28:].split("   ")[0].split(" (")[0] for line in said.splitlines()}
        wanted = {"came in": "7", "delivered": "4", "failed for good": "1", "discarded": "1", "held": "1"}
        assert {label: figures[label] for label in wanted} == wanted
        assert figures["for home"] == "1, the oldest for 19 h"
        assert figures["mailboxes"] == "0 of 1 are well"
        assert f"all of it: mailgate stats {times}" in said


async def test_what_goes_on_by_itself_does_not_wait_for_a_person(database_url: str) -> None:
    async with Rig(database_url) as rig:
        rig.home.fault("dot", "commit-drop")
        rig.put(mail(1))
        await rig.poll()
        await rig.settled()
        rig.works = False
        await rig.restart()
        rig.put(mail(2), mail(3))
        await rig.poll()
        by = {"why": "operator", "rule": "by hand", "operator": "anna", "policy": "p"}
        later, at_all = (m for m in rig.messages() if m.state == "received")
        await happens(rig, later, Held(until=NEXT + timedelta(hours=1), **by))
        await happens(rig, at_all, Held(**by))
        rig.clock.at = NEXT
        assert await made(rig).send()
        rig.works = True
        await rig.restart()
        await rig.settled()
        (report,) = reports(rig)
        said = text(report)
        assert "1 message is held until you decide:" in said
        assert "wait for you" not in said
        assert "waits for you" not in said
        figures = {line[:28].strip(): line[28:].split("   ")[0] for line in said.splitlines()}
        assert (figures["held"], figures["outcome-unknown"]) == ("2", "1")


async def test_an_unknown_outcome_that_is_held_waits_for_a_person(database_url: str) -> None:
    async with Rig(database_url, on_unknown="hold") as rig:
        rig.home.fault("dot", "commit-drop")
        rig.put(mail(1))
        await rig.poll()
        await rig.settled()
        rig.clock.at = NEXT
        assert await made(rig).send()
        await rig.settled()
        (report,) = reports(rig)
        assert "1 message may have been handed over or not, and waits for you:" in text(report)
