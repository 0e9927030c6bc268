"""Which servers take a domain's mail, by what DNS answers, and what it means when there is none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from engine.adapters import mx
from engine.adapters.mx import MailServer, MailServers
from engine.ports import Reply
from tests.peers.dnsd import DnsPeer

HOSTNAME = "gate.example.com"
DOMAIN = "customer.example"


@asynccontextmanager
async def asking(
    *records: str, port: int = 25, **options: object
) -> AsyncIterator[tuple[MailServers, DnsPeer]]:
    peer = DnsPeer(*records, **options)
    at = await peer.start()
    try:
        yield MailServers([("127.0.0.1", at)], HOSTNAME, port), peer
    finally:
        await peer.stop()


async def names(*records: str) -> list[str]:
    """The servers of the domain, in order."""
    async with asking(*records) as (servers, _):
        found = await servers.of(DOMAIN)
    assert not isinstance(found, Reply), found
    return [server.name for server in found]


async def refusal(*records: str, domain: str = DOMAIN, **options: object) -> Reply:
    async with asking(*records, **options) as (servers, _):
        found = await servers.of(domain)
    assert isinstance(found, Reply)
    return found


def server(number: int, address: str = "192.0.2.1") -> str:
    return f"mx{number}.{DOMAIN} A {address}"


async def test_servers_come_by_preference():
    records = [f"{DOMAIN} MX {30 - n} mx{n}.{DOMAIN}" for n in range(3)]
    assert await names(*records, *(server(n) for n in range(3))) == [f"mx{n}.{DOMAIN}" for n in (2, 1, 0)]


async def test_of_equal_ones_any_comes_first():
    records = [f"{DOMAIN} MX 10 mx{n}.{DOMAIN}" for n in range(2)] + [server(n) for n in range(2)]
    async with asking(*records) as (servers, _):
        first = {found[0].name async for found in _repeatedly(servers, 60)}
    assert first == {f"mx0.{DOMAIN}", f"mx1.{DOMAIN}"}


async def _repeatedly(servers: MailServers, times: int) -> AsyncIterator[tuple[MailServer, ...]]:
    for _ in range(times):
        found = await servers.of(DOMAIN)
        assert not isinstance(found, Reply)
        yield found


async def test_without_mx_the_domain_itself_is_the_server():
    async with asking(f"{DOMAIN} A 192.0.2.7", f"{DOMAIN} AAAA 2001:db8::7") as (servers, _):
        assert await servers.of(DOMAIN) == (
            MailServer(name=DOMAIN, preference=0, addresses=("2001:db8::7", "192.0.2.7")),
        )


async def test_with_mx_the_domain_itself_is_none():
    refused = await refusal(
        f"{DOMAIN} MX 10 mx1.{DOMAIN}", f"{DOMAIN} A 192.0.2.7", "other.example A 192.0.2.9"
    )
    assert (refused.code, refused.enhanced) == (550, "5.4.4")


async def test_a_server_without_an_address_is_left_out():
    records = [f"{DOMAIN} MX 10 mx1.{DOMAIN}", f"{DOMAIN} MX 20 mx2.{DOMAIN}", server(2)]
    assert await names(*records) == [f"mx2.{DOMAIN}"]


@pytest.mark.parametrize("preference", [0, 10])
async def test_null_mx_is_for_good(preference: int):
    refused = await refusal(f"{DOMAIN} MX {preference} .", f"{DOMAIN} A 192.0.2.7")
    assert (refused.code, refused.enhanced, refused.scope) == (556, "5.1.10", "recipient")
    assert refused.text == f"5.1.10 not sent by mailgate: {DOMAIN}: the domain takes no mail (null MX)"


async def test_a_domain_that_is_not_there_is_for_good():
    refused = await refusal("other.example A 192.0.2.9")
    assert (refused.code, refused.enhanced) == (550, "5.1.2")


async def test_a_domain_without_mx_and_address_is_for_good():
    refused = await refusal(f"www.{DOMAIN} A 192.0.2.9")
    assert (refused.code, refused.enhanced) == (550, "5.4.4")


async def test_servfail_is_for_now_and_the_domain_s_own_trouble():
    async with asking(f"{DOMAIN} A 192.0.2.7") as (servers, peer):
        peer.failing.add(DOMAIN)
        refused = await servers.of(DOMAIN)
        peer.failing.clear()
        found = await servers.of(DOMAIN)
    assert isinstance(refused, Reply)
    assert (refused.code, refused.enhanced, refused.scope) == (None, "4.4.3", "next-hop")
    assert "SERVFAIL" in refused.text
    assert not isinstance(found, Reply)


async def test_servfail_for_the_address_of_the_only_server_is_for_now():
    async with asking(f"{DOMAIN} MX 10 mx1.{DOMAIN}", server(1)) as (servers, peer):
        peer.failing.add(f"mx1.{DOMAIN}")
        refused = await servers.of(DOMAIN)
    assert isinstance(refused, Reply)
    assert (refused.code, refused.enhanced) == (None, "4.4.3")


@pytest.mark.parametrize("gone", [False, True])
async def test_silence_is_for_now(monkeypatch: pytest.MonkeyPatch, gone: bool):
    monkeypatch.setattr(mx, "QUERY_SECONDS", 0.05)
    monkeypatch.setattr(mx, "ANSWER_SECONDS", 0.2)
    async with asking(f"{DOMAIN} A 192.0.2.7") as (servers, peer):
        peer.silent.add(DOMAIN)
        if gone:
            await peer.stop()
        refused = await servers.of(DOMAIN)
    assert isinstance(refused, Reply)
    assert (refused.code, refused.enhanced) == (None, "4.4.3")
    assert refused.text.endswith("timed out")


@pytest.mark.parametrize("shy", [False, True])
async def test_aliases_are_followed(shy: bool):
    records = [
        f"{DOMAIN} CNAME a.host.example",
        "a.host.example CNAME b.host.example",
        "b.host.example MX 10 mx.host.example",
        "mx.host.example CNAME real.host.example",
        "real.host.example A 192.0.2.5",
    ]
    async with asking(*records, shy=shy) as (servers, _):
        assert await servers.of(DOMAIN) == (
            MailServer(name="mx.host.example", preference=10, addresses=("192.0.2.5",)),
        )


@pytest.mark.parametrize("shy", [False, True])
async def test_aliases_in_a_circle_are_for_now(shy: bool):
    circle = [f"{DOMAIN} CNAME a.host.example", f"a.host.example CNAME {DOMAIN}"]
    refused = await refusal(*circle, shy=shy)
    assert (refused.code, refused.enhanced) == (None, "4.4.3")


async def test_an_alias_to_what_is_not_there_is_for_good():
    assert (await refusal(f"{DOMAIN} CNAME gone.example")).code == 550


async def test_of_ourselves_and_who_is_not_better_none_is_tried():
    records = [
        f"{DOMAIN} MX 5 mx1.{DOMAIN}",
        f"{DOMAIN} MX 10 {HOSTNAME}",
        f"{DOMAIN} MX 10 mx2.{DOMAIN}",
        f"{DOMAIN} MX 20 mx3.{DOMAIN}",
        *(server(n) for n in (1, 2, 3)),
    ]
    assert await names(*records) == [f"mx1.{DOMAIN}"]


@pytest.mark.parametrize(
    "records",
    [
        [f"{DOMAIN} MX 10 {HOSTNAME}", f"{DOMAIN} MX 20 mx1.{DOMAIN}", server(1)],
        [f"{DOMAIN} MX 10 mx1.{DOMAIN}", server(1, "198.51.100.1"), f"{HOSTNAME} A 198.51.100.1"],
        [f"{DOMAIN} MX 10 mx1.{DOMAIN}", server(1, "127.0.0.1")],
        [f"{DOMAIN} AAAA ::1"],
    ],
    ids=["by name", "by address", "loopback", "without MX"],
)
async def test_where_we_are_the_best_it_is_a_loop(records: list[str]):
    refused = await refusal(*records)
    assert (refused.code, refused.enhanced) == (554, "5.4.6")


@pytest.mark.parametrize("address", ["0.0.0.0", "224.0.0.1", "169.254.1.1"])
async def test_an_address_that_is_no_server_s_is_left_out(address: str):
    refused = await refusal(f"{DOMAIN} A {address}")
    assert (refused.code, refused.enhanced) == (550, "5.4.4")


async def test_addresses_are_tried_in_turn_and_so_many_at_most():
    records = [f"{DOMAIN} AAAA 2001:db8::{n}" for n in range(1, 7)]
    records += [f"{DOMAIN} A 192.0.2.{n}" for n in range(1, 7)]
    async with asking(*records) as (servers, _):
        (found,) = await servers.of(DOMAIN)
    assert [":" in address for address in found.addresses] == [True, False, True, False]


async def test_servers_are_so_many_at_most():
    records = [f"{DOMAIN} MX {n} mx{n}.{DOMAIN}" for n in range(30)] + [server(n) for n in range(30)]
    assert await names(*records) == [f"mx{n}.{DOMAIN}" for n in range(mx.MOST_SERVERS)]


async def test_an_answer_is_kept_for_its_ttl():
    async with asking(f"{DOMAIN} A 192.0.2.7") as (servers, peer):
        await servers.of(DOMAIN)
        before = len(peer.queries)
        await servers.of(DOMAIN)
        assert len(peer.queries) == before


async def test_an_answer_without_ttl_is_not_kept():
    async with asking(f"{DOMAIN} A 192.0.2.7", ttl_seconds=0) as (servers, peer):
        await servers.of(DOMAIN)
        await servers.of(DOMAIN)
        assert peer.asked(DOMAIN).count("A") == 2


async def test_that_there_is_nothing_is_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch):
    # The server says no SOA, and so not for how long that holds.
    async with asking("other.example A 192.0.2.9") as (servers, peer):
        await servers.of(DOMAIN)
        await servers.of(DOMAIN)
        assert peer.asked(DOMAIN) == ["MX"]
        later = mx.time.time() + mx.LONGEST_DENIAL_KEPT_SECONDS + 1
        monkeypatch.setattr(mx.time, "time", lambda: later)
        peer.add(f"{DOMAIN} A 192.0.2.7")
        assert not isinstance(await servers.of(DOMAIN), Reply)


async def test_a_truncated_answer_is_asked_for_by_tcp():
    async with asking(f"{DOMAIN} MX 10 mx1.{DOMAIN}", server(1)) as (servers, peer):
        peer.truncated.add(DOMAIN)
        assert not isinstance(await servers.of(DOMAIN), Reply)
        assert peer.asked(DOMAIN) == ["MX", "MX"]


@pytest.mark.parametrize("domain", ["[192.0.2.1]", "a..example", "\u2603.example"])
async def test_what_dns_can_not_know_is_not_asked(domain: str):
    async with asking() as (servers, peer):
        refused = await servers.of(domain)
    assert isinstance(refused, Reply)
    assert (refused.code, refused.enhanced) == (550, "5.1.2")
    assert peer.queries == []


async def test_many_ask_at_once():
    records = [f"d{n}.example A 192.0.2.{n}" for n in range(1, 200)]
    async with asking(*records) as (servers, _):
        found = await asyncio.gather(*(servers.of(f"d{n}.example") for n in range(1, 200)))
    assert [servers[0].addresses for servers in found] == [(f"192.0.2.{n}",) for n in range(1, 200)]
