"""A webhook is told of all that happens, at least once and in order, whatever becomes of it, the store or us."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from engine import webhook as at_work
from engine.adapters.webhook_sender import WebhookSender
from engine.core import webhook
from engine.core.policy import Policy
from engine.journal import Journal
from engine.means import Means
from engine.outage import Outage
from engine.secrets import Secret
from engine.settings import WebhookSettings
from engine.settings.addresses import http_url
from engine.webhooks import Webhooks
from store import followers, queries
from store.agenda import Claim
from store.database import reading, writing
from store.errors import StoreUnreachable
from store.followers import Follower
from store.mailbox_events import PollFailed
from store.recorded import listed
from tests.build import NOON, Builder, varied
from tests.peers.hook_peer import HookPeer, Posted

PATIENCE_SECONDS = 30.0  # only ends a hung test
SECRET = "correct horse battery staple"
POLICY = Policy(version="1", hostname="gate.example.com", postmaster="p@example.com", domains=())
DOWN = PollFailed(mailbox="sales", kind="connect", text="no route to host", permanent=False)


@pytest.fixture
def builder(database_url: str) -> Iterator[Builder]:
    built = Builder(database_url, NOON)
    yield built
    built.close()


class Gateway:
    """The part of one that tells webhooks. Time is the builder's."""

    def __init__(self, builder: Builder, settings: WebhookSettings, holder: str = "me") -> None:
        self.builder = builder
        self.journal = Journal(builder.engine)
        means = Means(
            journal=self.journal, read=self.read, policy=POLICY, outage=Outage(), now=lambda: builder.at
        )
        self.webhooks = Webhooks(means, [settings], holder=holder)

    async def read(self, function: Any) -> Any:
        def asked() -> Any:
            with reading(self.builder.engine) as connection:
                return function(connection)

        return await asyncio.to_thread(asked)

    async def stop(self) -> None:
        await self.webhooks.close()
        await self.journal.close()


class Told:
    """A receiver, a gateway that tells it, and what is on record."""

    def __init__(self, builder: Builder, peer: HookPeer, settings: WebhookSettings) -> None:
        self.builder = builder
        self.peer = peer
        self.settings = settings
        self.gateways: list[Gateway] = []

    async def gateway(self, holder: str = "me", **changes: Any) -> Webhooks:
        """Start one, as at the start of a process."""
        self.gateways.append(Gateway(self.builder, replace(self.settings, **changes), holder))
        await self.gateways[-1].webhooks.begin()
        return self.gateways[-1].webhooks

    def standing(self) -> Follower:
        with reading(self.builder.engine) as connection:
            found = followers.one(connection, self.settings.name)
        assert found is not None
        return found

    def log(self, after: int = 0) -> list[int]:
        with reading(self.builder.engine) as connection:
            return [row.position for row in queries.log_rows(connection, after=after, limit=10_000)]

    def taken(self) -> list[int]:
        return [one.body["position"] for one in self.peer.taken]


@asynccontextmanager
async def told(builder: Builder, peer: HookPeer | None = None, **settings: Any) -> AsyncIterator[Told]:
    peer = peer or HookPeer()
    port = await peer.start()
    given = {"name": "crm", "url": http_url(f"http://127.0.0.1:{port}/hook"), "secret": Secret(SECRET)}
    found = Told(builder, peer, WebhookSettings(**given | {"timeout_seconds": 1.0} | settings))  # type: ignore[arg-type]
    try:
        yield found
    finally:
        for one in found.gateways:
            await one.stop()
        await peer.stop()


async def test_all_that_happens_from_now_on_is_told_in_order_and_once(builder: Builder) -> None:
    varied(builder)
    async with told(builder) as there:
        before = there.log()
        hooks = await there.gateway()
        await hooks.send()
        assert there.peer.posted == []
        varied(builder)
        await hooks.send()
        assert there.taken() == there.log(after=before[-1])
        assert there.standing().lag == 0
        await hooks.send()
        again = await there.gateway()
        await again.send()
        assert len(there.taken()) == len(set(there.taken()))


async def test_an_event_is_told_as_events_json_has_it_and_signed(builder: Builder) -> None:
    async with told(builder) as there:
        hooks = await there.gateway()
        stream = builder.downloaded()
        await hooks.send()
        (posted,) = there.peer.taken
        with reading(builder.engine) as connection:
            (row,) = queries.log_rows(connection, stream=stream)
        assert posted.octets == webhook.body(listed(row))
        assert posted.body["personal"]["reverse_path"]
        assert {name: posted.headers[name] for name in posted.headers if name.startswith("x-")} == {
            "x-mailgate-webhook": "crm",
            "x-mailgate-event": "downloaded",
            "x-mailgate-id": posted.body["hash"],
            "x-mailgate-timestamp": str(int(NOON.timestamp())),
            "x-mailgate-signature": "sha256="
            + webhook.signature(SECRET, str(int(NOON.timestamp())), posted.octets),
        }


async def test_only_events_that_are_asked_for_are_told_and_the_others_passed(
    builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(at_work, "PAGE_EVENTS", 3)
    monkeypatch.setattr(followers, "SPAN", 5)
    async with told(builder, events=("delivered", "poll-failed")) as there:
        hooks = await there.gateway()
        varied(builder)
        builder.mailbox_event("sales", DOWN)
        await hooks.send()
        names = [one.body["name"] for one in there.peer.taken]
        with reading(builder.engine) as connection:
            rows = queries.log_rows(connection, limit=10_000)
        assert names == [row.name for row in rows if row.name in ("delivered", "poll-failed")]
        assert {"delivered", "poll-failed"} == set(names)
        assert there.standing().lag == 0


@pytest.mark.parametrize("action", ["status", "drop", "reset", "stall", "garbage"])
async def test_what_is_not_taken_is_sent_again_when_its_time_has_come_and_before_all_else(
    builder: Builder, action: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with told(builder) as there:
        hooks = await there.gateway()
        first, second, third = (builder.downloaded() for _ in range(3))
        at_once = (
            2 if action in ("drop", "reset") else 1
        )  # a kept connection may break, and the next is tried
        there.peer.fault("answer", action, matching=second, code=500, times=at_once + 1)
        await hooks.send()
        found = there.standing()
        assert (found.position, found.failures, found.since) == (1, 1, NOON)
        assert found.retry_at == NOON + timedelta(seconds=1)
        assert [one.body["stream"] for one in there.peer.taken] == [first]
        await hooks.send()  # too soon
        assert len(there.peer.posted) == 1 + at_once
        builder.later(seconds=1)
        await hooks.send()
        assert (there.standing().failures, there.standing().since) == (2, NOON)
        assert there.standing().retry_at == builder.at + timedelta(seconds=2)
        builder.later(seconds=2)
        await hooks.send()
        assert [one.body["stream"] for one in there.peer.taken] == [first, second, third]
        assert (there.standing().failures, there.standing().said, there.standing().lag) == (0, None, 0)
        tries = [one for one in there.peer.posted if one.body["stream"] == second]
        assert len({one.headers["x-mailgate-id"] for one in tries}) == 1
        said = [(r.levelno, r.getMessage()) for r in caplog.records if r.name == "mailgate.webhook"]
        assert [level for level, _ in said] == [logging.ERROR, logging.WARNING]  # once each
        assert said[0][1].startswith("webhook crm: 127.0.0.1:")
        assert said[1][1] == "webhook crm: events are taken again"


async def test_a_receiver_that_says_when_to_come_again_is_left_alone_until_then(builder: Builder) -> None:
    async with told(builder) as there:
        hooks = await there.gateway()
        builder.downloaded()
        there.peer.fault("answer", "status", code=503, octets=120)
        await hooks.send()
        assert there.standing().retry_at == NOON + timedelta(minutes=2)
        assert "503 Service Unavailable" in (there.standing().said or "")
        await (await there.gateway()).send()  # who starts anew tries at once
        assert there.standing().lag == 0


async def test_while_it_waits_nothing_is_written(builder: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    async with told(builder) as there:
        hooks = await there.gateway()
        builder.downloaded()
        there.peer.fault("answer", "status", code=500)
        await hooks.send()
        claimed: list[str] = []
        claim = followers.claim
        monkeypatch.setattr(followers, "claim", lambda *a, **k: claimed.append(k["name"]) or claim(*a, **k))
        await hooks.send()
        assert claimed == []
        builder.at += timedelta(seconds=1)
        await hooks.send()
        assert (claimed, there.taken()) == (["crm"], [1])


async def test_what_is_refused_for_good_is_tried_for_ever_and_less_and_less_often(builder: Builder) -> None:
    async with told(builder) as there:
        hooks = await there.gateway()
        builder.downloaded()
        there.peer.fault("answer", "status", code=410, times=None)
        waits = []
        for _ in range(12):
            await hooks.send()
            retry_at = there.standing().retry_at
            assert retry_at is not None
            waits.append((retry_at - builder.at).total_seconds())
            builder.at = retry_at
        assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]


async def test_several_at_once_keep_the_order_of_each_message(builder: Builder) -> None:
    async with told(builder, connections=4) as there:
        hooks = await there.gateway()
        for _ in range(6):
            varied(builder)
        there.peer.fault("answer", "status", code=500, after=20, times=3)
        for _ in range(6):
            await hooks.send()
            builder.later(minutes=1)
        assert sorted(there.taken()) == there.log()  # and what was taken beyond a failure is not repeated
        assert there.peer.sessions > 1
        ordered = sorted(there.peer.taken, key=lambda one: str(one.body["stream"]))  # a stable sort
        for _, of_one in groupby(ordered, key=lambda one: str(one.body["stream"])):
            revisions = [one.body["revision"] for one in of_one]
            assert revisions == sorted(revisions)


async def test_one_event_that_is_never_taken_is_one_trouble_whatever_else_is_taken_beside_it(
    builder: Builder, caplog: pytest.LogCaptureFixture
) -> None:
    async with told(builder, connections=4) as there:
        hooks = await there.gateway()
        poison = builder.downloaded()
        there.peer.fault("answer", "status", code=422, matching=poison, times=None)
        for tries in range(1, 7):
            builder.downloaded()
            await hooks.send()
            assert there.standing().failures == tries
            builder.later(minutes=5)
        assert len(there.peer.taken) > 1
        there.peer.heal()
        await hooks.send()
        assert (there.standing().failures, there.standing().lag) == (0, 0)
        assert sorted(there.taken()) == there.log()
    said = [record.levelno for record in caplog.records if record.name == "mailgate.webhook"]
    assert said == [logging.ERROR, logging.WARNING]


async def test_two_gateways_tell_it_once_and_the_other_takes_over(builder: Builder) -> None:
    async with told(builder) as there:
        one, other = await there.gateway("one"), await there.gateway("other")
        first, second = builder.downloaded(), builder.downloaded()
        stalled = there.peer.fault("answer", "stall", matching=first)
        sending = asyncio.create_task(one.send())
        await there.peer.until(lambda: stalled.stalled)
        await other.send()
        stalled.release()
        await sending
        assert [posted.body["stream"] for posted in there.peer.posted] == [first, second]
        third = builder.downloaded()
        with writing(builder.engine) as connection:  # one that died with it in hand
            claim = Claim("dead", builder.at + followers.LEASE_TERM)
            assert followers.claim(connection, "crm", claim, builder.at) is not None
        await other.send()
        assert len(there.peer.posted) == 2
        builder.later(seconds=followers.LEASE_TERM.total_seconds())
        await other.send()
        assert there.peer.posted[-1].body["stream"] == third


async def test_who_lost_the_lease_stops_and_changes_nothing(
    builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(at_work, "MOVE_EVERY_SECONDS", 0.0)
    async with told(builder) as there:
        one = await there.gateway("one")
        first, _ = builder.downloaded(), builder.downloaded()

        def take_over(_: Any) -> None:
            late = builder.at + followers.LEASE_TERM
            with writing(builder.engine) as connection:
                followers.claim(connection, "crm", Claim("other", late), late)

        there.peer.on("answered", take_over)
        await one.send()
        assert [posted.body["stream"] for posted in there.peer.posted] == [first]
        assert there.standing().position == 0


async def test_a_stop_in_the_middle_keeps_what_was_taken_and_lets_go(builder: Builder) -> None:
    async with told(builder) as there:
        one, other = await there.gateway("one"), await there.gateway("other")
        first, second = builder.downloaded(), builder.downloaded()
        stalled = there.peer.fault("answer", "stall", matching=second)
        sending = asyncio.create_task(one.send())
        await there.peer.until(lambda: stalled.stalled)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert there.standing().position == 1
        await other.send()
        assert [posted.body["stream"] for posted in there.peer.taken] == [first, second]


async def test_a_stop_just_when_all_is_done_is_a_stop(
    builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, finish = asyncio.get_running_loop(), followers.finish

    def stopped_meanwhile(*given: Any, **named: Any) -> bool:
        done = finish(*given, **named)
        loop.call_soon_threadsafe(running.cancel)
        return done

    monkeypatch.setattr(followers, "finish", stopped_meanwhile)
    async with told(builder) as there:
        hooks = await there.gateway()
        builder.downloaded()
        running = asyncio.create_task(hooks.run())
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.wait([running])
        assert running.cancelled()
        assert there.standing().lag == 0


async def test_a_store_that_is_down_for_a_while_repeats_nothing(
    builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with told(builder) as there:
        hooks = await there.gateway()
        for _ in range(3):
            builder.downloaded()

        def broken(*_: Any, **__: Any) -> bool:
            raise StoreUnreachable("the store can't be used")

        with monkeypatch.context() as down:
            down.setattr(followers, "finish", broken)
            await hooks.send()
        assert there.standing().position == 0
        await hooks.send()
        assert (there.taken(), there.standing().position) == ([1, 2, 3], 3)


async def test_a_new_address_goes_on_where_the_old_one_was(builder: Builder) -> None:
    elsewhere = HookPeer()
    port = await elsewhere.start()
    try:
        async with told(builder) as there:
            hooks = await there.gateway()
            builder.downloaded()
            there.peer.fault("answer", "status", code=404, times=None)
            await hooks.send()
            moved = await there.gateway(url=http_url(f"http://127.0.0.1:{port}/"))
            await moved.send()
            assert [one.body["position"] for one in elsewhere.taken] == [1]
            assert there.standing().lag == 0
    finally:
        await elsewhere.stop()


async def test_a_secret_is_read_again_after_a_while_and_whenever_something_is_refused(
    builder: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "secret"
    secret = Secret(str(file), kind="file", used_for="webhook 'crm': secret")
    async with told(builder, secret=secret) as there:
        hooks = await there.gateway()

        async def tell(written: str) -> str | None:
            file.write_text(f"{written}\n")
            builder.downloaded()
            builder.later(minutes=1)
            await hooks.send()
            return _signed_by(there.peer.posted[-1])

        builder.downloaded()
        await hooks.send()
        assert there.peer.posted == []
        assert (there.standing().said or "").startswith("webhook 'crm': secret: the file ")
        assert await tell("one") == "one"
        assert await tell("two") == "one"  # a moment ago
        there.peer.fault("answer", "status", code=401)
        assert await tell("two") == "one"
        assert await tell("two") == "two"
        monkeypatch.setattr(at_work, "SECRET_SECONDS", 0.0)
        assert await tell("one") == "one"


def _signed_by(posted: Posted) -> str | None:
    stamp, signature = (posted.headers[f"x-mailgate-{name}"] for name in ("timestamp", "signature"))
    return next(
        (
            secret
            for secret in ("one", "two")
            if signature == "sha256=" + webhook.signature(secret, stamp, posted.octets)
        ),
        None,
    )


async def test_a_fault_of_ours_is_in_the_log_and_does_not_end_the_gateway(
    builder: Builder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(at_work, "LOOK_EVERY_SECONDS", 0.0)
    post = WebhookSender.post

    async def broken(*_: Any) -> Any:
        monkeypatch.setattr(WebhookSender, "post", post)
        raise ZeroDivisionError

    async with told(builder) as there:
        monkeypatch.setattr(WebhookSender, "post", broken)
        hooks = await there.gateway()
        builder.downloaded()
        running = asyncio.create_task(hooks.run())
        await there.peer.until(lambda: there.peer.taken)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert [r.getMessage() for r in caplog.records if r.name == "mailgate.webhook"] == ["webhook crm"]
