"""Reports on outgoing mail: who is told through the home server, once, whatever happens meanwhile."""

from __future__ import annotations

import logging
from datetime import timedelta
from email import message_from_bytes

import pytest

from engine import settler
from engine.core import bounce
from store.events import Delivered, Failed, Generated, Relayed, Reported
from store.life import Message
from tests.engine.rig import INFO, POSTMASTER, Rig, mail
from tests.engine.situations import outgoing, refusing, submit
from tests.peers.smtpd import EXTENSIONS, HomePeer, Taken

BOB = "bob@customer.example"
EVE = "eve@customer.example"
WITH_DSN = (*EXTENSIONS, "DSN")


def refusing_smart_host(**facts: object) -> HomePeer:
    smart = HomePeer(hostname="smart.example")
    smart.fault("rcpt", "reply", code=550, text="5.1.1 no such user", times=None, **facts)  # type: ignore[arg-type]
    return smart


def reports(rig: Rig, recipient: str = INFO) -> list[Taken]:
    """What the home server has from us for somebody."""
    return [one for one in rig.home.taken_for(recipient) if one.reverse_path == ""]


def statuses(taken: Taken) -> list[tuple[str, str]]:
    """What a report says of each recipient."""
    status = message_from_bytes(taken.octets).get_payload()[1]  # type: ignore[index]
    return [(one["Final-Recipient"], one["Action"]) for one in status.get_payload()[1:]]  # type: ignore[union-attr,index]


def of(rig: Rig, stream: str) -> Message:
    (found,) = (one for one in rig.messages() if one.id == stream)
    return found


async def test_the_sender_is_told_of_what_failed_through_the_home_server(database_url: str) -> None:
    async with outgoing(database_url, refusing_smart_host(matching=BOB)) as rig:
        stream = await submit(rig, BOB, EVE, octets=mail(7))
        await rig.settled()
        (taken,) = reports(rig)
        assert taken.recipients == (INFO,)
        assert statuses(taken) == [(f"rfc822; {BOB}", "failed")]
        assert b"550 5.1.1 no such user" in taken.octets
        assert b"Message-ID: <7@elsewhere.example>" in taken.octets
        (told,) = rig.events(Reported, stream)
        (about,) = (one for one in rig.messages() if one.direction == "internal")
        assert (told.kind, told.report, about.about, about.state) == (
            "failure",
            about.id,
            stream,
            "delivered",
        )
        assert [one.state for one in of(rig, stream).recipients] == ["failed", "relayed"]
        assert reports(rig, POSTMASTER) == []


async def test_too_large_for_the_smart_host_is_told_as_a_failure(database_url: str) -> None:
    smart = HomePeer(hostname="smart.example", hidden_limit_octets=5_000)
    async with outgoing(database_url, smart) as rig:
        stream = await submit(rig, BOB, octets=mail(1, 20_000))
        await rig.settled()
        (taken,) = reports(rig)
        assert statuses(taken) == [(f"rfc822; {BOB}", "failed")]
        assert b"Status: 5.3.4" in taken.octets
        assert of(rig, stream).state == "rejected-oversize"


@pytest.mark.parametrize("header", ["Auto-Submitted: auto-generated\r\n", "List-Id: <news.example.com>\r\n"])
async def test_a_machine_or_a_list_is_told_what_failed(header: str, sqlite_url: str) -> None:
    async with outgoing(sqlite_url, refusing_smart_host()) as rig:
        await submit(rig, BOB, octets=mail(1, header=header))
        await rig.settled()
        (taken,) = reports(rig)
        assert statuses(taken) == [(f"rfc822; {BOB}", "failed")]


@pytest.mark.parametrize("facts", [{"reverse_path": ""}, {"notify": ("NEVER",)}])
async def test_where_nobody_is_to_be_told_it_stays_on_record_and_in_the_log(
    facts: dict[str, object], sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with outgoing(sqlite_url, refusing_smart_host()) as rig:
        with caplog.at_level(logging.WARNING, logger="mailgate.worker"):
            stream = await submit(rig, BOB, octets=mail(1), **facts)
            await rig.settled()
        assert rig.home.ledger == []
        assert of(rig, stream).state == "failed"
        assert any(f"{stream}: failed, and nobody is told" in line for line in caplog.messages)


async def test_a_report_that_fails_makes_no_report(database_url: str) -> None:
    async with outgoing(database_url, refusing_smart_host()) as rig:
        rig.home.fault("rcpt", "reply", code=550, text="5.1.1 left the house", times=None)
        await submit(rig, BOB)
        await rig.settled()
        assert [one.state for one in rig.messages()] == ["failed", "failed"]
        assert len(rig.events(Generated)) == 1


async def test_nobody_is_told_twice_after_the_store_was_away(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settler, "STORE_RETRY_SECONDS", 0.01)
    async with outgoing(database_url, refusing_smart_host()) as rig:
        with refusing(rig, "generated"):
            await submit(rig, BOB)
            await rig.until(lambda: rig.journal_refused > 2)
            assert rig.events(Failed) == []  # the failure and its report stand or fall together
        await rig.settled()
        assert len(rig.events(Failed)) == len(rig.events(Reported)) == len(reports(rig)) == 1
        await rig.restart()
        await rig.settled()
        assert len(reports(rig)) == 1


async def test_a_delay_is_told_once(database_url: str) -> None:
    async with outgoing(database_url) as rig:
        rig.homes["smart"].fault("rcpt", "reply", code=451, text="4.7.1 greylisted", times=None)
        stream = await submit(rig, BOB)
        for _ in range(12):
            await rig.settled()
            rig.clock.at = of(rig, stream).due_at or rig.clock.at
        (taken,) = reports(rig)
        assert statuses(taken) == [(f"rfc822; {BOB}", "delayed")]
        assert [one.kind for one in rig.events(Reported, stream)] == ["delay"]
        assert rig.clock.at - of(rig, stream).opened_at > timedelta(hours=5)


async def test_what_waits_behind_a_dead_smart_host_is_told_of_its_delay_too(database_url: str) -> None:
    async with outgoing(database_url) as rig:
        await rig.homes["smart"].stop()
        for number in range(5):
            await submit(rig, BOB, octets=mail(number))
        for _ in range(20):
            await rig.settled()
            rig.clock.later(minutes=31)
        assert len(reports(rig)) == 5
        assert sorted(one.kind for one in rig.events(Reported)) == ["delay"] * 5
        await rig.homes["smart"].start(rig.smtp_ports["smart"])


async def test_success_is_reported_where_the_smart_host_will_not(database_url: str) -> None:
    async with outgoing(database_url) as rig:
        stream = await submit(rig, BOB, INFO, notify=("SUCCESS", "SUCCESS,FAILURE"), envid="QQ1")
        await rig.settled()
        told = sorted(statuses(one) for one in reports(rig))
        assert told == [[(f"rfc822; {BOB}", "relayed")], [(f"rfc822; {INFO}", "relayed")]]
        assert all(b"Original-Envelope-Id: QQ1\r\n" in one.octets for one in reports(rig))
        assert [one.kind for one in rig.events(Reported, stream)] == ["success", "success"]
        assert [one.dsn for one in rig.events(Relayed) + rig.events(Delivered, stream)] == [False, False]


async def test_success_is_left_to_a_smart_host_that_reports_it_itself(database_url: str) -> None:
    smart = HomePeer(hostname="smart.example", extensions=WITH_DSN)
    async with outgoing(database_url, smart) as rig:
        await submit(rig, BOB, notify=("SUCCESS",))
        await rig.settled()
        assert reports(rig) == []
        assert [one.dsn for one in rig.events(Relayed)] == [True]
        assert smart.said("RCPT")[0].argument == f"TO:<{BOB}> NOTIFY=SUCCESS ORCPT=rfc822;{BOB}"


async def test_what_goes_out_carries_an_envid_of_ours_where_the_client_gave_none(database_url: str) -> None:
    smart = HomePeer(hostname="smart.example", extensions=WITH_DSN)
    async with outgoing(database_url, smart) as rig:
        own, given = (
            await submit(rig, BOB),
            await submit(rig, EVE, envid="QQ+2B1", orcpt=("rfc822;e@x.example",)),
        )
        rig.put(mail(2))
        await rig.poll()
        await rig.settled()
        arguments = sorted(one.argument.partition(" ENVID=")[2] for one in smart.said("MAIL"))
        assert arguments == sorted([bounce.own_envid(own, "gate.example.com"), "QQ+2B1"])
        assert {one.argument for one in smart.said("RCPT")} == {
            f"TO:<{BOB}> ORCPT=rfc822;{BOB}",
            f"TO:<{EVE}> ORCPT=rfc822;e@x.example",
        }
        assert of(rig, given).state == "relayed"


async def test_an_inbound_failure_is_the_postmaster_s_to_know_and_not_the_sender_s(database_url: str) -> None:
    async with outgoing(database_url) as rig:
        rig.home.fault("rcpt", "reply", matching=INFO, code=550, text="5.1.1 no such user", times=None)
        await submit(rig, INFO, reverse_path=BOB, notify=("FAILURE,SUCCESS",))
        await rig.settled()
        assert [one.recipients for one in rig.home.ledger] == [(POSTMASTER,)]
        assert rig.homes["smart"].ledger == []


async def test_one_of_ours_hears_of_a_colleague_s_address_that_is_none_and_the_postmaster_does_not(
    database_url: str,
) -> None:
    typo = "typo@example.com"
    async with outgoing(database_url) as rig:
        rig.home.fault("rcpt", "reply", matching=typo, code=550, text="5.1.1 no such user", times=None)
        await submit(rig, typo)
        await submit(rig, typo, pushed=True)  # what pretends to be from one of ours
        await rig.settled()
        (taken,) = reports(rig)
        assert statuses(taken) == [(f"rfc822; {typo}", "failed")]
        assert sorted(one.recipients for one in rig.home.ledger) == [(INFO,), (POSTMASTER,)]


async def test_a_report_to_a_sender_outside_goes_by_the_routes(database_url: str) -> None:
    async with outgoing(database_url, refusing_smart_host(matching=BOB)) as rig:
        await submit(rig, BOB, reverse_path=EVE)
        await rig.settled()
        (taken,) = rig.homes["smart"].ledger
        assert (taken.reverse_path, taken.recipients) == ("", (EVE,))
        (report,) = (one for one in rig.messages() if one.direction == "internal")
        assert report.state == "relayed"
