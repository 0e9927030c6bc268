"""A scanner that is down for long: senders are told that their mail waits, and no next hop is blamed for the time."""

from __future__ import annotations

from datetime import timedelta

from engine.late_senders import LateSenders
from store.events import Deferred, Reported
from tests.engine.rig import INFO, Rig, mail
from tests.engine.scripted import GONE, ScriptedScanner
from tests.engine.situations import outgoing, submit
from tests.engine.test_reports import BOB, EVE, of, reports
from tests.peers.smtpd import HomePeer

WARNING = timedelta(hours=4)


def late(rig: Rig) -> LateSenders:
    return LateSenders(rig.means(), told=rig.worker.wake)


async def passed(rig: Rig, **span: float) -> None:
    """Time in which nothing but the probes of the scanner happens."""
    rig.clock.later(**span)
    await rig.settled()


def kinds(rig: Rig, stream: str) -> list[str]:
    return [event.kind for event in rig.events(Reported, stream)]


async def test_each_sender_is_told_once_that_it_waits_whatever_is_restarted(database_url: str) -> None:
    scanner = ScriptedScanner()
    async with outgoing(database_url, HomePeer(hostname="smart.example"), scanners=[scanner]) as rig:
        scanner.down = GONE
        streams = [await submit(rig, BOB), await submit(rig, BOB, EVE)]
        by_machine = mail(3, header="Auto-Submitted: auto-generated\r\n")
        silent = await submit(rig, BOB, octets=by_machine)
        await rig.settled()
        rig.clock.later(seconds=WARNING.total_seconds() - 1)
        assert await late(rig).look() == 0
        rig.clock.later(seconds=1)
        done = await late(rig).look()
        await rig.settled()  # the probe is told by what happens to it
        assert [kinds(rig, one) for one in streams] == [["delay"], ["delay"]]
        assert done <= 2
        assert kinds(rig, silent) == []
        await rig.restart()
        assert await late(rig).look() == 0
        await passed(rig, days=1)
        assert await late(rig).look() == 0
        told = [bytes(one.octets) for one in reports(rig)]
        assert len(told) == 2
        for octets in told:
            assert b"Action: delayed" in octets
            assert b"it waits here until it can be scanned for viruses and spam" in octets
            assert GONE.encode() not in octets  # how our scanners are is for the house
            assert b"Will-Retry-Until" not in octets
        scanner.down = None
        await passed(rig, minutes=2)
        assert {of(rig, one).state for one in (*streams, silent)} == {"relayed"}


async def test_of_two_gateways_that_see_it_one_tells(database_url: str) -> None:
    scanner = ScriptedScanner()
    async with outgoing(database_url, HomePeer(hostname="smart.example"), scanners=[scanner]) as rig:
        scanner.down = GONE
        stream = await submit(rig, BOB)
        await rig.settled()
        rig.clock.later(seconds=WARNING.total_seconds())
        one, other = late(rig), late(rig)
        unit = await rig.read(lambda c: other._unit(c, stream))
        assert unit is not None
        assert await one.look() == 1
        assert await other._tell(stream) is False
        assert kinds(rig, stream) == ["delay"]
        scanner.down = None
        await passed(rig, minutes=2)


async def test_the_time_without_a_scanner_is_not_held_against_the_next_hop(database_url: str) -> None:
    scanner = ScriptedScanner()
    smart = HomePeer(hostname="smart.example")
    async with outgoing(database_url, smart, scanners=[scanner]) as rig:
        scanner.down = GONE
        stream = await submit(rig, BOB)
        await rig.settled()
        await passed(rig, days=6)  # longer than [retry] give_up_after
        smart.fault("rcpt", "reply", code=451, text="4.3.0 later", times=2)
        scanner.down = None
        await passed(rig, minutes=2)
        waiting = of(rig, stream)
        assert (waiting.state, waiting.attempts) == ("deferred", 1)
        assert waiting.going_since(waiting.changed_at) >= waiting.opened_at + timedelta(days=6)
        await passed(rig, days=4)
        assert of(rig, stream).state == "deferred"
        await passed(rig, minutes=90)
        assert of(rig, stream).state == "relayed"
        assert len([event for event in rig.events(Deferred, stream) if event.tried]) == 2


async def test_after_that_it_is_given_up_in_its_time(database_url: str) -> None:
    scanner = ScriptedScanner()
    smart = HomePeer(hostname="smart.example")
    async with outgoing(database_url, smart, scanners=[scanner]) as rig:
        scanner.down = GONE
        stream = await submit(rig, BOB)
        await rig.settled()
        await passed(rig, days=6)
        smart.fault("rcpt", "reply", code=451, text="4.3.0 later", times=None)
        scanner.down = None
        await passed(rig, minutes=2)
        await passed(rig, days=4, hours=23)
        assert of(rig, stream).state == "deferred"
        await passed(rig, hours=2)
        assert of(rig, stream).state == "failed"
        assert INFO in {one.recipients[0] for one in reports(rig)}
