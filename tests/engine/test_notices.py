"""Who is told of what, and that nobody is told twice."""

from __future__ import annotations

from typing import Any

import pytest

from engine import notices
from engine.core.listing import Removal
from engine.daily import Daily
from engine.telling import Teller
from engine.watched import Watched
from store.events import Generated, MessageEvent, Quarantined, RedeliveryRequested, RejectedOversize, Reported
from store.life import Message, evolve
from store.log import Append, Unit
from tests.engine.core.lives import BRANCH, NOON, VERSION, downloaded, policy, submitted
from tests.engine.rig import INFO, POSTMASTER, Rig, mail
from tests.engine.situations import SALES, TWO, box, states
from tests.peers.smtpd import HomePeer


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


async def test_of_refused_reports_to_forged_senders_only_the_daily_report_tells(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Rig(database_url) as rig:
        rig.home.fault("rcpt", "reply", matching=INFO, code=550, text="5.1.1 no such user", times=None)
        rig.put(*(b"Return-Path: <>\r\nFrom: postmaster@shop.example\r\n\r\n%d\r\n" % n for n in range(20)))
        await rig.poll()
        await rig.settled()
        assert [message.state for message in rig.messages()] == ["failed"] * 20
        assert rig.events(Generated) == []
        assert sum("failed, and nobody is told: it has the null" in line for line in caplog.messages) == 20
        rig.clock.later(days=1)
        means = rig.means()
        watched = Watched(mailboxes=(), hops=(), shortage=lambda: None)
        daily = Daily(means, watched, teller=Teller(means, rig.worker.wake), at_seconds=7 * 3600)
        assert await daily.send()
        await rig.settled()
        (report,) = rig.home.taken_for(POSTMASTER)
        assert b"20 messages failed for good" in report.octets


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
    async with Rig(database_url, homes={"home": HomePeer(hidden_limit_octets=100_000)}) as rig:
        rig.put(mail(1, 200_000), mail(2))
        await rig.poll()
        await rig.settled()
        assert states(rig) == ["rejected-oversize", "delivered"]
        (event,) = rig.events(RejectedOversize)
        assert event.limit_octets == len(mail(1, 200_000)) - 1
        assert len(rig.home.taken_for(POSTMASTER)) == 0
        (told,) = [taken for taken in rig.home.taken_for(INFO) if not taken.reverse_path]
        assert b"kept in the store here" in told.octets
        rig.put(mail(3, 200_000))
        await rig.poll()
        await rig.settled()
        assert len(rig.provider.retrievals()) == 2
        assert states(rig) == ["rejected-oversize", "delivered", "rejected-oversize"]
        await rig.restart()
        assert await rig.hops["home"].limit_octets() == event.limit_octets


async def test_what_is_refused_for_its_size_teaches_also_while_another_recipient_is_open(
    database_url: str,
) -> None:
    home = HomePeer(hidden_limit_octets=100_000)
    async with Rig(database_url, homes={"home": home}, mailboxes=TWO) as rig:
        home.fault("rcpt", "reply", matching=INFO, code=450, text="4.2.1 busy", times=1)
        rig.put(mail(1, 200_000))
        await rig.poll()
        await rig.settled()
        assert states(rig) == ["deferred"]
        assert [r.state for r in rig.message().recipients] == ["deferred", "rejected-oversize"]
        (notice,) = home.ledger
        assert notice.recipients == (SALES,)
        rig.put(mail(2, 250_000))
        await rig.poll()
        assert len(rig.provider.retrievals()) == 1
        rig.clock.later(minutes=6)
        await rig.settled()
        assert states(rig) == ["rejected-oversize", "rejected-oversize"]
        about = [n.about for n in rig.messages() if n.direction == "internal"]
        assert about.count(rig.messages()[0].id) == 2  # each is told of it once


@pytest.mark.parametrize("oversize", ["notify", "keep", "remove"])
async def test_the_mailbox_says_who_is_told_of_what_was_refused_for_its_size(
    database_url: str, oversize: str
) -> None:
    boxes = box(removal=Removal(when="delivered", oversize=oversize == "remove"))
    untold = frozenset({"info"} if oversize == "keep" else ())
    async with Rig(database_url, mailboxes=boxes, policy={"oversize_untold": untold}) as rig:
        home = rig.home
        (uidl,) = rig.put(mail(1, 200_000))
        home.fault("dot", "reply", code=552, text="5.3.4 too large", times=1)
        home.fault("dot", "reply", code=451, times=1)
        await rig.through()
        assert states(rig) == ["rejected-oversize"]
        await rig.poll()
        assert rig.provider.uidls("info") == [uidl]  # the notice has not gone yet
        rig.clock.later(minutes=6)
        await rig.through()
        assert [taken.recipients for taken in home.ledger] == ([] if oversize == "keep" else [(INFO,)])
        assert rig.provider.uidls("info") == ([] if oversize == "remove" else [uidl])
        (message,) = [one for one in rig.messages() if one.direction == "inbound"]
        home.heal()
        home.fault("dot", "reply", code=552, text="5.3.4 too large", times=1)
        again = RedeliveryRequested(numbers=(0,), operator="anna", policy="p")
        await rig.journal.append(Unit((Append(message.id, message, (again,), rig.clock()),)))
        rig.worker.wake()
        await rig.settled()
        assert len(rig.events(RejectedOversize)) == 2
        assert len(home.ledger) == (oversize != "keep")  # nobody is told twice


async def test_what_every_server_takes_teaches_no_limit_when_it_is_refused(database_url: str) -> None:
    async with Rig(database_url) as rig:
        rig.home.fault("dot", "reply", code=552, text="5.3.4 too large", times=1)
        rig.put(mail(1, 400))
        await rig.poll()
        await rig.settled()
        rig.put(mail(2, 3_000))
        await rig.poll()
        await rig.settled()
        assert states(rig) == ["rejected-oversize", "delivered"]
        assert rig.hops["home"].learnt_octets is None
        await rig.restart()
        assert rig.hops["home"].learnt_octets is None


async def test_a_full_mailbox_is_no_limit_of_size(database_url: str) -> None:
    async with Rig(database_url) as rig:
        full = "Requested mail action aborted: exceeded storage allocation"
        rig.home.fault("dot", "reply", code=552, text=full, times=1)
        rig.put(mail(1, 100_000))
        await rig.poll()
        await rig.settled()
        rig.put(mail(2, 200_000))
        await rig.poll()
        await rig.settled()
        assert states(rig) == ["failed", "delivered"]


def told(after: Message, *events: MessageEvent, **changes: Any) -> list[tuple[str, tuple[int, ...]]]:
    """Whom these events call to be told, with the recipients' numbers on record."""
    found = notices.called_for(after, events, policy(**{"notify_recipients": True} | changes), NOON)
    return [(opened.events[0].recipients[0], reported.numbers) for opened, reported in found]


def kept(*numbers: int, reason: Any = "infected") -> Quarantined:
    return Quarantined(reason=reason, rule="clamd found Eicar", numbers=numbers, policy=VERSION)


def test_each_recipient_is_told_of_what_was_kept_as_infected_where_that_is_wanted() -> None:
    for reason in ("infected", "attachment"):
        event = kept(0, 2, reason=reason)
        after = evolve(downloaded(INFO, SALES, BRANCH), "message-1", event, NOON)
        assert told(after, event) == [(INFO, (0,)), (BRANCH, (2,))]
        assert told(after, event, notify_recipients=False) == []


def test_nobody_is_told_twice_nor_of_spam_nor_of_mail_that_goes_out() -> None:
    event = kept(0)
    after = evolve(downloaded(INFO), "message-1", event, NOON)
    again = evolve(after, after.id, Reported(kind="infected", report="n1", numbers=(0,)), NOON)
    assert told(again, event) == []
    spam = kept(0, reason="spam")
    assert told(evolve(downloaded(INFO), "message-1", spam, NOON), spam) == []
    outgoing = submitted(SALES, direction="outbound")
    assert told(evolve(outgoing, outgoing.id, event, NOON), event) == []
