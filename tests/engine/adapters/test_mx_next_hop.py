"""Direct delivery: which server of a domain is tried, when the next one is, and what it means when none takes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from engine.adapters import mx_next_hop
from engine.adapters.mx import MailServers
from engine.adapters.mx_next_hop import Directly, MxNextHop
from engine.adapters.smtp_access import NextHopAccess
from engine.ports import NextHopTrouble, NoAnswer
from tests.engine.adapters.handing_over import Durable, codes, handed_over, only, transaction
from tests.peers.certificates import server_context
from tests.peers.dnsd import DnsPeer
from tests.peers.smtpd import HomePeer

DOMAIN = "customer.example"
HOSTS = ("127.0.0.2", "127.0.0.3", "127.0.0.4")


class Customer:
    """A domain with mail servers on loopback, each at an address of its own; they share a port."""

    def __init__(self, hop: MxNextHop, peers: list[HomePeer], dns: DnsPeer, port: int) -> None:
        self.hop = hop
        self.peers = peers
        self.dns = dns
        self.port = port

    @property
    def sessions(self) -> list[int]:
        """How many connections each server had."""
        return [len(peer.sessions) for peer in self.peers]

    @property
    def taken(self) -> list[int]:
        """How many messages each server has."""
        return [len(peer.ledger) for peer in self.peers]


@asynccontextmanager
async def customer(
    *peers: HomePeer, records: tuple[str, ...] | None = None, hosts: tuple[str, ...] = HOSTS, **access: Any
) -> AsyncIterator[Customer]:
    """The first peer has the best preference, unless `records` say otherwise."""
    async with AsyncExitStack() as stack:
        port = 0
        for peer, host in zip(peers, hosts, strict=False):
            port = await peer.start(port, host)
            stack.push_async_callback(peer.stop)
        if records is None:
            records = tuple(f"{DOMAIN} MX {n} mx{n}.{DOMAIN}" for n in range(len(peers)))
            records += tuple(f"mx{n}.{DOMAIN} A {HOSTS[n]}" for n in range(len(peers)))
        dns = DnsPeer(*records)
        at = await dns.start()
        stack.push_async_callback(dns.stop)
        wanted = NextHopAccess(**({"name": "mx", "host": "", "port": port, "tls_verify": False} | access))
        servers = MailServers([("127.0.0.1", at)], "gate.example.net", port)
        hop = MxNextHop(f"mx:{DOMAIN}", Directly(servers=servers, access=wanted, hello="gate.example.net"))
        stack.push_async_callback(hop.close)
        yield Customer(hop, list(peers), dns, port)


async def test_the_best_server_gets_it_and_its_connection_is_used_again():
    async with customer(HomePeer(), HomePeer()) as there:
        for _ in range(3):
            outcome = await handed_over(there.hop)
            assert codes(outcome) == [250]
            assert outcome.address == f"127.0.0.2:{there.port}"
        assert there.taken == [3, 0]
        assert there.sessions == [1, 0]


async def test_where_the_first_server_is_down_the_second_takes_it_and_is_asked_first_then():
    async with customer(HomePeer(), HomePeer()) as there:
        await there.peers[0].stop()
        assert codes(await handed_over(there.hop)) == [250]
        await there.peers[0].start(there.port, HOSTS[0])
        assert codes(await handed_over(there.hop)) == [250]
        assert there.taken == [0, 2]


async def test_a_server_that_was_down_comes_first_again_after_a_while(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mx_next_hop, "SHUN_SECONDS", 0.0)
    async with customer(HomePeer(), HomePeer()) as there:
        await there.peers[0].stop()
        await handed_over(there.hop)
        await there.peers[0].start(there.port, HOSTS[0])
        await handed_over(there.hop)
        assert there.taken == [1, 1]


@pytest.mark.parametrize(
    ("stage", "fault"),
    [
        ("banner", {"action": "reply", "code": 421, "text": "4.3.2 too busy"}),
        ("banner", {"action": "reply", "code": 554, "text": "5.3.2 no service"}),
        ("banner", {"action": "drop"}),
        ("ehlo", {"action": "reply", "code": 421, "text": "4.3.2 too busy"}),
        ("mail", {"action": "reply", "code": 451, "text": "4.3.0 not now"}),
        ("mail", {"action": "reply", "code": 421, "text": "4.3.2 closing"}),
        ("mail", {"action": "drop"}),
    ],
)
async def test_a_server_that_takes_not_even_mail_is_passed_over(stage: str, fault: dict[str, Any]):
    async with customer(HomePeer(), HomePeer()) as there:
        there.peers[0].fault(stage, times=None, **fault)
        durable = Durable()
        assert codes(await there.hop.hand_over(transaction(), durable)) == [250]
        assert durable.calls == 1
        assert there.taken == [0, 1]


@pytest.mark.parametrize(
    ("stage", "code", "scope"),
    [
        ("mail", 550, "message"),
        ("rcpt", 550, "recipient"),
        ("rcpt", 451, "recipient"),
        ("dot", 451, "message"),
    ],
)
async def test_what_a_server_says_of_the_message_counts(stage: str, code: int, scope: str):
    async with customer(HomePeer(), HomePeer()) as there:
        there.peers[0].fault(stage, "reply", code=code, text="x.7.1 greylisted")
        answer = only(await handed_over(there.hop))
        assert (answer.code, answer.scope) == (code, scope)
        assert there.sessions == [1, 0]


async def test_no_answer_to_the_dot_is_not_tried_elsewhere():
    async with customer(HomePeer(), HomePeer()) as there:
        there.peers[0].fault("dot", "commit-drop")
        assert isinstance(only(await handed_over(there.hop)), NoAnswer)
        assert there.taken == [1, 0]


async def test_where_no_server_can_be_spoken_to_all_are_named():
    async with customer(HomePeer(), HomePeer()) as there:
        for peer in there.peers:
            await peer.stop()
        answer = only(await handed_over(there.hop))
        assert (answer.code, answer.scope) == (None, "next-hop")
        assert f"mx0.{DOMAIN}[127.0.0.2]:{there.port}" in answer.text
        assert f"mx1.{DOMAIN}[127.0.0.3]:{there.port}" in answer.text


async def test_where_no_server_gives_a_session_the_first_one_s_word_comes_first():
    async with customer(HomePeer(), HomePeer()) as there:
        there.peers[0].fault("banner", "reply", code=554, text="5.3.2 no service", times=None)
        await there.peers[1].stop()
        answer = only(await handed_over(there.hop))
        assert (answer.code, answer.enhanced, answer.scope) == (554, "5.3.2", "next-hop")
        where = f"mx0.{DOMAIN}[127.0.0.2]:{there.port}"
        assert answer.said.startswith(
            f"554 5.3.2 no service (the greeting of {where}); 4.4.1 connect to mx1."
        )


async def test_a_server_s_own_word_counts_more_than_that_others_are_down():
    async with customer(HomePeer(), HomePeer()) as there:
        await there.peers[1].stop()
        there.peers[0].fault("mail", "reply", code=451, text="4.7.1 greylisted")
        answer = only(await handed_over(there.hop))
        assert (answer.code, answer.scope, answer.enhanced) == (451, "message", "4.7.1")


async def test_the_next_address_of_a_server_is_tried():
    records = (f"{DOMAIN} MX 1 mx.{DOMAIN}", f"mx.{DOMAIN} A 127.0.0.9", f"mx.{DOMAIN} A 127.0.0.2")
    async with customer(HomePeer(), records=records) as there:
        outcome = await handed_over(there.hop)
        assert codes(outcome) == [250]
        assert outcome.address == f"127.0.0.2:{there.port}"


async def test_by_ipv6_where_dns_says_so():
    async with customer(HomePeer(), records=(f"{DOMAIN} AAAA ::1",), hosts=("::1",)) as there:
        outcome = await handed_over(there.hop)
        assert codes(outcome) == [250]
        assert outcome.address == f"[::1]:{there.port}"


async def test_tls_is_taken_with_any_certificate():
    peer = HomePeer(tls="starttls", tls_context=server_context())
    async with customer(peer) as there:
        outcome = await handed_over(there.hop)
        assert codes(outcome) == [250]
        assert outcome.tls.startswith("TLSv1.3")
        assert outcome.tls.endswith("unverified")


async def test_where_tls_is_required_a_server_without_it_is_passed_over():
    peers = HomePeer(), HomePeer(tls="starttls", tls_context=server_context())
    async with customer(*peers, tls="required") as there:
        assert codes(await handed_over(there.hop)) == [250]
        assert there.taken == [0, 1]


async def test_what_dns_refuses_for_good_asks_no_server():
    async with customer(HomePeer(), records=(f"{DOMAIN} MX 0 .",)) as there:
        outcome = await handed_over(there.hop, f"a@{DOMAIN}", f"b@{DOMAIN}")
        assert codes(outcome) == [556, 556]
        assert outcome.address == ""
        assert there.sessions == [0]


async def test_what_dns_can_not_say_now_is_the_domain_s_trouble():
    async with customer(HomePeer()) as there:
        there.dns.failing.add(DOMAIN)
        answer = only(await handed_over(there.hop))
        assert (answer.code, answer.enhanced, answer.scope) == (None, "4.4.3", "next-hop")


async def test_a_foreign_server_that_wants_a_login_first_refuses_the_message():
    async with customer(HomePeer()) as there:
        there.peers[0].fault("mail", "reply", code=530, text="5.7.0 Authentication required")
        answer = only(await handed_over(there.hop))
        assert (answer.code, answer.scope) == (530, "message")


async def test_a_domain_gets_so_many_connections_at_once():
    async with customer(HomePeer(), HomePeer(), connections=2) as there:
        late = [peer.fault("dot", "late", times=None) for peer in there.peers]
        handing = [asyncio.create_task(handed_over(there.hop)) for _ in range(6)]
        await there.peers[0].until(lambda: len(there.peers[0].ledger) == 2)
        assert there.sessions == [2, 0]
        for fault in late:
            fault.times = 0
            fault.release()
        outcomes = await asyncio.gather(*handing)
        assert [codes(outcome) for outcome in outcomes] == [[250]] * 6
        assert there.sessions == [2, 0]


async def test_equal_servers_share_and_kept_connections_are_used():
    records = tuple(f"{DOMAIN} MX 5 mx{n}.{DOMAIN}" for n in range(2))
    records += tuple(f"mx{n}.{DOMAIN} A {HOSTS[n]}" for n in range(2))
    async with customer(HomePeer(), HomePeer(), records=records) as there:
        for _ in range(20):
            assert codes(await handed_over(there.hop)) == [250]
        assert sorted(there.taken) == [0, 20]
        assert sorted(there.sessions) == [0, 1]


async def test_a_greeting_is_that_of_the_first_server_that_gives_one():
    async with customer(HomePeer(), HomePeer(hostname="second.example")) as there:
        await there.peers[0].stop()
        assert "second.example" in (await there.hop.greet()).banner
        await there.hop.close()
        await there.peers[1].stop()
        with pytest.raises(NextHopTrouble, match=r"mx0.*mx1"):
            await there.hop.greet()


async def test_without_dns_there_is_no_greeting():
    async with customer(HomePeer(), records=(f"{DOMAIN} MX 0 .",)) as there:
        with pytest.raises(NextHopTrouble, match="null MX"):
            await there.hop.greet()
