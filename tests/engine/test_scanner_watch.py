"""Of a scanner's outage the postmaster hears twice: when it has lasted a minute, and when it is over."""

from __future__ import annotations

from email import message_from_bytes
from email.message import Message as Mail

from engine.ports import ScannerTrouble
from engine.scanner_standing import LONGEST_REST, ScannerStanding
from engine.scanner_watch import PATIENCE, ScannerWatch
from engine.telling import Teller
from store.events import Generated
from tests.engine.rig import POSTMASTER, Rig, mail
from tests.engine.scripted import GONE, ScriptedScanner


def watch(rig: Rig) -> ScannerWatch:
    means = rig.means()
    return ScannerWatch(means, rig.scanning.posts, teller=Teller(means, rig.worker.wake))


async def came(rig: Rig, *numbers: int) -> None:
    rig.put(*map(mail, numbers))
    await rig.poll()
    await rig.settled()


async def later(rig: Rig, looking: ScannerWatch, **span: float) -> bool:
    """After this time, with the probes that are due by then."""
    rig.clock.later(**span)
    await rig.settled()
    news = await looking.look()
    await rig.settled()
    return news


def heard(rig: Rig) -> list[Mail]:
    return [message_from_bytes(taken.octets) for taken in rig.home.taken_for(POSTMASTER)]


async def test_of_an_outage_it_hears_once_when_it_lasts_and_once_when_it_ends(database_url: str) -> None:
    scanner = ScriptedScanner()
    async with Rig(database_url, scanners=[scanner]) as rig:
        looking = watch(rig)
        scanner.down = GONE
        await came(rig, 1, 2, 3)
        assert not await looking.look()
        assert await later(rig, looking, seconds=PATIENCE.total_seconds())
        for _ in range(3):
            assert not await later(rig, looking, minutes=7)
        (down,) = heard(rig)
        assert down["Subject"] == "Scanner clamd is down at gate.example.com"
        text = down.get_payload()
        for line in ("Since:   2026-03-01 12:00:00 UTC", f"It said: {GONE}", "Waiting: 3 messages"):
            assert f"  {line}" in text
        assert "mailgate queue" in text
        scanner.down = None
        assert await later(rig, looking, minutes=2)
        assert not await later(rig, looking, minutes=2)
        _, up = heard(rig)
        assert up["Subject"] == "Scanner clamd is up again at gate.example.com"
        assert "Down from: 2026-03-01 12:00:00 UTC" in up.get_payload()
        assert "24 min" in up.get_payload()
        told = [(e.kind, e.concerns) for e in rig.events(Generated)]
        assert told == [("scanner-down", "clamd"), ("scanner-up", "clamd")]
        (about,) = {e.about for e in rig.events(Generated)}
        assert about in {m.id for m in rig.messages() if m.direction == "inbound"}


async def test_a_reload_of_signatures_tells_nobody(database_url: str) -> None:
    scanner = ScriptedScanner()
    async with Rig(database_url, scanners=[scanner]) as rig:
        looking = watch(rig)
        scanner.down = GONE
        await came(rig, 1)
        assert not await later(rig, looking, seconds=PATIENCE.total_seconds() - 1)
        scanner.down = None
        assert not await later(rig, looking, seconds=LONGEST_REST.total_seconds())
        assert heard(rig) == []


async def test_a_restart_in_the_outage_tells_nobody_twice_and_the_end_is_told(database_url: str) -> None:
    scanner = ScriptedScanner()
    async with Rig(database_url, scanners=[scanner]) as rig:
        scanner.down = GONE
        await came(rig, 1)
        assert await later(rig, watch(rig), minutes=2)
        await rig.restart()
        looking = watch(rig)
        assert not await looking.look()
        assert not await later(rig, looking, minutes=5)
        assert len(heard(rig)) == 1
        await rig.restart()
        looking = watch(rig)
        assert not await looking.look()  # that it is down is all that is known of it
        scanner.down = None
        assert await later(rig, looking, minutes=5)
        assert [m["Subject"].split(" at ")[0] for m in heard(rig)] == [
            "Scanner clamd is down",
            "Scanner clamd is up again",
        ]


async def test_runs_that_are_shorter_than_a_minute_tell_of_an_outage_that_is_longer(
    database_url: str,
) -> None:
    scanner = ScriptedScanner()
    async with Rig(database_url, scanners=[scanner]) as rig:
        scanner.down = GONE
        await came(rig, 1)
        assert not await watch(rig).look()
        rig.clock.later(minutes=3)
        await rig.restart()
        await rig.settled()
        assert await watch(rig).look()
        await rig.settled()
        (down,) = heard(rig)
        assert "Since:   2026-03-01 12:00:00 UTC" in down.get_payload()


async def test_two_processes_tell_once(database_url: str) -> None:
    scanner = ScriptedScanner()
    async with Rig(database_url, scanners=[scanner]) as rig:
        one, other = watch(rig), watch(rig)
        scanner.down = GONE
        await came(rig, 1)
        assert not await one.look()
        assert not await other.look()
        assert await later(rig, one, minutes=2)
        assert not await other.look()
        scanner.down = None
        assert await later(rig, one, minutes=2)
        assert not await other.look()


async def test_a_gateway_whose_own_scanner_is_well_does_not_say_that_another_s_is_up_again(
    database_url: str,
) -> None:
    """Two machines, each with a clamd of its own, on one Postgres."""
    scanner = ScriptedScanner()
    async with Rig(database_url, scanners=[scanner]) as rig:
        means = rig.means()
        its_own = ScannerStanding(rig.scanning.posts["clamd"].policy, connections=1, now=rig.clock)
        other = ScannerWatch(means, {"clamd": its_own}, teller=Teller(means, rig.worker.wake))
        one = watch(rig)
        its_own.up()
        assert not await other.look()
        scanner.down = GONE
        await came(rig, 1)
        assert await later(rig, one, minutes=2)
        for _ in range(3):
            assert not await later(rig, other, seconds=5)
            assert not await later(rig, one, seconds=5)
        scanner.down = None
        assert await later(rig, one, minutes=2)
        assert not await later(rig, other, seconds=5)
        assert len(heard(rig)) == 2
        its_own.fell(ScannerTrouble("connection refused"), "")  # and the other way round
        assert not await later(rig, other, seconds=5)
        assert await later(rig, other, minutes=2)
        assert not await later(rig, one, seconds=5)
        its_own.up()
        assert await later(rig, other, seconds=5)
        assert not await later(rig, one, seconds=5)
        assert len(heard(rig)) == 4


async def test_that_mail_passes_unscanned_is_said_loudly(database_url: str) -> None:
    scanner = ScriptedScanner(on_error="pass")
    async with Rig(database_url, scanners=[scanner]) as rig:
        looking = watch(rig)
        scanner.down = GONE
        await came(rig, 1)
        rig.clock.later(minutes=2)
        await came(rig, 2)
        assert await looking.look()
        await rig.settled()
        (down,) = heard(rig)
        assert "passes UNSCANNED" in down.get_payload()
        assert "Waiting: 0 messages" in down.get_payload()
        scanner.down = None
        rig.clock.later(minutes=2)
        await came(rig, 3)
        assert await looking.look()
        await rig.settled()
        _, up = heard(rig)
        assert "mailgate rescan --scanner clamd --since 2026-03-01T12:0" in up.get_payload()


async def test_each_scanner_has_its_own(database_url: str) -> None:
    first, second = ScriptedScanner("clamd"), ScriptedScanner("spamd", kind="spamd")
    async with Rig(database_url, scanners=[first, second]) as rig:
        looking = watch(rig)
        first.down = second.down = GONE
        await came(rig, 1)
        assert await later(rig, looking, minutes=2)
        assert sorted(m["Subject"].split()[1] for m in heard(rig)) == ["clamd", "spamd"]
        first.down = None
        assert await later(rig, looking, minutes=2)
        assert [e.concerns for e in rig.events(Generated) if e.kind == "scanner-up"] == ["clamd"]
