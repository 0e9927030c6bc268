"""What is too large to be retrieved, who says so, and who is told."""

from __future__ import annotations

from typing import Any

import pytest

from engine.core.listing import Removal
from engine.core.policy import HopPolicy
from engine.core.routing import MailboxRule, RouteRule
from engine.limit import Limit, largest
from store.events import RedeliveryRequested, RejectedOversize, Reported
from store.log import Append, Unit
from tests.engine.rig import INFO, POSTMASTER, Rig, mail
from tests.engine.situations import MULTIDROP, SALES, box, nameless, states, submit
from tests.peers.pop3d import Pop3Peer
from tests.peers.smtpd import HomePeer


async def test_what_is_too_large_is_not_retrieved_and_each_recipient_is_told_once(database_url: str) -> None:
    boxes = box(rule=MailboxRule(recipients=(INFO, SALES)), max_size_octets=2_000)
    async with Rig(database_url, mailboxes=boxes) as rig:
        (uidl, _) = rig.put(mail(1, 5_000), mail(2))
        for _ in range(3):
            await rig.poll()
            await rig.settled()
        assert uidl not in rig.provider.retrievals()
        assert len(rig.provider.said("TOP")) == 1
        (event,) = rig.events(RejectedOversize)
        assert (event.size_octets, event.limit_octets, event.limit_from) == (
            len(mail(1, 5_000)),
            2_000,
            "config",
        )
        assert (event.subject, event.recipients) == ("number 1", (INFO, SALES))
        assert (event.from_, event.message_id) == (
            "Sender 1 <sender1@elsewhere.example>",
            "<1@elsewhere.example>",
        )
        assert event.reverse_path == "sender1@elsewhere.example"
        notices = [taken for taken in rig.home.ledger if taken.reverse_path == ""]
        assert sorted(taken.recipients for taken in notices) == [(INFO,), (SALES,)]
        assert all(b"too large" in taken.octets for taken in notices)
        assert rig.provider.uidls("info") == [uidl]
        assert [event.kind for event in rig.events(Reported)] == ["oversize", "oversize"]


async def test_oversize_keep_says_nothing_and_removes_nothing(database_url: str) -> None:
    boxes = box(notify_oversize=False, max_size_octets=2_000)
    async with Rig(database_url, mailboxes=boxes) as rig:
        (uidl,) = rig.put(mail(1, 5_000))
        await rig.through()
        assert rig.home.ledger == []
        assert rig.provider.uidls("info") == [uidl]
        assert len(rig.events(RejectedOversize)) == 1


async def test_oversize_remove_deletes_it_once_its_recipient_is_told(database_url: str) -> None:
    boxes = box(removal=Removal(when="delivered", oversize=True), max_size_octets=2_000)
    async with Rig(database_url, mailboxes=boxes) as rig:
        rig.put(mail(1, 5_000))
        await rig.through()
        assert rig.provider.uidls("info") == []
        assert len(rig.home.taken_for(INFO)) == 1
        assert rig.provider.said("RETR") == []


async def test_what_is_too_large_stays_in_its_mailbox_where_a_notice_about_it_failed(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    rule = MailboxRule(recipients=(INFO, SALES))
    boxes = box(rule=rule, removal=Removal(when="delivered", oversize=True), max_size_octets=2_000)
    async with Rig(database_url, mailboxes=boxes) as rig:
        refused = rig.home.fault("rcpt", "reply", matching=SALES, code=550, times=None)
        (uidl,) = rig.put(mail(1, 5_000))
        await rig.through()
        assert len(rig.home.taken_for(INFO)) == 1
        assert rig.provider.uidls("info") == [uidl]
        assert rig.provider.said("DELE") == []
        about = rig.message().id
        assert [f"it was to tell of {about}" in line for line in caplog.messages].count(True) == 1
        refused.times = 0
        (notice,) = (one for one in rig.messages() if one.state == "failed")
        again = RedeliveryRequested(numbers=(0,), operator="anna", policy="p", reason="they are here again")
        await rig.journal.append(Unit((Append(notice.id, notice, (again,), rig.clock()),)))
        rig.worker.wake()
        await rig.settled()
        await rig.poll()
        assert rig.provider.uidls("info") == []


async def test_what_is_too_large_stays_in_its_mailbox_until_its_notice_has_gone(database_url: str) -> None:
    boxes = box(removal=Removal(when="delivered", oversize=True), max_size_octets=2_000)
    async with Rig(database_url, mailboxes=boxes) as rig:
        rig.home.fault("dot", "reply", code=451, times=1)
        (uidl,) = rig.put(mail(1, 5_000))
        await rig.through()
        assert rig.provider.uidls("info") == [uidl]
        rig.clock.later(minutes=6)
        await rig.settled()
        await rig.poll()
        assert rig.provider.uidls("info") == []


async def test_what_is_asked_for_again_and_too_large_still_is_deleted_by_the_one_notice_about_it(
    database_url: str,
) -> None:
    boxes = box(removal=Removal(when="delivered", oversize=True), max_size_octets=2_000)
    async with Rig(database_url, mailboxes=boxes) as rig:
        rig.home.fault("dot", "reply", code=451, times=1)
        (uidl,) = rig.put(mail(1, 5_000))
        await rig.through()
        message = rig.messages()[0]
        again = RedeliveryRequested(operator="anna", policy="p", replay="r1")
        await rig.journal.append(Unit((Append(message.id, message, (again,), rig.clock()),)))
        await rig.through()
        assert rig.provider.uidls("info") == [uidl]
        first, second = rig.events(Reported)
        assert first.report == second.report
        rig.clock.later(minutes=6)
        await rig.settled()
        await rig.poll()
        assert rig.provider.uidls("info") == []
        assert len(rig.home.taken_for(INFO)) == 1


async def test_another_message_of_the_same_uidl_and_size_is_told_of(database_url: str) -> None:
    async with Rig(database_url, mailboxes=box(max_size_octets=2_000)) as rig:
        rig.put(mail(1, 5_000), uidl="1")
        await rig.through()
        rig.provider.mailboxes["info"].messages.clear()
        await rig.poll()
        rig.put(mail(2, 5_000), uidl="1")
        await rig.through()
        assert len(rig.home.taken_for(INFO)) == 2


@pytest.mark.parametrize("action", ["drop-undone", "drop-committed"])
async def test_after_a_quit_without_an_answer_the_header_tells_whether_what_is_too_large_was_told_of(
    database_url: str, action: str
) -> None:
    boxes = box(removal=Removal(when="delivered", oversize=True), max_size_octets=2_000)
    async with Rig(database_url, mailboxes=boxes) as rig:
        rig.put(mail(1, 5_000), uidl="1")
        rig.provider.fault("quit", action, times=None)
        await rig.through()
        rig.provider.heal()
        if action == "drop-committed":
            rig.put(mail(2, 5_000), uidl="1")
        assert await rig.poll()
        await rig.settled()
        await rig.poll()
        told = len(rig.events(RejectedOversize))
        assert told == len(rig.home.taken_for(INFO)) == (2 if action == "drop-committed" else 1)
        assert rig.provider.uidls("info") == []


async def test_what_is_too_large_and_has_no_message_id_is_never_taken_for_what_was_told_of(
    database_url: str,
) -> None:
    boxes = box(removal=Removal(when="delivered", oversize=True), max_size_octets=2_000)
    async with Rig(database_url, mailboxes=boxes) as rig:
        for number in (1, 2):
            octets = mail(number, 5_000).replace(f"Message-ID: <{number}@".encode(), b"X-Number: <")
            rig.put(octets, uidl="1")
            rig.provider.fault("quit", "drop-committed", times=None)
            await rig.through()
            rig.provider.heal()
        assert len(rig.events(RejectedOversize)) == len(rig.home.taken_for(INFO)) == 2


async def test_a_size_that_was_listed_wrongly_of_what_is_too_large_tells_nobody_twice(
    database_url: str,
) -> None:
    async with Rig(database_url, mailboxes=box(max_size_octets=2_000)) as rig:
        rig.put(mail(1, 5_000))
        rig.provider.fault("list", "lie-size", octets=7_777, times=1)
        for _ in range(4):
            await rig.poll()
        await rig.settled()
        assert len(rig.home.taken_for(INFO)) == 1
        assert len(rig.provider.said("TOP")) == 2


async def test_the_limit_is_what_the_next_hop_says_where_that_is_lower(database_url: str) -> None:
    boxes = box(max_size_octets=50_000)
    async with Rig(database_url, homes={"home": HomePeer(size_octets=3_000)}, mailboxes=boxes) as rig:
        rig.put(mail(1, 5_000))
        await rig.poll()
        await rig.settled()
        (event,) = rig.events(RejectedOversize)
        assert (event.limit_octets, event.limit_from, event.next_hop) == (3_000, "next-hop", "home")


async def test_what_is_asked_for_again_is_decided_on_by_what_the_next_hop_says_now(database_url: str) -> None:
    async with Rig(database_url, homes={"home": HomePeer(size_octets=3_000)}) as rig:
        rig.put(large := mail(1, 5_000))
        await rig.poll()
        await rig.settled()
        rig.home.size_octets = 10_000
        rig.put(other := mail(2, 5_000))
        await rig.poll()  # nobody asked for that one: what was said an hour ago at most stands
        assert len(rig.events(RejectedOversize)) == 2
        rig.home.fault("banner", "421")
        message, _ = (one for one in rig.messages() if one.direction == "inbound")
        again = RedeliveryRequested(operator="anna", policy="p")
        await rig.journal.append(Unit((Append(message.id, message, (again,), rig.clock()),)))
        await rig.poll()  # it could not be asked: that says neither yes nor no
        assert len(rig.events(RejectedOversize)) == 2
        await rig.poll()
        await rig.settled()
        assert large in rig.delivered()
        assert other not in rig.delivered()
        assert len(rig.events(RejectedOversize)) == 2


async def test_the_next_hops_configured_limit_lowers_what_it_says(database_url: str) -> None:
    async with Rig(database_url, max_size_octets=2_500) as rig:
        rig.put(mail(1, 5_000))
        await rig.poll()
        await rig.settled()
        (event,) = rig.events(RejectedOversize)
        assert (event.limit_octets, event.limit_from) == (2_500, "config")


@pytest.mark.parametrize("size_octets", [None, 0, "bare"])
async def test_a_next_hop_that_names_no_limit_gets_everything(database_url: str, size_octets: Any) -> None:
    async with Rig(database_url, homes={"home": HomePeer(size_octets=size_octets)}) as rig:
        rig.put(mail(1, 200_000))
        await rig.poll()
        await rig.settled()
        assert rig.delivered() == [mail(1, 200_000)]


async def test_what_any_next_hop_it_may_go_to_would_take_is_retrieved(database_url: str) -> None:
    routes = (
        RouteRule(recipients=(SALES,), next_hop="branch"),
        RouteRule(recipients=("*",), next_hop="home"),
    )
    homes = {"branch": HomePeer(size_octets=3_000), "home": HomePeer(size_octets=10_000)}
    boxes = box(rule=MULTIDROP)
    async with Rig(database_url, homes=homes, mailboxes=boxes, policy={"routes": routes}) as rig:
        taken = mail(1, 5_000, header=f"Delivered-To: {INFO}\r\n")
        rig.put(taken, mail(2, 20_000, header=f"Delivered-To: {INFO}\r\n"))
        await rig.poll()
        await rig.settled()
        assert rig.delivered() == [taken]
        (event,) = rig.events(RejectedOversize)
        assert (event.limit_octets, event.limit_from, event.next_hop) == (10_000, "next-hop", "home")


async def test_what_another_next_hop_would_take_is_not_handed_to_one_that_does_not(database_url: str) -> None:
    policy = {
        "routes": (
            RouteRule(recipients=(INFO,), next_hop="home"),
            RouteRule(recipients=("*",), next_hop="branch"),
        ),
        "hops": {"home": HopPolicy(max_size_octets=3_000), "branch": HopPolicy()},
    }
    homes = {"home": HomePeer(), "branch": HomePeer()}
    boxes = box(rule=MailboxRule(recipients=(INFO, SALES)))
    async with Rig(database_url, homes=homes, mailboxes=boxes, policy=policy) as rig:
        rig.put(mail(1, 5_000))
        await rig.poll()
        await rig.settled()
        message = rig.messages()[0]
        assert [r.state for r in message.recipients] == ["rejected-oversize", "delivered"]
        (event,) = rig.events(RejectedOversize)
        assert (event.limit_octets, event.limit_from, event.next_hop) == (3_000, "config", "home")
        assert (event.numbers, event.mailbox, event.uidl) == ((0,), message.mailbox, message.uidl)
        assert [taken.reverse_path for taken in homes["home"].ledger] == [""]  # what tells of it
        assert rig.hops["home"].learnt_octets is None


async def test_what_exceeds_the_size_in_the_ehlo_is_not_tried_and_teaches_nothing(database_url: str) -> None:
    home = HomePeer(size_octets=100_000)
    async with Rig(database_url, homes={"home": home}) as rig:
        await submit(rig, INFO, octets=mail(1, 200_000), reverse_path="x@elsewhere.example")
        await rig.settled()
        assert states(rig) == ["rejected-oversize"]
        (event,) = rig.events(RejectedOversize)
        assert (event.limit_octets, event.limit_from, event.tried) == (100_000, "next-hop", False)
        assert [command.argument.partition(" ")[0] for command in home.said("MAIL")] == ["FROM:<>"]
        assert len(home.taken_for(POSTMASTER)) == 1  # no mailbox says who else is to be told
        await rig.restart()
        assert rig.hops["home"].learnt_octets is None


async def test_a_message_of_exactly_the_limit_is_retrieved(database_url: str) -> None:
    async with Rig(database_url, mailboxes=box(max_size_octets=3_000)) as rig:
        rig.put(mail(1, 3_000), mail(2, 3_001))
        await rig.poll()
        await rig.settled()
        assert [len(octets) for octets in rig.delivered() if len(octets) == 3_000] == [3_000]
        assert len(rig.provider.said("RETR")) == 1


async def test_what_is_too_large_and_comes_back_after_an_empty_listing_is_told_of_once(
    database_url: str,
) -> None:
    async with Rig(database_url, mailboxes=box(max_size_octets=2_000)) as rig:
        rig.put(mail(1, 5_000), mail(2, 6_000))
        await rig.through()
        listed = rig.provider.mailboxes["info"].messages
        kept = list(listed)
        for _ in range(2):
            listed.clear()
            await rig.poll()
            listed[:] = kept
            await rig.through()
        assert len(rig.events(RejectedOversize)) == 2
        assert len(rig.home.ledger) == 2
        listed[:] = []
        await rig.poll()
        rig.put(mail(3, 5_000), uidl=kept[0].uidl)
        await rig.through()
        assert len(rig.events(RejectedOversize)) == 3


async def test_without_top_what_is_too_large_is_told_of_all_the_same(database_url: str) -> None:
    provider = Pop3Peer(without={"TOP"})
    async with Rig(database_url, provider=provider, mailboxes=box(max_size_octets=2_000)) as rig:
        rig.put(mail(1, 5_000))
        await rig.poll()
        await rig.settled()
        assert len(rig.home.taken_for(INFO)) == 1


async def test_without_uidl_what_is_too_large_stays_and_is_told_of_once(database_url: str) -> None:
    boxes = box(removal=Removal(when="downloaded"), max_size_octets=2_000)
    async with Rig(database_url, provider=nameless(), mailboxes=boxes) as rig:
        large, _ = rig.put(mail(1, 5_000), mail(2))
        for _ in range(3):
            await rig.poll()
        await rig.settled()
        assert rig.provider.uidls("info") == [large]
        assert len(rig.events(RejectedOversize)) == 1
        assert len(rig.home.ledger) == 2


async def test_the_postmaster_is_told_of_what_is_too_large_and_names_nobody(database_url: str) -> None:
    provider = Pop3Peer(without={"TOP"})
    boxes = box(rule=MULTIDROP, max_size_octets=2_000)
    async with Rig(database_url, provider=provider, mailboxes=boxes) as rig:
        rig.put(mail(1, 5_000, header=f"Delivered-To: {INFO}\r\n"))
        await rig.poll()
        await rig.settled()
        assert len(rig.home.taken_for(POSTMASTER)) == 1


async def test_direct_delivery_of_others_mail_leaves_the_home_server_s_limit_to_our_own(
    database_url: str,
) -> None:
    policy = {
        "routes": (RouteRule(recipients=("*",), next_hop="mx"),),
        "hops": {"home": HopPolicy(), "mx": HopPolicy()},
    }
    async with Rig(database_url, homes={"home": HomePeer(size_octets=3_000)}, policy=policy) as rig:
        rig.put(mail(1, 5_000))
        await rig.poll()
        await rig.settled()
        (event,) = rig.events(RejectedOversize)
        assert (event.limit_octets, event.next_hop) == (3_000, "home")


async def test_what_may_go_to_any_server_has_the_configured_limit_only(sqlite_url: str) -> None:
    routes = (RouteRule(recipients=("*",), next_hop="mx"),)
    known = MailboxRule(recipients=("x@customer.example",))
    anybody = MailboxRule(headers=("Delivered-To",), domains=("customer.example",))
    for configured, limit in ((None, None), (9_000, Limit(octets=9_000, said_by="config", next_hop="mx"))):
        hops = {"home": HopPolicy(), "mx": HopPolicy(max_size_octets=configured)}
        async with Rig(sqlite_url, policy={"routes": routes, "hops": hops}) as rig:
            assert await largest(known, None, rig.hops, rig.policy) == limit
            found = await largest(anybody, None, rig.hops, rig.policy)
            assert (found and found.next_hop) == (limit and "home")
