"""Attempts: what each answer leads to, what no answer leads to, and how a next hop that is down is probed."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import func, select, update

from engine import hop
from engine.core import tagging
from engine.core.outcome import Octets, Outcome, Transaction
from engine.core.policy import Policy
from engine.core.routing import MailboxRule
from engine.worker import AHEAD
from store.database import writing
from store.events import (
    Attempted,
    Deferred,
    Delivered,
    Failed,
    Held,
    MessageEvent,
    RedeliveryRequested,
    Released,
    RemovedFromSource,
)
from store.life import Message
from store.log import Append, Unit
from store.schema import contents
from tests.engine.rig import NOON, Rig, mail
from tests.engine.situations import DESK, SALES, TWO, TWO_HOPS, claimed, refusing, states
from tests.peers.smtpd import HomePeer


async def test_what_the_home_server_takes_is_delivered_and_the_record_says_by_whom(database_url: str) -> None:
    async with Rig(database_url) as rig:
        octets = mail(1)
        rig.put(octets)
        await rig.poll()
        await rig.settled()
        assert rig.delivered() == [octets]
        (event,) = rig.events(Delivered)
        assert (event.code, event.reply, event.next_hop) == (250, "250 2.0.0 taken as 1", "home")
        assert event.address == f"127.0.0.1:{rig.smtp_ports['home']}"
        assert states(rig) == ["delivered"]
        (taken,) = rig.home.ledger
        assert taken.reverse_path == "sender1@elsewhere.example"


async def test_attempted_is_on_record_before_any_final_dot(database_url: str) -> None:
    async with Rig(database_url, connections=3) as rig:
        early: list[str] = []

        def at_the_dot(_occasion: Any) -> None:
            dots = len(rig.home.said("."))
            if len(rig.events(Attempted)) < dots:
                early.append(f"dot {dots}")

        rig.home.on("dot", at_the_dot)
        rig.put(*(mail(n) for n in range(12)))
        await rig.poll()
        await rig.settled()
        assert len(rig.home.ledger) == 12
        assert early == []


async def test_a_recipient_refused_fails_and_the_others_are_delivered(database_url: str) -> None:
    async with Rig(database_url, mailboxes=TWO) as rig:
        rig.home.fault("rcpt", "reply", matching=SALES, code=550, text="5.1.1 no such user", times=None)
        rig.put(mail(1))
        await rig.poll()
        await rig.settled()
        assert [r.state for r in rig.message().recipients] == ["delivered", "failed"]
        assert rig.home.taken_for(SALES) == []
        (event,) = rig.events(Failed)
        assert (event.reason, event.code, event.reply) == ("rejected", 550, "550 5.1.1 no such user")


async def test_a_line_that_breaks_behind_the_dot_leaves_the_outcome_unknown_until_the_retry(
    database_url: str,
) -> None:
    async with Rig(database_url) as rig:
        rig.home.fault("dot", "commit-drop")
        octets = mail(1)
        rig.put(octets)
        await rig.poll()
        await rig.settled()
        assert states(rig) == ["outcome-unknown"]
        rig.clock.later(minutes=6)
        await rig.settled()
        assert rig.delivered() == [octets, octets]
        message = rig.message()
        assert (message.state, message.recipients[0].unknown_attempts) == ("delivered", 1)
        (event,) = rig.events(Deferred)
        assert event.unknown


async def test_an_attempt_that_a_crash_cut_off_is_named_and_tried_again(database_url: str) -> None:
    async with Rig(database_url) as rig:
        stalled = rig.home.fault("dot", "late")
        rig.put(mail(1))
        await rig.poll()
        await rig.home.until(lambda: rig.home.ledger)
        await rig.restart(drain=False)
        stalled.release()
        await rig.settled()
        assert len(rig.home.ledger) == 2
        message = rig.message()
        assert (message.state, message.recipients[0].unknown_attempts) == ("delivered", 1)


async def test_a_next_hop_that_is_down_is_probed_by_one_message_and_gets_all_once_it_is_back(
    database_url: str,
) -> None:
    async with Rig(database_url, connections=1) as rig:
        await rig.home.stop()
        count = AHEAD + 10  # more than may be on their way when the first finds nobody there
        rig.put(*(mail(n) for n in range(count)))
        await rig.poll()
        await rig.settled()
        assert states(rig) == ["deferred"] * count
        tried = len(rig.events(Attempted))
        probe_at = max(event.retry_at for event in rig.events(Deferred))
        untried = [event for event in rig.events(Deferred) if not event.tried]
        assert len(untried) == count - tried > 0
        assert all("down" in event.reply and event.retry_at == probe_at for event in untried)

        rig.clock.at = probe_at
        await rig.settled()
        assert len(rig.events(Attempted)) == tried + 1

        rig.clock.at = max(event.retry_at for event in rig.events(Deferred))
        await rig.home.start(rig.smtp_ports["home"])
        await rig.settled()
        assert states(rig) == ["delivered"] * count
        assert len(rig.home.ledger) == count


async def order(rig: Rig, event: MessageEvent, *before: MessageEvent) -> None:
    """A person wants every message tried now."""
    rig.clock.later(seconds=30)
    for message in rig.messages():
        await rig.journal.append(Unit((Append(message.id, message, (*before, event), rig.clock()),)))
    rig.worker.wake()


@pytest.mark.parametrize("restarted", [False, True])
async def test_what_a_person_wants_tried_now_probes_a_next_hop_that_rests_by_one_message(
    restarted: bool, database_url: str
) -> None:
    async with Rig(database_url, connections=2) as rig:
        await rig.home.stop()
        count = 2 * AHEAD + 10
        rig.put(*(mail(n) for n in range(count)))
        await rig.poll()
        await rig.settled()
        probe_at = max(event.retry_at for event in rig.events(Deferred))
        tried = len(rig.events(Attempted))
        again = RedeliveryRequested(numbers=(0,), bound_for="home", operator="anna", policy="p")
        await order(rig, again)
        await rig.settled()
        assert len(rig.events(Attempted)) == tried + 1
        assert {m.recipients[0].retry_at for m in rig.messages()} == {probe_at}  # one rest, as before
        assert rig.hops["home"].failures == 1

        await rig.home.start(rig.smtp_ports["home"])
        if restarted:
            await rig.restart()
        held = Held(why="operator", rule="by hand", operator="anna", policy="p")
        await order(rig, Released(bound_for="home", operator="anna", policy="p"), held)
        await rig.settled()
        assert rig.clock() < probe_at
        assert states(rig) == ["delivered"] * count
        assert len(rig.home.ledger) == count


async def test_new_mail_waits_beside_what_a_person_wants_tried_now(database_url: str) -> None:
    async with Rig(database_url) as rig:
        await rig.home.stop()
        rig.put(mail(1))
        await rig.poll()
        await rig.settled()
        await order(rig, RedeliveryRequested(numbers=(0,), bound_for="home", operator="anna", policy="p"))
        rig.put(mail(2))
        await rig.poll()
        await rig.settled()
        assert states(rig) == ["deferred", "received"]
        await rig.home.start(rig.smtp_ports["home"])
        await order(rig, RedeliveryRequested(numbers=(0,), bound_for="home", rule="a rule", policy="p"))
        await rig.settled()
        assert rig.home.ledger == []  # nobody asked


async def test_a_next_hop_that_wants_a_login_first_is_down_and_refuses_no_message(database_url: str) -> None:
    async with Rig(database_url) as rig:
        rig.home.fault("mail", "reply", code=530, text="5.7.1 Client was not authenticated", times=None)
        octets = [mail(n) for n in range(3)]
        rig.put(*octets)
        await rig.poll()
        await rig.settled()
        assert states(rig) == ["deferred"] * 3
        assert rig.hops["home"].failures == 1
        rig.home.heal()
        rig.clock.at = max(event.retry_at for event in rig.events(Deferred))
        await rig.settled()
        assert sorted(rig.delivered()) == sorted(octets)


async def test_new_mail_for_a_next_hop_that_is_down_is_not_tried_beside_the_probe(database_url: str) -> None:
    async with Rig(database_url, connections=2) as rig:
        await rig.home.stop()
        rig.put(mail(0))
        await rig.poll()
        await rig.settled()
        rig.clock.at = max(event.retry_at for event in rig.events(Deferred))
        tried = len(rig.events(Attempted))
        rig.put(*(mail(n) for n in range(1, 9)))
        await rig.poll()
        await rig.settled()
        assert len(rig.events(Attempted)) == tried + 1
        assert states(rig) == ["deferred"] + ["received"] * 8


async def test_a_new_process_knows_that_a_next_hop_is_down(database_url: str) -> None:
    async with Rig(database_url) as rig:
        await rig.home.stop()
        rig.put(mail(1))
        await rig.poll()
        await rig.settled()
        tried = len(rig.events(Attempted))
        await rig.restart()
        rig.put(mail(2))
        await rig.poll()
        await rig.settled()
        assert len(rig.events(Attempted)) == tried
        assert states(rig) == ["deferred", "received"]


async def test_a_silent_next_hop_delays_neither_the_mailboxes_nor_another_next_hop(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hop, "GREETING_SECONDS", 0.05)
    homes = {"home": HomePeer(), "branch": HomePeer()}
    boxes = {"info": {}, "desk": {"rule": MailboxRule(recipients=(DESK,))}}
    async with Rig(database_url, mailboxes=boxes, homes=homes, policy=TWO_HOPS) as rig:
        silent = rig.home.fault("banner", "stall", times=None)
        rig.put(*(mail(n) for n in range(20)))
        await rig.poll("info")
        rig.put(mail(99), user="desk")
        await rig.poll("desk")
        await homes["branch"].until(lambda: homes["branch"].ledger)
        assert rig.home.ledger == []
        assert rig.provider.uidls("desk") != []
        silent.times = 0
        silent.release()
        await rig.settled()
        assert len(rig.home.ledger) == 20


async def test_removal_from_the_mailbox_before_the_attempt_is_on_record_only_begins_it_anew(
    database_url: str,
) -> None:
    async with Rig(database_url, works=False) as rig:
        rig.put(mail(1))
        await rig.poll()
        await rig.restart(works=True)
        message = rig.message()
        lease = await claimed(rig)
        removed = RemovedFromSource(mailbox="info", uidl=message.uidl or "", confirmed_by="listing")
        await rig.journal.append(Unit((Append(message.id, message, (removed,), NOON),)))
        rig.worker.lives.come(message.lane)
        rig.worker.take(message, mail(1), 0)
        rig.worker.lives._lives[message.id].lease = lease
        await rig.settled()
        assert states(rig) == ["delivered"]
        assert len(rig.home.ledger) == 1


async def test_nothing_is_handed_over_while_the_store_takes_no_attempt_and_all_of_it_afterwards(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.steps.STORE_RETRY_SECONDS", 0.01)
    async with Rig(database_url) as rig:
        with refusing(rig, "attempted"):
            rig.put(*(mail(n) for n in range(5)))
            await rig.poll()
            await rig.home.until(lambda: any(not session.quit for session in rig.home.sessions))
            await rig.until(lambda: rig.journal_refused > 5)
            assert rig.home.said(".") == []
        await rig.settled()
        assert states(rig) == ["delivered"] * 5
        assert len(rig.home.ledger) == 5


async def test_octets_that_are_not_what_arrived_are_never_handed_over_and_hold_up_nobody(
    database_url: str,
) -> None:
    async with Rig(database_url, works=False) as rig:
        rig.put(mail(1), mail(2))
        await rig.poll()
        with writing(rig.engine) as connection:
            connection.execute(
                update(contents)
                .where(contents.c.position == select(func.min(contents.c.position)).scalar_subquery())
                .values(octets=b"Subject: another\r\n\r\n")
            )
        await rig.restart(works=True)
        await rig.settled()
        assert states(rig) == ["deferred", "delivered"]
        assert rig.delivered() == [mail(2)]
        (event,) = rig.events(Deferred)
        assert (event.tried, event.reply) == (False, "the octets are no longer kept")


async def test_a_fault_of_ours_in_one_message_ends_the_work_on_no_other(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Rig(database_url, connections=1) as rig:
        adapter = rig.hops["home"].adapter
        honest = adapter.hand_over

        async def breaking(transaction: Transaction, before_dot: Any) -> Outcome:
            if transaction.reverse_path == "sender1@elsewhere.example":
                raise ZeroDivisionError("a fault of ours")
            return await honest(transaction, before_dot)

        monkeypatch.setattr(adapter, "hand_over", breaking)
        rig.put(mail(1), mail(2))
        await rig.poll()
        await rig.settled()
        assert states(rig) == ["outcome-unknown", "delivered"]
        assert "a fault of ours" in rig.events(Deferred)[0].reply


@pytest.mark.parametrize("first", [b" white space", b"From a@b.example Sun Mar  1 12:00:00 2026"])
async def test_a_first_line_that_is_no_field_goes_out_octet_by_octet_in_a_field_of_its_own(
    database_url: str, first: bytes
) -> None:
    async with Rig(database_url) as rig:
        octets = first + b"\r\n" + mail(1)
        rig.put(octets)
        await rig.poll()
        await rig.settled()
        (taken,) = rig.home.ledger
        trace, named, rest = taken.octets.partition(b"X-Mailgate-First-Line:")
        assert rest.removeprefix(b" ") == octets.removeprefix(b" ")
        assert taken.octets.endswith(octets)
        assert trace.endswith(b"+0000\r\n")
        assert named


async def test_a_fault_in_telling_what_was_found_puts_off_one_message_and_stops_no_other(
    database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told = tagging.outgoing

    def broken(message: Message, octets: Octets, policy: Policy) -> tagging.Outgoing:
        if message.message_id == "<1@elsewhere.example>":
            raise ValueError("a fault of ours")
        return told(message, octets, policy)

    monkeypatch.setattr(tagging, "outgoing", broken)
    async with Rig(database_url) as rig:
        rig.put(mail(1), mail(2))
        await rig.poll()
        await rig.settled()
        assert rig.delivered() == [mail(2)]
        (event,) = rig.events(Deferred)
        assert (event.tried, event.reply) == (False, "tagging broke: ValueError: a fault of ours")
        assert sorted(states(rig)) == ["deferred", "delivered"]
    assert "tagging broke" in caplog.text
