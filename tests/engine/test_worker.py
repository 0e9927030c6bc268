"""A message's way from the mailbox to the home server, step by step, whatever answers and breaks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update

from engine import hop, worker
from engine import worker as worker_module
from engine.core.listing import Removal
from engine.core.outcome import Outcome, Transaction
from engine.core.routing import MailboxRule, RouteRule
from store import agenda
from store.agenda import Claim, Lease
from store.database import writing
from store.events import (
    Attempted,
    Deferred,
    Delivered,
    Failed,
    Generated,
    Held,
    RejectedOversize,
    RemovedFromSource,
    Reported,
)
from store.log import Append, Unit
from store.schema import contents
from tests.engine.rig import INFO, NOON, POSTMASTER, Rig, mail
from tests.peers.smtpd import HomePeer

SALES = "sales@example.com"
DESK = "desk@branch.example"
TWO = {"info": {"rule": MailboxRule(recipients=(INFO, SALES))}}
TWO_HOPS = {
    "routes": (
        RouteRule(recipients=("*@example.com",), next_hop="home"),
        RouteRule(recipients=("*@branch.example",), next_hop="branch"),
    )
}


def states(rig: Rig) -> list[str]:
    return [message.state for message in rig.messages() if message.direction == "inbound"]


@contextmanager
def refusing(rig: Rig, event: str) -> Iterator[None]:
    """The store takes no event of this name."""
    with writing(rig.engine) as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql(
                f"CREATE TRIGGER refusing BEFORE INSERT ON events WHEN NEW.name = '{event}'"
                " BEGIN SELECT RAISE(ABORT, 'refused for a test'); END"
            )
        else:
            connection.exec_driver_sql(
                f"ALTER TABLE events ADD CONSTRAINT refusing CHECK (name <> '{event}') NOT VALID"
            )
    yield
    with writing(rig.engine) as connection:
        drop = "DROP TRIGGER refusing"
        if connection.dialect.name != "sqlite":
            drop = "ALTER TABLE events DROP CONSTRAINT refusing"
        connection.exec_driver_sql(drop)


# -- the answers


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


async def test_what_is_deferred_is_tried_again_at_its_time_and_not_before(database_url: str) -> None:
    async with Rig(database_url) as rig:
        rig.home.fault("dot", "reply", code=451, text="4.3.0 later")
        rig.put(mail(1))
        await rig.poll()
        await rig.settled()
        (event,) = rig.events(Deferred)
        assert states(rig) == ["deferred"]
        rig.clock.at = event.retry_at - timedelta(microseconds=1)
        await rig.settled()
        assert len(rig.events(Attempted)) == 1
        rig.clock.at = event.retry_at
        await rig.settled()
        assert states(rig) == ["delivered"]
        assert len(rig.home.ledger) == 1


async def test_a_recipient_with_a_positive_reply_is_not_sent_to_again(database_url: str) -> None:
    async with Rig(database_url, mailboxes=TWO) as rig:
        rig.home.fault("rcpt", "reply", matching=SALES, code=450, text="4.2.1 busy")
        rig.put(mail(1))
        await rig.poll()
        await rig.settled()
        rig.clock.later(minutes=6)
        await rig.settled()
        assert [taken.recipients for taken in rig.home.ledger] == [(INFO,), (SALES,)]


async def test_recipients_beyond_the_servers_limit_follow_at_once(database_url: str) -> None:
    people = tuple(f"user{n}@example.com" for n in range(5))
    boxes = {"info": {"rule": MailboxRule(recipients=people)}}
    async with Rig(database_url, mailboxes=boxes, homes={"home": HomePeer(max_recipients=2)}) as rig:
        rig.put(mail(1))
        await rig.poll()
        await rig.settled()
        assert [taken.recipients for taken in rig.home.ledger] == [people[:2], people[2:4], people[4:]]
        assert states(rig) == ["delivered"]


async def test_several_next_hops_for_one_message_each_get_their_recipients(database_url: str) -> None:
    boxes = {"info": {"rule": MailboxRule(recipients=(INFO, DESK, SALES))}}
    homes = {"home": HomePeer(), "branch": HomePeer()}
    async with Rig(database_url, mailboxes=boxes, homes=homes, policy=TWO_HOPS) as rig:
        rig.put(mail(1))
        await rig.poll()
        await rig.settled()
        assert [taken.recipients for taken in rig.home.ledger] == [(INFO, SALES)]
        assert [taken.recipients for taken in homes["branch"].ledger] == [(DESK,)]
        assert states(rig) == ["delivered"]


async def test_an_unroutable_message_is_held_and_goes_once_there_is_a_route(database_url: str) -> None:
    async with Rig(database_url, policy={"routes": (), "domains": ("other.example",)}) as rig:
        rig.put(mail(1))
        await rig.poll()
        await rig.settled()
        assert states(rig) == ["held"]
        (event,) = rig.events(Held)
        assert (event.why, event.rule) == (
            "unroutable",
            "example.com is not an own domain and there are no routes",
        )
        assert rig.home.ledger == []


async def test_a_changed_route_applies_to_what_is_queued(database_url: str) -> None:
    homes = {"home": HomePeer(), "branch": HomePeer()}
    async with Rig(database_url, homes=homes) as rig:
        rig.home.fault("mail", "reply", code=451, times=None)
        rig.put(mail(1))
        await rig.poll()
        await rig.settled()
        rig.clock.later(minutes=6)
        await rig.restart(policy_changes={"routes": (RouteRule(next_hop="branch"),)})
        await rig.settled()
        assert len(homes["branch"].ledger) == 1
        assert states(rig) == ["delivered"]


async def test_after_five_days_a_message_fails_and_the_postmaster_is_told(database_url: str) -> None:
    async with Rig(database_url) as rig:
        rig.home.fault("rcpt", "reply", matching=INFO, code=450, text="4.2.1 busy", times=None)
        rig.put(mail(1))
        await rig.poll()
        await rig.settled()
        rig.clock.later(days=5)
        await rig.settled()
        (event,) = rig.events(Failed)
        assert event.reason == "expired"
        assert len(rig.home.taken_for(POSTMASTER)) == 1


# -- nobody knows


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


async def test_an_unknown_outcome_is_held_where_the_policy_says_so(database_url: str) -> None:
    async with Rig(database_url, on_unknown="hold") as rig:
        rig.home.fault("dot", "commit-drop")
        rig.put(mail(1))
        await rig.poll()
        await rig.settled()
        rig.clock.later(days=30)
        await rig.settled()
        assert len(rig.home.ledger) == 1
        assert states(rig) == ["outcome-unknown"]
        (event,) = rig.events(Held)
        assert event.why == "outcome-unknown"


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


# -- a next hop that is down


async def test_a_next_hop_that_is_down_is_probed_by_one_message_and_gets_all_once_it_is_back(
    database_url: str,
) -> None:
    async with Rig(database_url, connections=1) as rig:
        await rig.home.stop()
        rig.put(*(mail(n) for n in range(10)))
        await rig.poll()
        await rig.settled()
        assert states(rig) == ["deferred"] * 10
        tried = len(rig.events(Attempted))
        probe_at = max(event.retry_at for event in rig.events(Deferred))
        untried = [event for event in rig.events(Deferred) if not event.tried]
        assert len(untried) == 10 - tried > 0
        assert all("down" in event.reply and event.retry_at == probe_at for event in untried)

        rig.clock.at = probe_at
        await rig.settled()
        assert len(rig.events(Attempted)) == tried + 1

        rig.clock.at = max(event.retry_at for event in rig.events(Deferred))
        await rig.home.start(rig.smtp_ports["home"])
        await rig.settled()
        assert states(rig) == ["delivered"] * 10
        assert len(rig.home.ledger) == 10


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


async def test_a_slow_next_hop_fills_only_its_share_of_what_is_worked_on(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "LIVES_LIMIT", 30)
    homes = {"home": HomePeer(), "branch": HomePeer()}
    boxes = {"info": {}, "desk": {"rule": MailboxRule(recipients=(DESK,))}}
    async with Rig(database_url, mailboxes=boxes, homes=homes, policy=TWO_HOPS, connections=1) as rig:
        slow = rig.home.fault("dot", "late", times=None)
        rig.put(*(mail(n) for n in range(60)))
        await rig.poll("info")
        rig.put(mail(99), user="desk")
        await rig.poll("desk")
        await homes["branch"].until(lambda: homes["branch"].ledger)
        slow.times = 0
        slow.release()
        await rig.settled()
        assert len(rig.home.ledger) == 60


async def test_a_dead_next_hop_does_not_delay_the_message_s_recipients_of_another(database_url: str) -> None:
    boxes = {"info": {"rule": MailboxRule(recipients=(INFO, DESK))}}
    homes = {"home": HomePeer(), "branch": HomePeer()}
    async with Rig(database_url, mailboxes=boxes, homes=homes, policy=TWO_HOPS) as rig:
        await rig.home.stop()
        rig.put(mail(1))
        await rig.poll()
        await rig.settled()
        assert [taken.recipients for taken in homes["branch"].ledger] == [(DESK,)]


# -- notices


async def test_the_postmaster_is_told_once_of_what_failed(database_url: str) -> None:
    async with Rig(database_url, mailboxes=TWO) as rig:
        rig.home.fault("rcpt", "reply", matching=INFO, code=550, text="5.1.1 no such user", times=None)
        rig.home.fault("rcpt", "reply", matching=SALES, code=550, text="5.2.1 disabled", times=None)
        rig.put(mail(1))
        await rig.poll()
        await rig.settled()
        (notice,) = rig.home.taken_for(POSTMASTER)
        assert notice.reverse_path == ""
        assert b"5.1.1 no such user" in notice.octets
        assert b"5.2.1 disabled" in notice.octets
        (told,) = rig.events(Reported)
        (about,) = [m for m in rig.messages() if m.direction == "internal"]
        assert told.report == about.id
        assert about.about == rig.message().id


async def test_a_notice_that_fails_makes_no_notice(database_url: str) -> None:
    async with Rig(database_url) as rig:
        rig.home.fault("rcpt", "reply", code=550, text="5.1.1 nobody is here", times=None)
        rig.put(mail(1))
        await rig.poll()
        await rig.settled()
        assert [message.state for message in rig.messages()] == ["failed", "failed"]
        assert len(rig.events(Generated)) == 1


async def test_a_message_the_next_hop_calls_too_large_is_rejected_oversize_and_teaches_its_limit(
    database_url: str,
) -> None:
    async with Rig(database_url, homes={"home": HomePeer(hidden_limit_octets=5_000)}) as rig:
        rig.put(mail(1, 20_000), mail(2))
        await rig.poll()
        await rig.settled()
        assert states(rig) == ["rejected-oversize", "delivered"]
        (event,) = rig.events(RejectedOversize)
        assert event.limit_octets == len(mail(1, 20_000)) - 1
        assert len(rig.home.taken_for(POSTMASTER)) == 1
        rig.put(mail(3, 20_000))
        await rig.poll()
        await rig.settled()
        assert len(rig.provider.retrievals()) == 2
        assert states(rig) == ["rejected-oversize", "delivered", "rejected-oversize"]
        await rig.restart()
        assert await rig.hops["home"].limit_octets() == event.limit_octets


# -- others append to the same message


async def test_removal_from_the_mailbox_beside_an_attempt_makes_no_second_copy(database_url: str) -> None:
    boxes = {"info": {"removal": Removal(when="downloaded")}}
    async with Rig(database_url, mailboxes=boxes) as rig:
        late = rig.home.fault("dot", "late")
        rig.put(mail(1))
        await rig.poll()
        await rig.home.until(lambda: rig.home.ledger)
        assert rig.provider.uidls("info") == []
        assert len(rig.events(RemovedFromSource)) == 1
        assert await rig.worker._claim_due() is False
        late.release()
        await rig.settled()
        assert len(rig.home.ledger) == 1
        assert states(rig) == ["delivered"]


async def test_removal_from_the_mailbox_beside_an_attempt_loses_no_deferral(database_url: str) -> None:
    boxes = {"info": {"removal": Removal(when="downloaded")}}
    async with Rig(database_url, mailboxes=boxes) as rig:
        silent = rig.home.fault("data", "stall")
        rig.home.fault("dot", "reply", code=451, text="4.3.0 later")
        rig.put(mail(1))
        await rig.poll()
        await rig.home.until(lambda: silent.fired)
        assert len(rig.events(RemovedFromSource)) == 1
        silent.release()
        await rig.settled()
        (event,) = rig.events(Deferred)
        assert (event.code, event.unknown) == (451, False)
        rig.clock.at = event.retry_at
        await rig.settled()
        assert states(rig) == ["delivered"]
        assert len(rig.home.ledger) == 1


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
        rig.worker.take(message, mail(1), 0)
        rig.worker._lives[message.id].lease = lease
        await rig.settled()
        assert states(rig) == ["delivered"]
        assert len(rig.home.ledger) == 1


async def claimed(rig: Rig, holder: str | None = None) -> Lease:
    """A lease on the only message, in the name of the worker or of somebody else."""
    claim = Claim(holder or rig.holder, rig.clock() + agenda.LEASE_TERM)
    name, now = rig.message().id, rig.clock()
    lease = await rig.journal.call(lambda c: agenda.claim_stream(c, name, agenda.FRESH, claim, now))
    assert lease is not None
    return lease


async def test_a_positive_answer_is_kept_though_the_lease_is_lost(database_url: str) -> None:
    async with Rig(database_url) as rig:
        late = rig.home.fault("dot", "late")
        rig.put(mail(1))
        await rig.poll()
        await rig.home.until(lambda: rig.home.ledger)
        rig.clock.later(seconds=61)
        await claimed(rig, "somebody else")
        late.release()
        await rig.settled()
        assert states(rig) == ["delivered"]
        assert len(rig.events(Delivered)) == 1


async def test_a_refusal_is_left_to_whoever_took_the_lease(database_url: str) -> None:
    async with Rig(database_url) as rig:
        silent = rig.home.fault("data", "stall")
        rig.home.fault("dot", "reply", code=550, text="5.7.1 no")
        rig.put(mail(1))
        await rig.poll()
        await rig.home.until(lambda: silent.fired)
        rig.clock.later(seconds=61)
        await claimed(rig, "somebody else")
        silent.release()
        await rig.settled()
        assert states(rig) == ["outcome-unknown"]
        assert rig.agenda(rig.message().id)["holder"] == "somebody else"


# -- the store fails


async def test_nothing_is_handed_over_while_the_store_takes_no_attempt_and_all_of_it_afterwards(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "STORE_RETRY_SECONDS", 0.01)
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


async def test_a_positive_answer_waits_until_the_store_takes_it(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "STORE_RETRY_SECONDS", 0.01)
    async with Rig(database_url) as rig:
        with refusing(rig, "delivered"):
            rig.put(mail(1))
            await rig.poll()
            await rig.until(lambda: rig.journal_refused > 2)
            assert len(rig.home.ledger) == 1
            assert states(rig) == ["outcome-unknown"]
        await rig.settled()
        assert states(rig) == ["delivered"]
        assert len(rig.home.ledger) == 1


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


async def test_an_empty_message_is_delivered_like_any_other(database_url: str) -> None:
    async with Rig(database_url) as rig:
        rig.put(b"", mail(1))
        await rig.poll()
        await rig.settled()
        assert states(rig) == ["delivered", "delivered"]


# -- how much it takes on, and how it stops


async def test_draining_ends_what_is_under_way_and_gives_back_the_rest(database_url: str) -> None:
    async with Rig(database_url, connections=1) as rig:
        late = rig.home.fault("dot", "late")
        rig.put(*(mail(n) for n in range(10)))
        await rig.poll()
        await rig.home.until(lambda: rig.home.ledger)
        draining = asyncio.create_task(rig.worker.drain(30))
        await asyncio.sleep(0)
        late.release()
        await draining
        assert rig.home.ledger != []
        assert "delivered" in states(rig)
        assert rig.read_now(agenda.holders) == []
        assert "outcome-unknown" not in states(rig)
        await rig.restart()
        await rig.settled()
        assert states(rig) == ["delivered"] * 10
        assert len(rig.home.ledger) == 10


async def test_there_is_room_while_half_of_the_budget_is_free_and_nothing_is_drained(sqlite_url: str) -> None:
    async with Rig(sqlite_url, budget_octets=1_000) as rig:
        assert rig.worker.room("home")
        rig.worker.leave("home")
        share = await rig.budget.take(500)
        assert rig.worker.room("home")
        rig.worker.leave("home")
        more = await rig.budget.take(1)
        assert not rig.worker.room("home")
        rig.budget.give_back(more)
        assert rig.worker.room("home")
        rig.worker.leave("home")
        rig.budget.give_back(share)
        await rig.worker.drain(0)
        assert not rig.worker.room("home")


async def test_mail_without_room_in_memory_is_read_back_from_the_store(database_url: str) -> None:
    octets = [mail(n, 2_000) for n in range(8)]
    async with Rig(database_url, budget_octets=5_000) as rig:
        rig.put(*octets)
        await rig.poll()
        await rig.settled()
        assert sorted(rig.delivered()) == sorted(octets)


async def test_what_another_process_left_is_claimed_and_delivered(database_url: str) -> None:
    async with Rig(database_url, works=False) as rig:
        rig.put(*(mail(n) for n in range(5)))
        await rig.poll()
        assert states(rig) == ["received"] * 5
        await rig.restart(works=True)
        await rig.settled()
        assert states(rig) == ["delivered"] * 5


async def test_a_message_that_somebody_else_holds_is_left_alone_until_the_lease_runs_out(
    database_url: str,
) -> None:
    async with Rig(database_url, works=False) as rig:
        rig.put(mail(1))
        await rig.poll()
        await rig.restart(works=True)
        await claimed(rig, "somebody else")
        await rig.settled()
        assert rig.home.ledger == []
        rig.clock.later(seconds=60)
        await rig.settled()
        assert len(rig.home.ledger) == 1


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
