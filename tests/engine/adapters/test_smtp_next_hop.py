"""Connections kept, shared, replaced and ended; other event loops; aiosmtpd as a server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP as AiosmtpdSession
from aiosmtpd.smtp import AuthResult, Envelope, Session

from engine.adapters import smtp_access, smtp_slots
from engine.adapters.smtp_next_hop import NextHopAccess, NextHopTimeouts, SmtpNextHop
from engine.ports import NextHopTrouble, NoAnswer
from tests.engine.adapters.handing_over import (
    FINGERPRINT,
    NO_PIPELINING,
    PREFIX,
    Durable,
    codes,
    handed_over,
    next_hop,
    only,
    transaction,
)
from tests.engine.adapters.scripted_smtp import CLOSE, DROP, EXTENSIONS, SILENCE, ScriptedServer
from tests.peers.certificates import server_context, write_certificate


async def test_a_connection_is_used_again():
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        for _ in range(5):
            assert codes(await handed_over(hop)) == [250]
        assert len(server.connections) == 1
        assert "RSET" not in server.verbs()


async def test_a_connection_that_the_server_closed_while_idle_is_replaced():
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        await handed_over(hop)
        server.connections[0].writer.transport.abort()
        await server.connections[0].over.wait()
        assert codes(await handed_over(hop)) == [250]
        assert len(server.connections) == 2


@pytest.mark.parametrize("extensions", [EXTENSIONS, NO_PIPELINING])
@pytest.mark.parametrize("way", [DROP, CLOSE, "421 4.4.2 you were idle"])
async def test_a_kept_connection_that_fails_at_mail_is_replaced_once(extensions, way):
    durable = Durable()
    async with ScriptedServer(extensions) as server, next_hop(server.port) as hop:
        await handed_over(hop)
        ways = iter([way])
        server.on("MAIL", lambda line: next(ways, "250 ok"))
        assert codes(await hop.hand_over(transaction(), durable)) == [250]
        assert durable.calls == 1
        assert [taken.connection for taken in server.taken] == [0, 1]


async def test_a_fresh_connection_that_fails_at_mail_is_not_replaced():
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        server.on("MAIL", "421 4.3.2 not now")
        assert codes(await handed_over(hop)) == [421]
        assert len(server.connections) == 1


async def test_a_kept_connection_that_fails_twice_is_trouble():
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        await handed_over(hop)
        server.on("MAIL", "421 4.3.2 not now")
        assert codes(await handed_over(hop)) == [421]
        assert len(server.connections) == 2


async def test_a_kept_connection_lost_after_mail_is_not_tried_again():
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        await handed_over(hop)
        server.on("RCPT", DROP)
        server.on("MAIL", b"250 ok\r\n")
        assert codes(await handed_over(hop)) == [None]
        assert len(server.connections) == 1


@pytest.mark.parametrize("octets", [b"250 surprise\r\n", b"2", b"421 4.4.2 idle too long\r\n"])
async def test_octets_on_an_idle_connection_end_it(octets):
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        await handed_over(hop)
        server.connections[0].writer.write(octets)
        await server.connections[0].over.wait()
        server.on("MAIL", "550 5.7.1 no")
        server.on("RCPT", "503 no")
        server.on("DATA", "503 no")
        assert codes(await handed_over(hop)) == [550]
        assert len(server.connections) == 2


async def test_after_so_many_messages_a_connection_is_ended_with_quit():
    async with ScriptedServer() as server, next_hop(server.port, messages_per_connection=2) as hop:
        for _ in range(5):
            await handed_over(hop)
        assert [taken.connection for taken in server.taken] == [0, 0, 1, 1, 2]
        await server.connections[1].over.wait()
        assert server.verbs(0)[-1] == server.verbs(1)[-1] == "QUIT"


async def test_there_are_never_more_connections_than_allowed():
    async with (
        ScriptedServer() as server,
        next_hop(server.port, connections=3, messages_per_connection=4) as hop,
    ):
        outcomes = await asyncio.gather(*(handed_over(hop) for _ in range(60)))
        assert {code for outcome in outcomes for code in codes(outcome)} == {250}
        assert len(server.taken) == 60
        assert server.most_open == 3


async def test_who_waits_while_no_session_can_be_opened_shares_the_outcome():
    async with ScriptedServer() as server, next_hop(server.port, connections=1) as hop:
        server.on("GREETING", "421 4.3.2 not now")
        outcomes = await asyncio.gather(*(handed_over(hop) for _ in range(10)))
        assert [codes(outcome) for outcome in outcomes] == [[421]] * 10
        assert {only(outcome).scope for outcome in outcomes} == {"next-hop"}
        assert {outcome.address for outcome in outcomes} == {f"127.0.0.1:{server.port}"}
        assert len(server.connections) == 1

        server.on("GREETING", "220 again")
        assert codes(await handed_over(hop)) == [250]  # who comes later asks for himself


def few_at_once(server: ScriptedServer, most: int) -> None:
    """More connections than these the server refuses."""
    refusal = "421 4.7.0 too many connections from 127.0.0.1"
    server.on("GREETING", lambda line: "220 well" if server.open <= most else refusal)


async def refused(server: ScriptedServer) -> int:
    await server.until(lambda: all(c.over.is_set() for c in server.connections if not c.lines))
    return sum(not connection.lines for connection in server.connections)


@pytest.mark.parametrize("most", [1, 2])
async def test_a_server_that_allows_fewer_connections_gets_everything_by_those(most):
    async with ScriptedServer() as server, next_hop(server.port, messages_per_connection=7) as hop:
        few_at_once(server, most)
        outcomes = await asyncio.gather(*(handed_over(hop) for _ in range(40)))
        assert [codes(outcome) for outcome in outcomes] == [[250]] * 40
        assert len(server.taken) == 40
        assert await refused(server) <= 4 - most  # each slot too many has asked once


async def test_one_more_connection_is_asked_for_after_a_while(monkeypatch):
    monkeypatch.setattr(smtp_slots, "HELD_BACK_SECONDS", 0.05)
    async with ScriptedServer() as server, next_hop(server.port, connections=2) as hop:
        few_at_once(server, 1)
        await asyncio.gather(*(handed_over(hop) for _ in range(5)))
        server.on("GREETING", "220 come in")
        await asyncio.sleep(0.1)
        await asyncio.gather(*(handed_over(hop) for _ in range(5)))
        assert server.open == 2


async def test_who_waits_for_another_s_connection_may_be_cancelled():
    async with ScriptedServer() as server, next_hop(server.port, connections=2) as hop:
        few_at_once(server, 1)
        going, goes_on = asyncio.Event(), asyncio.Event()

        async def wait() -> None:
            going.set()
            await goes_on.wait()

        first = asyncio.create_task(hop.hand_over(transaction(), Durable(wait)))
        await going.wait()
        second, third = (asyncio.create_task(handed_over(hop)) for _ in range(2))
        await server.until(lambda: len(server.connections) == 2 and server.open == 1)
        second.cancel()
        assert isinstance((await asyncio.gather(second, return_exceptions=True))[0], asyncio.CancelledError)
        goes_on.set()
        assert [codes(outcome) for outcome in await asyncio.gather(first, third)] == [[250], [250]]
        assert codes(await handed_over(hop)) == [250]
        assert await refused(server) == 1


async def test_a_server_that_takes_no_connection_is_trouble_once_nobody_has_one():
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        few_at_once(server, 0)
        outcomes = await asyncio.gather(*(handed_over(hop) for _ in range(40)))
        assert {only(outcome).scope for outcome in outcomes} == {"next-hop"}
        assert len(server.connections) == 4

        server.on("GREETING", "220 again")
        await asyncio.gather(*(handed_over(hop) for _ in range(40)))
        assert server.open == 4  # that it was down says nothing of how many it allows


async def test_a_connection_that_breaks_where_there_can_be_no_other_is_trouble():
    async with ScriptedServer() as server, next_hop(server.port, connections=2) as hop:
        few_at_once(server, 1)
        await asyncio.gather(*(handed_over(hop) for _ in range(3)))
        few_at_once(server, 0)
        server.on("MAIL", DROP)
        assert [
            only(outcome).scope for outcome in await asyncio.gather(handed_over(hop), handed_over(hop))
        ] == ["next-hop"] * 2


async def test_an_idle_connection_is_ended_after_a_while():
    timeouts = NextHopTimeouts(idle_seconds=0.05)
    async with ScriptedServer() as server, next_hop(server.port, timeouts=timeouts) as hop:
        await handed_over(hop)
        await server.until(lambda: server.open == 0)
        assert server.verbs()[-1] == "QUIT"
        assert codes(await handed_over(hop)) == [250]


async def test_close_says_quit_on_every_kept_connection():
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        await asyncio.gather(*(handed_over(hop) for _ in range(4)))
        await hop.close()
        await server.until(lambda: server.open == 0)
        assert {server.verbs(number)[-1] for number in range(len(server.connections))} == {"QUIT"}


async def test_close_does_not_wait_for_a_server_that_ignores_quit():
    timeouts = NextHopTimeouts(quit_seconds=0.05)
    async with ScriptedServer() as server, next_hop(server.port, timeouts=timeouts) as hop:
        server.on("QUIT", SILENCE)
        await handed_over(hop)
        await hop.close()
        await server.connections[0].over.wait()


async def test_greet_tells_what_the_server_offers_and_keeps_the_connection():
    extensions = ("PIPELINING", "size 36700160", "AUTH PLAIN LOGIN")
    async with ScriptedServer(extensions) as server, next_hop(server.port) as hop:
        greeting = await hop.greet()
        assert greeting.banner == "scripted.example ready"
        assert greeting.address == f"127.0.0.1:{server.port}"
        assert greeting.extensions == ("PIPELINING", "SIZE 36700160", "AUTH PLAIN LOGIN")
        assert greeting.size_octets == 36_700_160
        assert greeting.tls == "none"
        assert codes(await handed_over(hop)) == [250]
        assert len(server.connections) == 1


@pytest.mark.parametrize("size", ["SIZE", "SIZE 0", "SIZE many", "SIZE \u0663", "8BITMIME"])
async def test_a_size_that_says_nothing_is_none(size):
    async with ScriptedServer((size,)) as server, next_hop(server.port) as hop:
        assert (await hop.greet()).size_octets is None


async def test_greet_asks_anew_each_time():
    async with ScriptedServer(("SIZE 100",)) as server, next_hop(server.port, connections=1) as hop:
        assert (await hop.greet()).size_octets == 100
        server.extensions = ("SIZE 200",)
        assert (await hop.greet()).size_octets == 200
        assert server.most_open == 1


async def test_greet_says_why_there_is_no_greeting():
    async with ScriptedServer() as server, next_hop(server.port, connections=1) as hop:
        server.on("GREETING", "554 5.7.1 go away")
        with pytest.raises(NextHopTrouble, match="554 5\\.7\\.1 go away"):
            await hop.greet()
        server.on("GREETING", "220 well")
        assert (await hop.greet()).banner == "well"


@pytest.mark.parametrize("hello", ["", "a b", "a\r\nb", "tür.example"])
def test_a_host_name_that_cannot_be_said_is_refused(hello):
    with pytest.raises(ValueError, match="EHLO"):
        SmtpNextHop(NextHopAccess(name="home", host="mx"), hello)


def test_no_default_time_out_is_shorter_than_rfc_5321_asks():
    asked = {"greeting": 300, "mail": 300, "rcpt": 300, "data": 120, "data_block": 180, "final_dot": 600}
    defaults = NextHopAccess(name="home", host="mx").timeouts
    for name, seconds in asked.items():
        assert getattr(defaults, f"{name}_seconds") >= seconds
    assert smtp_access.COMMAND_SECONDS >= 300


@pytest.mark.parametrize("tls", ["none", "implicit", "required"])
def test_the_taking_over_works_on_uvloop(tls):
    uvloop = pytest.importorskip("uvloop")

    async def check() -> None:
        context = server_context()
        servers = {
            "none": ScriptedServer,
            "implicit": lambda: ScriptedServer(implicit_tls=context),
            "required": lambda: ScriptedServer(starttls=context),
        }
        content = b".x\r\n" * 500_000
        async with (
            servers[tls]() as server,
            next_hop(server.port, tls=tls, tls_fingerprint=FINGERPRINT) as hop,
        ):
            assert codes(await handed_over(hop)) == [250]
            assert codes(await handed_over(hop, content=content)) == [250]
            assert server.taken[1].octets == PREFIX + b"..x\r\n" * 500_000
            server.on("DOT", DROP)
            assert isinstance(only(await handed_over(hop)), NoAnswer)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(check())


class Keeper:
    """What aiosmtpd's server got."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []

    async def handle_DATA(self, server: AiosmtpdSession, session: Session, envelope: Envelope) -> str:
        self.envelopes.append(envelope)
        return "250 2.0.0 kept"


def right_password(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    right = data.login == b"gate" and data.password == b"hunter2-secret"
    return AuthResult(success=right, handled=right)


@asynccontextmanager
async def aiosmtpd_server(**options: Any) -> AsyncIterator[tuple[int, Keeper]]:
    keeper, loop = Keeper(), asyncio.get_running_loop()
    sessions: list[AiosmtpdSession] = []

    def session() -> AiosmtpdSession:
        sessions.append(AiosmtpdSession(keeper, hostname="home.example", loop=loop, **options))
        return sessions[-1]

    server = await loop.create_server(session, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], keeper
    finally:
        server.close()
        for each in sessions:
            if each.transport is not None:
                each.transport.abort()


async def test_aiosmtpd_gets_the_octets_as_they_are():
    content = "Subject: Käse\r\n\r\n.dot\r\n..\r\n\r\nend".encode()
    async with aiosmtpd_server(decode_data=False, enable_SMTPUTF8=True) as (port, keeper):
        async with next_hop(port) as hop:
            outcome = await handed_over(hop, "jörg@example.org", "you@example.org", content=content)
            assert codes(outcome) == [250, 250]
        (envelope,) = keeper.envelopes
        assert envelope.original_content == PREFIX + content + b"\r\n"
        assert envelope.rcpt_tos == ["jörg@example.org", "you@example.org"]
        assert "SMTPUTF8" in envelope.mail_options


@pytest.mark.parametrize("password", ["hunter2-secret", "wrong"])
async def test_aiosmtpd_with_starttls_and_authentication(password, tmp_path):
    async def reveal() -> str:
        return password

    options = {
        "tls_context": server_context(),
        "require_starttls": True,
        "auth_required": True,
        "authenticator": right_password,
    }
    async with aiosmtpd_server(**options) as (port, keeper):
        access = {"tls": "required", "tls_ca": str(write_certificate(tmp_path)), "username": "gate"}
        async with next_hop(port, secret=reveal, **access) as hop:
            outcome = await handed_over(hop)
            if password == "wrong":
                assert codes(outcome) == [535]
                assert (only(outcome).enhanced, only(outcome).scope) == ("5.7.8", "next-hop")
                assert keeper.envelopes == []
            else:
                assert codes(outcome) == [250]
                assert outcome.tls.endswith(" verified")
