"""What came of a step goes on record, whoever else appends to the message and whatever the store says."""

from __future__ import annotations

import pytest

from engine import settler
from engine.core.listing import Removal
from store import agenda
from store.agenda import Claim
from store.events import (
    Deferred,
    Delivered,
    Discarded,
    Failed,
    Held,
    RedeliveryRequested,
    Relayed,
    RemovedFromSource,
    Reported,
)
from store.log import Append, Unit
from tests.engine.rig import INFO, Rig, mail
from tests.engine.situations import claimed, outgoing, refusing, states, submit


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


async def test_a_recipient_more_beside_an_attempt_loses_no_deferral(database_url: str) -> None:
    async with Rig(database_url) as rig:
        silent = rig.home.fault("data", "stall")
        rig.home.fault("dot", "reply", code=451, text="4.3.0 later")
        rig.put(mail(1))
        await rig.poll()
        await rig.home.until(lambda: silent.fired)
        before = rig.message()
        more = RedeliveryRequested(added=1, operator="anna", policy="p", recipients=("more@example.com",))
        await rig.journal.append(Unit((Append(before.id, before, (more,), rig.clock()),)))
        silent.release()
        await rig.settled()
        assert [event.code for event in rig.events(Deferred)] == [451]
        rig.clock.later(hours=1)
        await rig.settled()
        assert [r.state for r in rig.message().recipients] == ["delivered", "delivered"]


@pytest.mark.parametrize(
    ("decided", "state"),
    [
        (Discarded(numbers=(0,), operator="anna", policy="p"), "discarded"),
        (Held(numbers=(0,), why="operator", rule="", operator="anna", policy="p"), "outcome-unknown"),
    ],
    ids=["discarded", "held"],
)
async def test_what_a_person_decided_beside_an_attempt_is_not_undone_by_its_deferral(
    decided: Discarded | Held, state: str, database_url: str
) -> None:
    async with Rig(database_url) as rig:
        silent = rig.home.fault("data", "stall")
        rig.home.fault("dot", "reply", code=451, text="4.3.0 later")
        rig.put(mail(1))
        await rig.poll()
        await rig.home.until(lambda: silent.fired)
        before = rig.message()
        await rig.journal.append(Unit((Append(before.id, before, (decided,), rig.clock()),)))
        silent.release()
        await rig.settled()
        rig.clock.later(hours=1)
        await rig.settled()
        assert rig.events(Deferred) == []
        assert states(rig) == [state]
        assert rig.home.ledger == []


async def test_what_a_person_ordered_beside_an_attempt_is_done_though_that_was_refused(
    database_url: str,
) -> None:
    async with Rig(database_url) as rig:
        silent = rig.home.fault("data", "stall")
        rig.home.fault("dot", "reply", code=550, text="5.7.1 no", times=1)
        rig.put(mail(1))
        await rig.poll()
        await rig.home.until(lambda: silent.fired)
        before = rig.message()
        again = RedeliveryRequested(numbers=(0,), operator="anna", policy="p")
        await rig.journal.append(Unit((Append(before.id, before, (again,), rig.clock()),)))
        silent.release()
        await rig.settled()
        assert rig.events(Failed) == []
        assert states(rig) == ["delivered"]


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


async def test_with_a_positive_answer_kept_so_goes_the_report_that_was_asked_for(database_url: str) -> None:
    async with outgoing(database_url) as rig:
        late = rig.homes["smart"].fault("dot", "late")
        stream = await submit(rig, "bob@customer.example", notify=("SUCCESS",))
        await rig.homes["smart"].until(lambda: rig.homes["smart"].ledger)
        rig.clock.later(seconds=61)
        claim = Claim("somebody else", rig.clock() + agenda.LEASE_TERM)
        assert await rig.journal.call(
            lambda c: agenda.claim_stream(c, stream, agenda.FRESH, claim, rig.clock())
        )
        late.release()
        await rig.settled()
        assert len(rig.events(Relayed, stream)) == 1
        assert [event.kind for event in rig.events(Reported, stream)] == ["success"]
        (report,) = rig.home.taken_for(INFO)
        assert b"Action: relayed" in report.octets


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


async def test_a_positive_answer_waits_until_the_store_takes_it(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settler, "STORE_RETRY_SECONDS", 0.01)
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
