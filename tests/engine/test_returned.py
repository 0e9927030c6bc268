"""Reports that come back through a mailbox or by SMTP: recorded on the message they are about, and delivered all the same."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine import returned
from engine.core import bounce
from engine.core.bounce import StatusReport
from store import queries
from store.errors import Damaged, StoreError, UnknownEvent
from store.events import Delivered, Failed, Reported
from tests.engine.bounces import SHAPES, Bounced, exchange, gmail, postfix
from tests.engine.rig import INFO, Rig, mail
from tests.engine.situations import outgoing, submit
from tests.engine.test_reports import BOB, EVE, of

ELSEWHERE = "elsewhere.example"  # whose trace is not ours: the report names nothing but the Message-ID


async def relayed(rig: Rig, *recipients: str, number: int = 7) -> tuple[str, Bounced]:
    """A message that left us, and what a report about it is about."""
    stream = await submit(rig, *(recipients or (BOB,)), octets=mail(number))
    await rig.settled()
    return stream, Bounced(id=stream, message_id=f"<{number}@elsewhere.example>")


async def fetch(rig: Rig, octets: bytes) -> None:
    rig.put(octets)
    await rig.poll()
    await rig.settled()


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_report_in_the_mailbox_is_recorded_and_delivered(shape: object, sqlite_url: str) -> None:
    async with outgoing(sqlite_url) as rig:
        stream, about = await relayed(rig)
        octets = shape(about)  # type: ignore[operator]
        await fetch(rig, octets)
        (event,) = rig.events(Failed, stream)
        (report,) = (one for one in rig.messages() if one.mailbox == "info")
        assert (event.reason, event.code, event.report) == ("bounced-later", 550, report.id)
        assert of(rig, stream).state == "failed"
        assert report.state == "delivered"
        (taken,) = rig.home.taken_for(INFO)
        assert taken.octets.endswith(octets)
        assert rig.events(Reported) == []  # who sent it has the report


async def test_a_positive_report_by_smtp_proves_delivery_on_both_databases(database_url: str) -> None:
    async with outgoing(database_url) as rig:
        stream, about = await relayed(rig, BOB, EVE)
        octets = postfix(replace(about, action="delivered", status="2.1.5", said="250 2.1.5 taken"))
        await submit(rig, INFO, reverse_path="", octets=octets)
        await rig.settled()
        (event,) = rig.events(Delivered, stream)
        assert (event.numbers, event.code, event.reply) == ((0,), 250, "250 2.1.5 taken")
        assert [one.state for one in of(rig, stream).recipients] == ["delivered", "relayed"]
        (row,) = rig.read_now(lambda c: [queries.one(c, stream)])
        assert [one["state"] for one in row["recipients"]] == ["delivered", "relayed"]


async def test_the_message_id_names_a_message_only_where_there_is_one_of_it(database_url: str) -> None:
    async with outgoing(database_url) as rig:
        stream, about = await relayed(rig)
        again, _ = await relayed(rig)
        only, unique = await relayed(rig, number=8)
        await fetch(rig, gmail(replace(about, hostname=ELSEWHERE)))
        await fetch(rig, gmail(replace(unique, hostname=ELSEWHERE)))
        assert [of(rig, one).state for one in (stream, again, only)] == ["relayed", "relayed", "failed"]


async def test_a_forged_report_changes_nothing_and_is_delivered(database_url: str) -> None:
    async with outgoing(database_url) as rig:
        stream, about = await relayed(rig)
        forged = (
            replace(about, id="06h0kps6zzzzzzzz"),
            replace(about, message_id="<guessed@example.com>"),
            replace(about, recipient=EVE),
            replace(about, id="06h0kps6zzzzzzzz", hostname=ELSEWHERE, message_id="<guessed@example.com>"),
        )
        for one in forged:
            await fetch(rig, exchange(one))
        person = exchange(about).replace(
            b"Auto-Submitted: auto-replied\r\n", b"Return-Path: <eve@x.example>\r\n"
        )
        await fetch(rig, person)  # a person passed it on
        assert of(rig, stream).state == "relayed"
        assert len(rig.home.taken_for(INFO)) == len(forged) + 1


async def test_a_report_that_goes_out_is_not_for_us_to_read(database_url: str) -> None:
    """A client of ours could claim anything of anybody's mail."""
    async with outgoing(database_url) as rig:
        stream, about = await relayed(rig)
        passed_on = await submit(rig, EVE, reverse_path="", octets=postfix(about))
        await rig.settled()
        assert of(rig, passed_on).status_report
        assert [of(rig, one).state for one in (stream, passed_on)] == ["relayed", "relayed"]


async def test_a_report_about_a_report_of_ours_is_recorded_on_it_and_makes_no_other(
    database_url: str,
) -> None:
    async with outgoing(database_url) as rig:
        rig.homes["smart"].fault("rcpt", "reply", matching=BOB, code=550, text="5.1.1 no such user")
        await submit(rig, BOB, reverse_path=EVE)
        await rig.settled()
        (ours,) = (one for one in rig.messages() if one.direction == "internal")
        assert (ours.state, ours.recipients[0].address) == ("relayed", EVE)
        assert ours.message_id is not None
        about = Bounced(recipient=EVE, message_id=ours.message_id, hostname=ELSEWHERE, sender=INFO)
        await fetch(rig, postfix(about))
        (event,) = rig.events(Failed, ours.id)
        assert (event.reason, event.numbers) == ("bounced-later", (0,))
        assert of(rig, ours.id).state == "failed"
        assert [one.kind for one in rig.events(Reported)] == ["failure"]
        assert len(rig.home.taken_for(INFO)) == 1


async def test_a_report_read_again_changes_nothing_more(database_url: str) -> None:
    async with outgoing(database_url) as rig:
        stream, about = await relayed(rig)
        await fetch(rig, postfix(about))
        await fetch(rig, exchange(replace(about, action="delivered")))
        await fetch(rig, gmail(about))
        assert of(rig, stream).state == "failed"
        assert (len(rig.events(Failed)), len(rig.events(Delivered, stream))) == (1, 0)


async def test_a_report_left_by_a_crash_is_read_when_it_is_worked_on(database_url: str) -> None:
    async with outgoing(database_url) as rig:
        stream, about = await relayed(rig)
        await rig.restart(works=False)
        rig.put(postfix(about))
        await rig.poll()
        assert of(rig, stream).state == "relayed"
        await rig.restart(works=True)
        await rig.settled()
        assert of(rig, stream).state == "failed"


async def test_a_report_that_breaks_the_reading_is_delivered(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(octets: bytes, hostname: str) -> StatusReport | None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(bounce, "read", broken)
    async with outgoing(sqlite_url) as rig:
        stream, about = await relayed(rig)
        await fetch(rig, postfix(about))
        assert of(rig, stream).state == "relayed"
        assert len(rig.home.taken_for(INFO)) == 1


@pytest.mark.parametrize("error", [UnknownEvent("later", 2), Damaged("not what was written")], ids=repr)
async def test_a_report_about_what_cannot_be_read_is_delivered(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, error: StoreError
) -> None:
    def unreadable(connection: object, report: StatusReport) -> None:
        raise error

    monkeypatch.setattr(returned, "_about", unreadable)
    async with outgoing(sqlite_url) as rig:
        stream, about = await relayed(rig)
        await fetch(rig, postfix(about))
        assert of(rig, stream).state == "relayed"
        assert len(rig.home.taken_for(INFO)) == 1


async def test_a_message_that_moves_on_meanwhile_is_decided_anew(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with outgoing(database_url) as rig:
        stream, about = await relayed(rig)
        await rig.restart(works=False)
        first = of(rig, stream)
        looks = [first]

        def late(connection: object, report: StatusReport) -> object:
            return looks.pop() if looks else about_now(connection, report)

        about_now = returned._about
        monkeypatch.setattr(returned, "_about", late)
        from store.log import Append, Unit

        told = Reported(kind="success", report="06h0kps6zzzzzzzz")
        await rig.journal.append(Unit((Append(stream, first, (told,), rig.clock()),)))
        await rig.restart(works=True)
        await fetch(rig, postfix(about))
        assert not looks
        assert of(rig, stream).state == "failed"
