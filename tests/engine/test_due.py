"""What is claimed from the agenda, and what is left to others."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest

from engine.core.replaying import Request
from engine.core.routing import MailboxRule, RouteRule
from engine.replay import Replay
from store import agenda
from store.events import Attempted, Deferred
from tests.engine.rig import INFO, Rig, mail
from tests.engine.situations import DESK, TWO_HOPS, claimed, states
from tests.peers.smtpd import HomePeer


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


async def test_what_we_are_just_handing_over_is_not_taken_up_again_when_its_lease_ran_out(
    database_url: str,
) -> None:
    async with Rig(database_url) as rig:
        late = rig.home.fault("dot", "late")
        rig.put(mail(1))
        await rig.poll()
        await rig.until(lambda: late.stalled)
        rig.clock.later(seconds=90)  # as after an outage of the store, or a step of the clock
        assert not await rig.worker._claim_due()
        assert rig.agenda(rig.message().id)["lease_until"] == rig.clock() + agenda.LEASE_TERM
        late.release()
        await rig.settled()
        assert len(rig.home.ledger) == 1
        assert states(rig) == ["delivered"]


async def test_what_we_are_just_handing_over_is_renewed(database_url: str) -> None:
    async with Rig(database_url) as rig:
        late = rig.home.fault("dot", "late")
        rig.put(mail(1))
        await rig.poll()
        await rig.until(lambda: late.stalled)
        rig.clock.later(seconds=20)
        await rig.leases.renew()
        assert rig.agenda(rig.message().id)["lease_until"] == rig.clock() + agenda.LEASE_TERM
        late.release()
        await rig.settled()


async def test_a_claim_that_took_effect_unheard_runs_out_and_the_message_goes_on(database_url: str) -> None:
    async with Rig(database_url, works=False) as rig:
        rig.put(mail(1))
        await rig.poll()
        await rig.restart(works=True)
        await claimed(rig)  # as by a commit of which the answer was lost
        rig.clock.later(seconds=45)
        await rig.leases.renew()
        rig.clock.later(seconds=15)
        await rig.settled()
        assert states(rig) == ["delivered"]


async def test_a_dead_next_hop_does_not_delay_the_message_s_recipients_of_another(database_url: str) -> None:
    boxes = {"info": {"rule": MailboxRule(recipients=(INFO, DESK))}}
    homes = {"home": HomePeer(), "branch": HomePeer()}
    async with Rig(database_url, mailboxes=boxes, homes=homes, policy=TWO_HOPS) as rig:
        await rig.home.stop()
        rig.put(mail(1))
        await rig.poll()
        await rig.settled()
        assert [taken.recipients for taken in homes["branch"].ledger] == [(DESK,)]


async def test_a_next_hop_that_is_busy_is_not_waited_for_by_the_message_s_recipients_of_another(
    database_url: str,
) -> None:
    boxes = {"info": {}, "both": {"rule": MailboxRule(recipients=(INFO, DESK))}}
    homes = {"home": HomePeer(), "branch": HomePeer()}
    async with Rig(database_url, mailboxes=boxes, homes=homes, policy=TWO_HOPS, connections=1) as rig:
        slow = rig.home.fault("dot", "stall")
        rig.put(mail(1))
        await rig.poll()
        await rig.home.until(lambda: rig.home.said("."))
        rig.put(mail(2), user="both")
        await rig.poll("both")
        await homes["branch"].until(lambda: homes["branch"].ledger)
        assert rig.home.ledger == []
        slow.release()
        await rig.settled()
        assert [taken.recipients for taken in homes["branch"].ledger] == [(DESK,)]
        assert rig.home.taken_for(INFO) != []


async def test_a_retry_is_not_kept_back_by_another_next_hop_that_rests(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.attempts.random.random", lambda: 0.5)  # both are due at the same time
    boxes = {"info": {"rule": MailboxRule(recipients=(INFO, DESK))}}
    homes = {"home": HomePeer(), "branch": HomePeer()}
    async with Rig(database_url, mailboxes=boxes, homes=homes, policy=TWO_HOPS) as rig:
        await rig.home.stop()
        homes["branch"].fault("rcpt", "reply", code=450, text="4.2.1 busy")
        rig.put(mail(1))
        await rig.poll()
        await rig.settled()
        rig.clock.at = max(event.retry_at for event in rig.events(Deferred))
        # Another message has found the first next hop down since.
        rig.hops["home"].probe_at = rig.clock.at + timedelta(hours=1)
        await rig.settled()
        assert [taken.recipients for taken in homes["branch"].ledger] == [(DESK,)]
        assert len(rig.events(Deferred)) == 2


async def test_while_another_message_probes_a_next_hop_nobody_comes_again_and_again(
    database_url: str,
) -> None:
    boxes = {"info": {"rule": MailboxRule(recipients=(INFO, DESK))}}
    homes = {"home": HomePeer(), "branch": HomePeer()}
    async with Rig(database_url, mailboxes=boxes, homes=homes, policy=TWO_HOPS) as rig:
        for name in homes:
            hop = rig.hops[name]
            hop.failures, hop.probe_at, hop.probing = 1, rig.clock.at, True
        rig.put(mail(1))
        await rig.poll()
        await rig.settled()
        assert rig.events(Attempted) == []
        assert [event.tried for event in rig.events(Deferred)] == [False, False]
        for name in homes:
            rig.hops[name].probing = False
        rig.clock.later(minutes=1)
        await rig.settled()
        assert [len(home.ledger) for home in homes.values()] == [1, 1]


def replayed(rig: Rig, streams: Sequence[str], **asked: object) -> None:
    """A person has them delivered again, in another process."""
    request = Request(replay="again", operator="anna", **asked)  # type: ignore[arg-type]
    replay = Replay(rig.engine, request, policy=rig.policy, gateway_runs=lambda: True, now=rig.clock)
    assert len(list(replay.carry_out(streams))) == len(streams)


@pytest.mark.parametrize("rerouted", [False, True])
async def test_what_is_replayed_to_another_next_hop_does_not_wait_for_the_dead_one(
    database_url: str, rerouted: bool
) -> None:
    """By the name of the other, or by the routes as they are now."""
    homes = {"home": HomePeer(), "branch": HomePeer()}
    async with Rig(database_url, homes=homes) as rig:
        await rig.home.stop()
        rig.put(*(mail(n) for n in range(3)))
        await rig.poll()
        await rig.settled()
        assert rig.hops["home"].gate() == "closed"
        if rerouted:
            await rig.restart(policy_changes={"routes": (RouteRule(recipients=("*",), next_hop="branch"),)})
        rig.clock.later(seconds=1)  # not the time to probe it yet
        replayed(rig, [m.id for m in rig.messages()], **({} if rerouted else {"next_hop": "branch"}))
        await rig.settled()
        assert states(rig) == ["delivered"] * 3
        assert len(homes["branch"].taken_for(INFO)) == 3


async def test_of_many_that_are_replayed_to_a_dead_next_hop_one_tries_it(database_url: str) -> None:
    async with Rig(database_url) as rig:
        await rig.home.stop()
        rig.put(*(mail(n) for n in range(30)))
        await rig.poll()
        await rig.settled()
        tried = len(rig.events(Attempted))
        rig.clock.later(seconds=1)
        replayed(rig, [m.id for m in rig.messages()])
        await rig.settled()
        assert len(rig.events(Attempted)) == tried + 1  # a person wants it now
        rig.clock.later(minutes=6)
        await rig.settled()
        assert len(rig.events(Attempted)) == tried + 2
