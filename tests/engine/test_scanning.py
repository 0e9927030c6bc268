"""A message's way past its scanners: what they find, and what is waited for while they can't be asked."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

import pytest
from sqlalchemy import Connection

from engine.core.verdict import KILLS
from engine.ports import Mail
from engine.scanner_standing import LONGEST_REST
from store import agenda, contents
from store.database import writing
from store.errors import StoreUnreachable
from store.events import Attempted, Deferred, Quarantined, Released, Scanned
from store.life import Message
from store.log import Append, Unit
from store.rebuild import rebuild
from tests.engine.rig import INFO, Rig, mail
from tests.engine.scripted import GONE, KILLER, VIRUS, ScriptedScanner
from tests.engine.situations import states, submit

MANY = 40


def infected(number: int) -> bytes:
    return mail(number) + VIRUS + b"\r\n"


def deadly(number: int) -> bytes:
    return mail(number) + KILLER + b"\r\n"


def names(rig: Rig, stream: str) -> list[str]:
    return [one.event.NAME for one in rig.log() if one.stream == stream]


async def test_what_is_clean_goes_on_and_what_is_not_is_kept(database_url: str) -> None:
    scanner = ScriptedScanner()
    async with Rig(database_url, scanners=[scanner]) as rig:
        rig.put(mail(1), infected(2))
        await rig.poll()
        await rig.settled()
        clean, bad = rig.messages()
        assert rig.delivered() == [mail(1)]
        assert names(rig, clean.id) == ["downloaded", "scanned", "attempted", "delivered"]
        assert names(rig, bad.id) == ["downloaded", "scanned", "quarantined"]
        assert (bad.state, bad.quarantined_why) == ("quarantined", "infected")
        (kept,) = rig.events(Quarantined)
        assert (kept.scanner, kept.rule) == ("clamd", "clamd found Test.Virus")
        assert len(scanner.asked) == 2


async def test_a_scanner_is_told_who_handed_the_mail_to_the_provider_or_to_us(sqlite_url: str) -> None:
    scanner = ScriptedScanner()
    told: list[Mail] = []
    look = scanner.answer
    scanner.answer = lambda mail: told.append(mail) or look(mail)  # type: ignore[func-returns-value]
    async with Rig(sqlite_url, scanners=[scanner]) as rig:
        rig.put(mail(1, header="Received: from mx.out.example ([203.0.113.7]) by pop.example; date\r\n"))
        await rig.poll()
        await submit(
            rig, INFO, peer="192.0.2.9", helo="desk.example", user="alice", reverse_path="a@out.example"
        )
        await rig.settled()
        fetched, taken = sorted(told, key=lambda one: one.user or "")
    assert (fetched.client_ip, fetched.reverse_path, fetched.recipients) == (
        "203.0.113.7",
        "sender1@elsewhere.example",
        (INFO,),
    )
    assert (taken.client_ip, taken.helo, taken.user) == ("192.0.2.9", "desk.example", "alice")


async def test_the_log_tells_what_is_kept_and_a_wave_of_it_in_one_line_a_minute(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Rig(sqlite_url, scanners=[ScriptedScanner()]) as rig:
        with caplog.at_level(logging.INFO, logger="mailgate.worker"):
            rig.put(*map(infected, range(5)), mail(6))
            await rig.poll()
            await rig.settled()
            rig.clock.later(minutes=1)
            rig.put(infected(7))
            await rig.poll()
            await rig.settled()
        said = [line for line in caplog.messages if "quarantine" in line]
        *_, last = (one for one in rig.messages() if one.state == "quarantined")
        assert len(said) == 2
        assert said[0].partition(": ")[2] == "goes into quarantine: infected, says clamd"
        assert said[0].partition(": ")[0] in {one.id for one in rig.messages() if one.id != last.id}
        more = "(4 more since the last of these lines)"
        assert said[1] == f"{last.id}: goes into quarantine: infected, says clamd {more}"


async def test_the_verdict_is_on_record_before_anything_is_handed_over(database_url: str) -> None:
    async with Rig(database_url, scanners=[ScriptedScanner()]) as rig:
        rig.home.on("data", lambda _: None)
        rig.put(mail(1))
        await rig.poll()
        await rig.settled()
        scanned, attempted = (one for one in rig.log() if isinstance(one.event, Scanned | Attempted))
        assert scanned.position < attempted.position
        assert scanned.at == attempted.at  # in one transaction: it costs none of its own


async def test_while_a_scanner_is_down_all_wait_and_nobody_says_it_twice(database_url: str) -> None:
    scanner = ScriptedScanner()
    async with Rig(database_url, scanners=[scanner]) as rig:
        scanner.down = GONE
        rig.put(*map(mail, range(MANY)))
        await rig.poll()
        await rig.settled()
        assert set(states(rig)) == {"deferred"}
        assert len(scanner.asked) <= scanner.connections
        assert len(rig.events(Scanned)) == MANY
        for probes in range(1, 6):
            rig.clock.later(seconds=LONGEST_REST.total_seconds() + 1)
            await rig.settled()
            assert len(rig.events(Scanned)) == MANY + probes  # of the one that tried
        scanner.down = None
        rig.clock.later(seconds=LONGEST_REST.total_seconds() + 1)
        await rig.settled()
        assert Counter(rig.delivered()) == Counter(map(mail, range(MANY)))
        verdicts = Counter(event.verdict for event in rig.events(Scanned))
        assert verdicts == {"error": MANY + 5, "clean": MANY}
        assert not rig.events(Quarantined)


async def test_when_it_comes_up_nobody_waits_for_a_time_of_its_own(database_url: str) -> None:
    """Whoever came in late in the outage goes as soon as the one that tried shows that it is up."""
    scanner = ScriptedScanner()
    async with Rig(database_url, scanners=[scanner]) as rig:
        scanner.down = GONE
        for number in range(6):
            rig.put(mail(number))
            await rig.poll()
            rig.clock.later(seconds=1.7)
            await rig.settled()
        scanner.down = None
        post = rig.scanning.posts["clamd"]
        assert post.probe_at is not None
        rig.clock.at = max(rig.clock.at, post.probe_at)
        await rig.settled()
        assert states(rig) == ["delivered"] * 6


async def test_a_scanner_that_hangs_costs_one_time_out_and_quarantines_nobody(database_url: str) -> None:
    scanner = ScriptedScanner()
    scanner.timeout_seconds = 0.05
    async with Rig(database_url, scanners=[scanner]) as rig:
        scanner.hang()
        rig.put(*map(mail, range(MANY)))
        await rig.poll()
        await rig.settled()
        assert len(scanner.asked) == scanner.connections
        for _ in range(2 * KILLS):
            rig.clock.later(minutes=2)
            await rig.settled()
        assert len(scanner.asked) == scanner.connections  # since then only the sample
        assert {event.blame for event in rig.events(Scanned)} == {"scanner"}
        scanner.go_on()
        rig.clock.later(minutes=2)
        await rig.settled()
        assert len(rig.delivered()) == MANY


async def test_rubbish_from_a_scanner_quarantines_nobody(database_url: str) -> None:
    scanner = ScriptedScanner()
    async with Rig(database_url, scanners=[scanner]) as rig:
        scanner.rubbish = True
        rig.put(*map(mail, range(MANY)))
        await rig.poll()
        for _ in range(3 * KILLS):
            await rig.settled()
            rig.clock.later(minutes=5)
        assert set(states(rig)) == {"deferred"}
        scanner.rubbish = False
        rig.clock.later(minutes=5)
        await rig.settled()
        assert len(rig.delivered()) == MANY


async def test_one_that_kills_a_scanner_three_times_is_kept_and_the_others_go_on(database_url: str) -> None:
    scanner = ScriptedScanner()
    async with Rig(database_url, scanners=[scanner]) as rig:
        rig.put(*map(mail, range(MANY)), deadly(666))
        await rig.poll()
        for _ in range(KILLS):
            await rig.settled()
            rig.clock.later(minutes=5)
        await rig.settled()
        assert Counter(rig.delivered()) == Counter(map(mail, range(MANY)))
        (kept,) = rig.events(Quarantined)
        assert (kept.reason, kept.rule) == ("scanner-error", "clamd broke 3 times at this message")
        (bad,) = (m for m in rig.messages() if m.state == "quarantined")
        blamed = [e for e in rig.events(Scanned, bad.id) if e.blame == "message"]
        assert len(blamed) == KILLS


async def test_what_kills_a_scanner_is_kept_without_waiting_again(database_url: str) -> None:
    async with Rig(database_url, scanners=[ScriptedScanner()]) as rig:
        rig.put(deadly(1))
        await rig.poll()
        await rig.settled()
        for seconds in (10, 20):
            assert states(rig) == ["deferred"]
            rig.clock.later(seconds=seconds)
            await rig.settled()
        assert states(rig) == ["quarantined"]


async def test_of_two_scanners_one_down_the_other_is_asked_once(database_url: str) -> None:
    up, down = ScriptedScanner("clamd"), ScriptedScanner("spamd", kind="spamd", on_found="tag")
    async with Rig(database_url, scanners=[up, down]) as rig:
        down.down = GONE
        rig.put(mail(1), infected(2))
        await rig.poll()
        for _ in range(4):
            await rig.settled()
            rig.clock.later(minutes=2)
        assert len(up.asked) == 2
        assert states(rig) == ["deferred", "deferred"]
        assert {lane_of(rig, m) for m in rig.messages()} == {"scan:spamd"}
        down.down = None
        await rig.settled()
        assert states(rig) == ["delivered", "quarantined"]
        assert len(up.asked) == 2


def lane_of(rig: Rig, message: Message) -> str:
    return str(rig.agenda(message.id)["lane"])


async def test_both_down_it_waits_for_the_one_and_then_for_the_other(database_url: str) -> None:
    first, second = ScriptedScanner("clamd"), ScriptedScanner("spamd", kind="spamd")
    async with Rig(database_url, scanners=[first, second]) as rig:
        first.down = second.down = GONE
        rig.put(mail(1), mail(2))
        await rig.poll()
        await rig.settled()
        first.down = None
        rig.clock.later(minutes=2)
        await rig.settled()
        assert {lane_of(rig, m) for m in rig.messages()} == {"scan:spamd"}
        second.down = None
        rig.clock.later(minutes=2)
        await rig.settled()
        assert states(rig) == ["delivered", "delivered"]
        assert len(first.asked) <= 2 * 2


@pytest.mark.parametrize("hangs", [False, True])
async def test_where_the_policy_lets_it_pass_that_is_on_record(database_url: str, hangs: bool) -> None:
    scanner = ScriptedScanner(on_error="pass")
    scanner.timeout_seconds = 0.05
    async with Rig(database_url, scanners=[scanner]) as rig:
        scanner.hang() if hangs else setattr(scanner, "down", GONE)
        rig.put(*map(mail, range(MANY)))
        await rig.poll()
        await rig.settled()
        scanner.go_on()
        assert len(rig.delivered()) == MANY
        said = rig.events(Scanned)
        assert {(e.verdict, e.retry_at, e.policy) for e in said} == {("error", None, rig.policy.version)}
        assert len(said) == MANY
        assert len(scanner.asked) <= scanner.connections


async def test_a_new_scanner_applies_to_what_is_queued(database_url: str) -> None:
    async with Rig(database_url) as rig:
        rig.home.fault("dot", "reply", code=451, text="4.3.0 later", times=2)
        rig.put(mail(1), infected(2))
        await rig.poll()
        await rig.settled()
        scanner = ScriptedScanner()
        await rig.restart(scanners=[scanner])
        rig.clock.later(minutes=10)
        await rig.settled()
        assert states(rig) == ["delivered", "quarantined"]


async def test_a_scanner_that_is_no_longer_configured_keeps_nobody_waiting(database_url: str) -> None:
    scanner = ScriptedScanner("old")
    async with Rig(database_url, scanners=[scanner]) as rig:
        scanner.down = GONE
        rig.put(*map(mail, range(3)))
        await rig.poll()
        await rig.settled()
        assert {lane_of(rig, m) for m in rig.messages()} == {"scan:old"}
        rig.home.fault("connect", "drop", times=None)
        await rig.restart(scanners=[])
        rig.clock.later(minutes=1)
        await rig.settled()
        assert rig.events(Deferred)
        assert {lane_of(rig, m) for m in rig.messages()} == {"home"}  # what it waits for now
        rig.home.heal()
        rig.clock.later(hours=2)
        await rig.settled()
        assert states(rig) == ["delivered"] * 3


async def test_whoever_was_released_waits_for_no_scanner(database_url: str) -> None:
    virus, spam = ScriptedScanner("clamd"), ScriptedScanner("spamd", kind="spamd")
    async with Rig(database_url, scanners=[virus, spam]) as rig:
        rig.put(infected(1))
        await rig.poll()
        await rig.settled()
        (message,) = rig.messages()
        virus.down = spam.down = GONE
        release = Released(
            numbers=(), operator="anna", policy=rig.policy.version, reason="it is a test of the virus"
        )
        await rig.journal.append(Unit((Append(message.id, message, (release,), rig.clock()),)))
        await rig.settled()
        assert states(rig) == ["delivered"]


async def test_a_restart_in_the_outage_loses_nothing_and_asks_by_one(database_url: str) -> None:
    scanner = ScriptedScanner()
    async with Rig(database_url, scanners=[scanner]) as rig:
        scanner.down = GONE
        rig.put(*map(mail, range(MANY)))
        await rig.poll()
        await rig.settled()
        asked = len(scanner.asked)
        rig.clock.later(minutes=2)
        await rig.restart()
        await rig.settled()
        assert len(scanner.asked) - asked <= scanner.connections
        scanner.down = None
        rig.clock.later(minutes=2)
        await rig.settled()
        assert len(rig.delivered()) == MANY


async def test_the_read_tables_of_what_waits_are_what_the_log_adds_up_to(database_url: str) -> None:
    scanner = ScriptedScanner()
    async with Rig(database_url, scanners=[scanner]) as rig:
        scanner.down = GONE
        rig.put(mail(1), mail(2))
        await rig.poll()
        await rig.settled()
        before = [rig.agenda(m.id) for m in rig.messages()]
        with writing(rig.engine) as connection:
            rebuild(connection)
        after = [rig.agenda(m.id) for m in rig.messages()]
        wanted = ("stream", "lane", "wake_at")
        assert [{k: row[k] for k in wanted} for row in after] == [
            {k: row[k] for k in wanted} for row in before
        ]


async def test_a_slow_scanner_takes_so_much_memory_and_no_more(sqlite_url: str) -> None:
    """What waits for a place has no octets in memory where they were let go of."""
    scanner = ScriptedScanner(connections=1)
    async with Rig(sqlite_url, scanners=[scanner], budget_octets=4 << 20, works=False) as rig:
        rig.put(*(mail(n, 200_000) for n in range(MANY)))
        await rig.poll()
        scanner.hang()
        await rig.restart(works=True)
        await rig.until(lambda: scanner.asked)
        await rig.until(lambda: rig.worker.lives.begun == MANY)
        await asyncio.sleep(0.05)
        assert rig.budget.used_octets < (1 << 20)
        scanner.go_on()
        await rig.settled()
        assert len(rig.delivered()) == MANY


async def test_who_is_scanned_by_others_does_not_wait_behind_a_slow_one(sqlite_url: str) -> None:
    slow = ScriptedScanner("slow", connections=1, directions=("outbound",))
    quick = ScriptedScanner("quick", directions=("inbound",))
    async with Rig(sqlite_url, scanners=[slow, quick], policy={"domains": ("nobody.example",)}) as rig:
        slow.hang()
        for number in range(20):
            await submit(rig, "someone@elsewhere.example", octets=mail(100 + number))
        await rig.until(lambda: slow.asked)
        rig.put(mail(1))
        await rig.poll()
        await rig.until(rig.delivered)
        slow.go_on()
        await rig.settled()


async def test_at_the_end_what_waits_for_a_place_is_given_back_unscanned(database_url: str) -> None:
    scanner = ScriptedScanner(connections=1)
    async with Rig(database_url, scanners=[scanner]) as rig:
        scanner.hang()
        rig.put(*map(mail, range(MANY)))
        await rig.poll()
        await rig.until(lambda: scanner.asked)
        draining = asyncio.create_task(rig.worker.drain(20))
        await asyncio.sleep(0.02)
        scanner.go_on()
        await draining
        assert len(scanner.asked) < MANY
        await rig.restart()
        await rig.settled()
        assert len(rig.delivered()) == MANY


async def test_of_what_outcome_nobody_knows_a_scanner_is_not_asked_in_circles(database_url: str) -> None:
    """An outcome nobody knows is no reason to go past a new scanner, nor to try it in circles."""
    async with Rig(database_url) as rig:
        rig.home.fault("dot", "commit-drop")
        rig.put(mail(1))
        await rig.poll()
        await rig.settled()
        assert states(rig) == ["outcome-unknown"]
        scanner = ScriptedScanner()
        scanner.breaks_at = lambda mail: True
        await rig.restart(scanners=[scanner])
        rig.clock.later(hours=1)
        await rig.settled()
        (said,) = rig.events(Scanned)
        assert said.retry_at is not None
        assert states(rig) == ["outcome-unknown"]
        assert scanner.asked == [rig.message().id]
        scanner.breaks_at = lambda mail: False
        rig.clock.at = said.retry_at
        await rig.settled()
        assert states(rig) == ["delivered"]


async def test_a_slow_home_server_fills_no_more_than_its_share_past_the_scanners(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.lives.LIVES_LIMIT", 20)
    scanner = ScriptedScanner()
    async with Rig(sqlite_url, scanners=[scanner], connections=1) as rig:
        scanner.down = GONE
        rig.put(*map(mail, range(MANY)))
        await rig.poll()
        await rig.settled()
        stall = rig.home.fault("dot", "stall")
        scanner.down = None
        rig.clock.later(minutes=2)
        rig.worker.wake()
        await rig.until(lambda: not rig.events(Deferred) and len(scanner.asked) > 20)
        await asyncio.sleep(0.1)
        assert len(rig.worker.lives._lives) <= 20
        stall.release()
        await rig.settled()
        assert len(rig.delivered()) == MANY


@pytest.mark.parametrize("error", [StoreUnreachable("gone"), RuntimeError("a fault of ours")], ids=repr)
async def test_what_could_not_be_read_back_goes_on_later_and_stays_in_nobodys_hands(
    database_url: str, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    troubles = [error]

    def get(connection: Connection, message: Message) -> bytes | None:
        if troubles:
            raise troubles.pop()
        return read_back(connection, message)

    read_back = contents.get
    monkeypatch.setattr(contents, "get", get)
    monkeypatch.setattr("engine.steps.STORE_RETRY_SECONDS", 0.01)
    async with Rig(database_url, works=False, scanners=[ScriptedScanner()]) as rig:
        rig.put(mail(1), mail(2))
        await rig.poll()
        await rig.restart(works=True)
        await rig.settled()
        assert rig.read_now(agenda.holders) == []
        assert not troubles
        rig.clock.later(hours=1)
        await rig.settled()
        assert states(rig) == ["delivered", "delivered"]
