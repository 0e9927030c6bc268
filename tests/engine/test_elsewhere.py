"""The process that asks the scanners says what they say. It may die or hang, and no message is lost or wrongly blamed."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from engine import clock, elsewhere
from engine.adapters.asker_words import Brief
from engine.adapters.child_process import ISOLATED
from engine.asking import Said, Troubled
from engine.core.verdict import ScannerPolicy
from engine.elsewhere import Elsewhere
from engine.ports import Answered, Mail
from engine.scanner_standing import ScannerStanding
from engine.settings import ScannerSettings
from engine.settings.addresses import TcpAddress
from engine.settings.values import Address, Name
from tests.peers.clamd_peer import ClamdPeer
from tests.peers.scanner_peer import EICAR
from tests.processes import children, environment

PATIENCE_SECONDS = 60.0  # only ends a hung test
ASKED = ((Name("clamd"), 0),)  # as the settings have it
KILLER = b"what kills the process"
# A process that dies at a message with this in it, as by a defect of ours.
DIES = (
    ISOLATED,
    "-c",
    "import os\n"
    "from engine import asker, asking\n"
    "ask = asking.Here.ask\n"
    "async def dies(self, mail, questions):\n"
    f"    if {KILLER!r} in bytes(mail.octets):\n"
    "        os._exit(3)\n"
    "    return await ask(self, mail, questions)\n"
    "asking.Here.ask = dies\n"
    "asker.main()\n",
)


def mail(number: int, content: bytes = b"hello") -> Mail:
    octets = b"Subject: %d\r\n\r\n%s\r\n" % (number, content)
    return Mail(
        id=f"m{number}", octets=octets, reverse_path="a@out.example", recipients=(Address("b@home.example"),)
    )


def askers() -> list[int]:
    """The processes that ask, among all that the tests have started."""
    return [*children(doing=b"engine.asker"), *children(doing=b"asker.main")]


@asynccontextmanager
async def asking(peer: ClamdPeer, timeout_seconds: float = 30.0, port: int = 0) -> AsyncIterator[Elsewhere]:
    port = await peer.start(port)
    policy = ScannerPolicy(name="clamd", kind="clamd", on_found="quarantine")
    settings = ScannerSettings(
        name="clamd",
        kind="clamd",
        address=TcpAddress(host="127.0.0.1", port=port),
        on_found="quarantine",
        timeout_seconds=timeout_seconds,
        connections=4,
    )
    standing = ScannerStanding(policy, connections=4, now=clock.now)
    found = Elsewhere(Brief(scanners=(settings,), policies=(policy,), log_level=100), {"clamd": standing})
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            yield found
    finally:
        await found.close()
        await peer.stop()
        assert askers() == []


async def said(asked: Elsewhere, one: Mail) -> Answered | Troubled:
    (answer,) = await asked.ask(one, ASKED)
    return answer.what


def verdict(answer: Answered | Troubled) -> str:
    assert isinstance(answer, Answered)
    return answer.verdict


async def until_asked(peer: ClamdPeer, count: int) -> None:
    while sum(one.command == "INSTREAM" for one in peer.asked) < count:
        await asyncio.sleep(0.01)


async def test_what_scanners_say_comes_back_in_order() -> None:
    async with asking(ClamdPeer()) as asked:
        contents = [EICAR if number % 3 == 0 else b"hello" for number in range(30)]
        answers = await asyncio.gather(*(said(asked, mail(n, one)) for n, one in enumerate(contents)))
        assert [verdict(one) for one in answers] == [
            "infected" if number % 3 == 0 else "clean" for number in range(30)
        ]
        assert asked.posts["clamd"].answered


async def test_no_password_is_in_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFO_PASSWORD", "open sesame")
    async with asking(ClamdPeer()) as asked:
        assert verdict(await said(asked, mail(1))) == "clean"
        (pid,) = askers()
        assert b"open sesame" not in environment(pid)


async def test_of_a_scanner_that_is_down_it_is_told_and_that_it_is_back() -> None:
    peer = ClamdPeer()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with asking(peer, port=port) as asked:
        assert verdict(await said(asked, mail(1))) == "clean"
        await peer.stop()
        down = await said(asked, mail(2))
        assert isinstance(down, Troubled)
        assert down.blame == "scanner"
        standing = asked.posts["clamd"]
        assert (standing.failures, standing.gate()) == (1, "closed")
        resting = await said(asked, mail(3))
        assert isinstance(resting, Troubled)
        assert resting.resting
        await peer.start(port)
        while standing.gate() != "probe":
            await asyncio.sleep(0.05)
        assert verdict(await said(asked, mail(4))) == "clean"
        assert (standing.failures, standing.gate()) == (0, "open")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_where_it_dies_or_hangs_it_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    monkeypatch.setattr(elsewhere, "BEAT_SECONDS", 2.0)
    peer = ClamdPeer()
    async with asking(peer) as asked:
        assert verdict(await said(asked, mail(0))) == "clean"
        peer.fault("answer", "stall", matching="INSTREAM", times=3)
        waiting = [asyncio.create_task(said(asked, mail(n, EICAR))) for n in range(3)]
        await until_asked(peer, 4)
        (pid,) = askers()
        os.kill(pid, number)
        assert [verdict(one) for one in await asyncio.gather(*waiting)] == ["infected"] * 3
        assert askers() != [pid]


async def test_one_that_does_not_hang_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elsewhere, "BEAT_SECONDS", 1.0)
    async with asking(ClamdPeer()) as asked:
        assert verdict(await said(asked, mail(0))) == "clean"
        before = askers()
        await asyncio.sleep(2.5)
        assert verdict(await said(asked, mail(1))) == "clean"
        assert askers() == before


async def test_a_message_at_which_it_dies_is_told_from_those_beside_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(elsewhere, "PROGRAM", DIES)
    monkeypatch.setattr(elsewhere, "AGAIN_SECONDS", 0.1)
    async with asking(ClamdPeer()) as asked:
        answers = await asyncio.gather(
            *(said(asked, mail(n, KILLER if n == 5 else b"hello")) for n in range(10))
        )
        killer = answers.pop(5)
        assert isinstance(killer, Troubled)
        assert (killer.blame, killer.text) == ("message", "what asks it broke at this message: exit code 3")
        assert [verdict(one) for one in answers] == ["clean"] * 9


async def test_where_it_can_not_be_started_all_scanners_are_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    async with asking(ClamdPeer()) as asked:
        trouble = await said(asked, mail(1))
        assert isinstance(trouble, Troubled)
        assert "can't be started" in trouble.text
        assert trouble.blame == "scanner"
        assert asked.posts["clamd"].gate() == "closed"


async def test_a_question_that_is_given_up_leaves_nothing_behind() -> None:
    peer = ClamdPeer()
    async with asking(peer) as asked:
        assert verdict(await said(asked, mail(0))) == "clean"
        peer.fault("answer", "stall", matching="INSTREAM", times=1)
        waiting = asyncio.create_task(said(asked, mail(1)))
        await until_asked(peer, 2)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert verdict(await said(asked, mail(2))) == "clean"


async def test_a_scanner_that_is_too_slow_is_given_up_there() -> None:
    peer = ClamdPeer()
    async with asking(peer, timeout_seconds=0.5) as asked:
        assert verdict(await said(asked, mail(0))) == "clean"
        peer.fault("answer", "stall", matching="INSTREAM", times=1)
        (answer,) = await asked.ask(mail(1), ASKED)
        assert answer == Said(Troubled("no answer within 0.5 s", "message"), answer.duration_ms)
        assert answer.duration_ms >= 500
