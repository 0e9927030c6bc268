"""Of trouble the postmaster hears twice: when it lasts, and when it is over."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from email import message_from_bytes
from email.message import Message as Mail
from email.policy import SMTP
from typing import Any

import pytest

from engine.mailbox_record import record
from engine.telling import Teller
from engine.trouble_watch import DISK, DISK_CALM, PASSING, PERMANENT, SETTLED_AFTER, TroubleWatch
from engine.watched import Watched
from store.errors import StoreFull, StoreUnreachable
from store.events import Generated
from store.log import Unit
from store.mailbox_events import PollFailed, PollRecovered, UidlResetSuspected
from tests.engine.rig import POSTMASTER, Rig, mail
from tests.peers.smtpd import HomePeer


def watch(rig: Rig, shortage: Callable[[], str | None] = lambda: None, **changes: Any) -> TroubleWatch:
    means = rig.means(**changes)
    watched = Watched(mailboxes=tuple(rig.boxes), hops=tuple(rig.homes), shortage=shortage)
    return TroubleWatch(means, watched, teller=Teller(means, rig.worker.wake))


def heard(rig: Rig, hop: str = "home") -> list[Mail]:
    return [message_from_bytes(taken.octets, policy=SMTP) for taken in rig.homes[hop].taken_for(POSTMASTER)]


def subjects(rig: Rig, hop: str = "home") -> list[str]:
    return [mail["Subject"].removesuffix(" at gate.example.com") for mail in heard(rig, hop)]


def kinds(rig: Rig) -> list[tuple[str, str | None]]:
    return [(event.kind, event.concerns) for event in rig.events(Generated)]


async def fails(rig: Rig, name: str = "info", **facts: Any) -> None:
    usual = {"kind": "connect", "permanent": False, "text": "connection refused"} | facts
    await record(rig.means(), name, (PollFailed(mailbox=name, **usual),))


async def recovers(rig: Rig, name: str = "info") -> None:
    await record(rig.means(), name, (PollRecovered(mailbox=name),))


# -- mailboxes


async def test_of_a_mailbox_it_hears_once_when_it_lasts_and_once_when_it_is_over(database_url: str) -> None:
    async with Rig(database_url) as rig:
        looking = watch(rig)
        rig.clock.later(hours=1)
        rig.provider.fault("greeting", "err", text="[IN-USE] somebody reads it", times=None)
        assert not await rig.poll()
        assert not await looking.look()
        rig.clock.later(seconds=PASSING.total_seconds() - 1)
        assert not await rig.poll()
        assert not await looking.look()
        rig.clock.later(seconds=1)
        assert await looking.look()
        await rig.settled()
        for _ in range(3):
            rig.clock.later(minutes=40)
            await rig.poll()
            assert not await looking.look()
        rig.provider.heal()
        assert await rig.poll()
        assert await looking.look()
        rig.clock.later(hours=2)
        assert not await looking.look()
        await rig.settled()
        assert subjects(rig) == ["Mailbox info fails", "Mailbox info works again"]
        text = heard(rig)[0].get_content()
        assert "  Since:   2026-03-01 13:00:00 UTC" in text
        assert "somebody reads it" in text
        assert "  mailgate mailbox poll info" in text
        assert "  You heard:  2026-03-01 13:15:00 UTC" in heard(rig)[1].get_content()
        assert kinds(rig) == [("mailbox-failing", "info"), ("mailbox-recovered", "info")]


async def test_what_the_postmaster_is_told_counts_among_the_events_of_the_gateway(database_url: str) -> None:
    async with Rig(database_url) as rig:
        counted: list[Unit] = []
        rig.journal._watch = lambda units, _seconds: counted.extend(units)
        looking = watch(rig)
        await fails(rig)
        rig.clock.later(hours=1)
        assert await looking.look()
        await rig.settled()
        told = [event for unit in counted for append in unit.appends for event in append.events]
        assert sorted(event.NAME for event in told) == sorted(one.event.NAME for one in rig.log())


async def test_a_hiccup_is_no_trouble_and_a_mailbox_that_fails_in_turns_is(database_url: str) -> None:
    async with Rig(database_url) as rig:
        looking = watch(rig)
        rig.clock.later(hours=1)
        for _ in range(4):
            await fails(rig)
            rig.clock.later(minutes=14)
            assert not await looking.look()
            await recovers(rig)
            assert not await looking.look()
        await fails(rig)
        rig.clock.later(minutes=10)
        await fails(rig, kind="tls", text="handshake failed")  # it fails otherwise now, and still
        rig.clock.later(minutes=5)
        assert await looking.look()
        await rig.settled()
        (down,) = heard(rig)
        assert "It said: handshake failed" in down.get_content()


@pytest.mark.parametrize("grace", [PERMANENT])
async def test_what_waiting_won_t_help_is_told_sooner(database_url: str, grace: timedelta) -> None:
    async with Rig(database_url) as rig:
        looking = watch(rig)
        rig.clock.later(hours=1)
        await fails(rig, kind="auth", permanent=True, text="-ERR [AUTH] wrong password")
        rig.clock.later(seconds=grace.total_seconds() - 1)
        assert not await looking.look()
        rig.clock.later(seconds=1)
        assert await looking.look()
        await rig.settled()
        assert "waiting won't help" in heard(rig)[0].get_content()


async def test_a_mailbox_that_waits_for_a_person_is_told_at_once(database_url: str) -> None:
    async with Rig(database_url) as rig:
        rig.clock.later(hours=1)
        reset = UidlResetSuspected(mailbox="info", listed=9, vanished=8, alike=7)
        await record(rig.means(), "info", (reset,))
        assert await watch(rig).look(settled=True)
        await rig.settled()
        (told,) = heard(rig)
        assert told["Subject"].startswith("Mailbox info is suspended")
        assert "  mailgate mailbox adopt info" in told.get_content()


async def test_one_that_is_known_to_fail_and_then_waits_for_a_person_is_told_anew(database_url: str) -> None:
    """A provider is away for a while, and comes back with other unique ids."""
    async with Rig(database_url) as rig:
        looking = watch(rig)
        rig.clock.later(hours=1)
        await fails(rig)
        rig.clock.later(minutes=20)
        assert await looking.look()
        await rig.settled()
        reset = UidlResetSuspected(mailbox="info", listed=9, vanished=8, alike=7)
        await record(rig.means(), "info", (reset,))
        assert await looking.look()
        await rig.settled()
        for looking_on in (looking, watch(rig)):  # as after a restart
            rig.clock.later(minutes=20)
            await fails(rig)  # it stays suspended
            assert not await looking_on.look()
        await recovers(rig)
        assert await looking.look()
        assert not await looking.look()
        await rig.settled()
        assert subjects(rig) == [
            "Mailbox info fails",
            "Mailbox info is suspended",
            "Mailbox info works again",
        ]
        assert "  mailgate mailbox adopt info" in heard(rig)[1].get_content()
        await record(rig.means(), "info", (reset,))
        assert await looking.look()  # the next time, too


async def test_what_failed_yesterday_is_tried_anew_before_it_is_told(database_url: str) -> None:
    """The gateway was off over night, and all is well again."""
    async with Rig(database_url) as rig:
        await fails(rig)
        rig.clock.later(hours=9)
        looking = watch(rig)
        assert not await looking.look()
        assert await rig.poll()
        rig.clock.later(minutes=10)
        assert not await looking.look()
        await fails(rig)
        rig.clock.later(hours=9)
        looking = watch(rig)
        rig.clock.later(seconds=SETTLED_AFTER.total_seconds())
        assert await looking.look()  # nobody could poll it since
        await rig.settled()


async def test_restarts_in_between_tell_nobody_twice_and_the_end_is_told(database_url: str) -> None:
    async with Rig(database_url) as rig:
        await fails(rig)
        rig.clock.later(hours=1)
        assert await watch(rig).look(settled=True)
        await rig.restart()
        rig.clock.later(hours=1)
        assert not await watch(rig).look(settled=True)
        await rig.restart()
        await recovers(rig)
        await rig.restart()
        assert await watch(rig).look(settled=True)
        assert not await watch(rig).look(settled=True)
        assert kinds(rig) == [("mailbox-failing", "info"), ("mailbox-recovered", "info")]
        await rig.settled()
        assert set(subjects(rig)) == {"Mailbox info fails", "Mailbox info works again"}


async def test_of_several_gateways_that_see_it_at_once_one_tells(database_url: str) -> None:
    async with Rig(database_url) as rig:
        await fails(rig)
        rig.clock.later(hours=1)
        seen = watch(rig)
        standings = await rig.read(seen._standings)  # before the other tells
        assert await watch(rig).look(settled=True)
        (mailbox,) = standings.mailboxes.values()
        assert not await seen._of_mailbox(mailbox, None, True)
        assert kinds(rig) == [("mailbox-failing", "info")]
        await rig.settled()


# -- next hops


async def test_of_a_next_hop_it_hears_once_when_it_lasts_and_once_when_it_is_over(database_url: str) -> None:
    """The postmaster's mail goes another way here; else it would wait with all the rest."""
    homes = {"home": HomePeer(), "provider": HomePeer()}
    routes = {"routes": (*_routes((POSTMASTER,), "provider"), *_routes(("*",), "home"))}
    async with Rig(database_url, homes=homes, policy=routes) as rig:
        looking = watch(rig)
        rig.home.fault("banner", "reply", code=421, text="4.3.2 closed for today", times=None)
        rig.put(mail(1), mail(2))
        await rig.poll()
        await rig.settled()
        assert not await looking.look()
        told = 0
        for _ in range(12):
            rig.clock.later(minutes=6)
            await rig.settled()
            told += await looking.look()
        assert told == 1
        rig.home.heal()
        rig.clock.later(hours=2)
        await rig.settled()
        assert await looking.look()
        assert not await looking.look()
        await rig.settled()
        down, up = heard(rig, "provider")
        assert subjects(rig, "provider") == ["Next hop home is down", "Next hop home is up again"]
        text = down.get_content()
        assert "  Since:   2026-03-01 12:00:00 UTC" in text
        assert "closed for today" in text
        assert "  Waiting: 2 messages" in text
        assert "  Waiting:   0 messages" in up.get_content()


async def test_where_nobody_tries_a_next_hop_nobody_knows_how_it_is(database_url: str) -> None:
    """What failed before the night, when the gateway was off, is tried first."""
    async with Rig(database_url) as rig:
        rig.home.fault("banner", "reply", code=421, text="4.3.2 closed", times=None)
        rig.put(mail(1))
        await rig.poll()
        await rig.settled()
        rig.clock.later(minutes=6)
        await rig.settled()
        rig.works = False
        await rig.restart()
        rig.clock.later(hours=9)
        assert not await watch(rig).look()
        assert not await watch(rig).look(settled=True)
        rig.works = True
        await rig.restart()
        await rig.settled()
        assert await watch(rig).look()
        await rig.settled()


async def test_a_next_hop_that_is_restarted_is_no_trouble(database_url: str) -> None:
    async with Rig(database_url) as rig:
        looking = watch(rig)
        rig.home.fault("banner", "reply", code=421, text="4.3.2 closed", times=2)
        rig.put(mail(1))
        await rig.poll()
        for _ in range(8):
            await rig.settled()
            assert not await looking.look()
            rig.clock.later(minutes=4)
        assert kinds(rig) == []


# -- the disk and the store


async def test_of_little_room_it_hears_once_and_once_when_there_is_room_for_good(database_url: str) -> None:
    async with Rig(database_url) as rig:
        short: list[str | None] = ["7 MB are free in /var/lib/mailgate"]
        looking = watch(rig, shortage=lambda: short[0])
        assert not await looking.look()
        rig.clock.later(seconds=DISK.total_seconds())
        assert await looking.look()
        await rig.settled()
        assert not await watch(rig, shortage=lambda: short[0]).look()
        for _ in range(3):  # it comes and goes
            short[0] = None
            rig.clock.later(minutes=10)
            assert not await looking.look()
            short[0] = "7 MB are free in /var/lib/mailgate"
            rig.clock.later(minutes=10)
            assert not await looking.look()
        short[0] = None
        assert not await looking.look()
        rig.clock.later(seconds=DISK_CALM.total_seconds())
        assert await looking.look()
        assert not await looking.look()
        await rig.settled()
        assert subjects(rig) == ["Little room for mail", "Room for mail again"]
        assert "7 MB are free" in heard(rig)[0].get_content()


async def test_who_looks_once_only_tells_of_the_room_at_once(database_url: str) -> None:
    async with Rig(database_url) as rig:
        for shortage in ("7 MB are free", "7 MB are free", None, None):
            await watch(rig, shortage=lambda shortage=shortage: shortage).look(settled=True)
        assert [kind for kind, _ in kinds(rig)] == ["disk-full", "disk-free"]
        await rig.settled()


async def test_that_the_store_was_out_of_reach_is_told_afterwards_once(database_url: str) -> None:
    async with Rig(database_url) as rig:
        away: list[bool] = [False]

        async def read(function: Any) -> Any:
            if away[0]:
                raise StoreUnreachable("the database: connection refused")
            return await rig.read(function)

        one, other = watch(rig, read=read), watch(rig, read=read)
        assert not await one.look()
        away[0] = True
        for looking in (one, other):
            with pytest.raises(StoreUnreachable):
                await looking.look()
        rig.clock.later(minutes=7)
        for looking in (one, other):
            with pytest.raises(StoreUnreachable):
                await looking.look()
        away[0] = False
        assert await one.look()
        assert not await other.look()
        assert not await one.look()
        away[0] = True
        with pytest.raises(StoreUnreachable):
            await one.look()
        away[0] = False
        rig.clock.later(seconds=20)
        assert not await one.look()  # a restart of the database takes no longer
        await rig.settled()
        (told,) = heard(rig)
        assert told["Subject"] == "The store was out of reach at gate.example.com"
        assert "7 min" in told.get_content()


async def test_a_shortage_that_left_no_room_for_its_notice_is_told_as_soon_as_there_is(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Rig(database_url) as rig:
        short: list[str | None] = ["0 MB are free in /var/lib/mailgate"]
        looking = watch(rig, shortage=lambda: short[0])
        assert not await looking.look()
        rig.clock.later(seconds=DISK.total_seconds())
        with monkeypatch.context() as patched:
            patched.setattr(rig.journal, "append_by", full)
            with pytest.raises(StoreFull):
                await looking.look()
        short[0] = None
        rig.clock.later(seconds=30)  # less than a minute since the store was seen to be away
        assert await looking.look()
        assert not await looking.look()
        rig.clock.later(seconds=DISK_CALM.total_seconds())
        assert await looking.look()
        assert not await looking.look()
        await rig.settled()
        assert subjects(rig) == ["Little room for mail", "Room for mail again"]
        assert "not even this could be told" in heard(rig)[0].get_content()


async def full(_function: Any) -> Any:
    raise StoreFull("the store can't be used: database or disk is full")


async def test_a_store_that_can_be_read_but_not_written_to_is_away(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Rig(database_url) as rig:
        looking = watch(rig)
        await fails(rig, kind="auth", permanent=True)
        rig.clock.later(minutes=10)
        with monkeypatch.context() as patched:
            patched.setattr(rig.journal, "append_by", full)
            for _ in range(3):  # a notice that can't be written is as good a proof as any
                with pytest.raises(StoreFull):
                    await looking.look()
                rig.clock.later(minutes=1)
        assert await looking.look()
        assert [kind for kind, _ in kinds(rig)] == ["store-back", "mailbox-failing"]
        await rig.settled()  # its commits would say that all is well
        rig.clock.later(minutes=1)
        rig.outage.committed(StoreFull("the store can't be used: database or disk is full"))
        for _ in range(3):  # and so are the commits of others
            assert not await looking.look()
            rig.clock.later(minutes=1)
        rig.outage.committed(None)
        assert await looking.look()
        assert not await looking.look()
        await rig.settled()
        told = heard(rig)[-1]
        assert told["Subject"] == "The store was out of reach at gate.example.com"
        assert "3 min" in told.get_content()
        assert "disk is full" in told.get_content()


def _routes(recipients: tuple[str, ...], next_hop: str) -> tuple[Any, ...]:
    from engine.core.routing import RouteRule

    return (RouteRule(recipients=recipients, next_hop=next_hop),)
