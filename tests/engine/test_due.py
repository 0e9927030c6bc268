"""What is claimed from the agenda, and what is left to others."""

from __future__ import annotations

from engine.core.routing import MailboxRule
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


async def test_a_dead_next_hop_does_not_delay_the_message_s_recipients_of_another(database_url: str) -> None:
    boxes = {"info": {"rule": MailboxRule(recipients=(INFO, DESK))}}
    homes = {"home": HomePeer(), "branch": HomePeer()}
    async with Rig(database_url, mailboxes=boxes, homes=homes, policy=TWO_HOPS) as rig:
        await rig.home.stop()
        rig.put(mail(1))
        await rig.poll()
        await rig.settled()
        assert [taken.recipients for taken in homes["branch"].ledger] == [(DESK,)]
