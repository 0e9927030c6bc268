"""The process that listens: it starts or says why not, is started again, and is gone when it is to be gone."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path

import pytest

from engine import listening
from engine.acceptance import Acceptance
from engine.adapters import listener_process
from engine.adapters.listener_brief import Brief
from engine.adapters.smtp_listener_access import ListenerAccess, ListenTrouble, bound
from engine.adapters.smtp_reception import Terms
from engine.core.policy import Policy
from engine.core.relaying import Rules
from engine.listening import Listening, NotStarted
from engine.settings.values import FreeSpace
from store.events import Submitted
from tests.engine.rig import PATIENCE_SECONDS, Rig
from tests.processes import children

SAID = (b"EHLO a.example", b"MAIL FROM:<anna@example.com>", b"RCPT TO:<bob@customer.example>", b"DATA")


def brief(port: int = 0, certificate: tuple[str, str] | None = None) -> Brief:
    rules = Rules(allow=(ip_network("127.0.0.1/32"),), postmaster="p@example.com")
    terms = Terms(hostname="gate.example.com", rules=rules, max_size_octets=1 << 20, max_recipients=10)
    return Brief(
        access=ListenerAccess(addresses=[("127.0.0.1", port)], terms=terms, certificate=certificate),
        policy=Policy(version="p", hostname="gate.example.com", postmaster="p@example.com", domains=()),
        sockets=(),
        folder=None,
        free_space=FreeSpace("0%"),
        log_level=100,
    )


@asynccontextmanager
async def listened(rig: Rig) -> AsyncIterator[tuple[Listening, int]]:
    """Listen on a port; yields that, and watches it."""
    (free,) = await bound([("127.0.0.1", 0)])
    port = free.getsockname()[1]
    free.close()
    found = Listening(brief(port), Acceptance(journal=rig.journal, worker=None), rig.budget)
    await found.start()
    watching = asyncio.create_task(found.run())
    try:
        yield found, port
    finally:
        await found.stop(0)
        await watching


def porters() -> list[int]:
    """The processes that listen, among all that the tests have started."""
    return children(doing=b"engine.porter")


async def submit(port: int) -> bytes:
    """One message; returns the last answer, b"" where the connection broke."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        answer = await reader.readline()
        for line in (*SAID, b"Subject: hello\r\n\r\nhello\r\n."):
            writer.write(line + b"\r\n")
            answer = await reader.readline()
            while answer[3:4] == b"-":
                answer = await reader.readline()
        writer.close()
        return answer


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not true():
            await asyncio.sleep(0.01)


async def test_it_listens_and_is_gone_when_it_is_stopped(sqlite_url: str) -> None:
    async with Rig(sqlite_url, works=False) as rig:
        async with listened(rig) as (_, port):
            (porter,) = porters()
            assert (await submit(port)).startswith(b"250 2.0.0 Ok: kept as ")
        assert len(rig.events(Submitted)) == 1
        assert porter not in porters()
        (free,) = await bound([("127.0.0.1", port)])
        free.close()


async def test_killed_it_is_started_again_and_clients_wait(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(listening, "AGAIN_SECONDS", 0.1)
    async with Rig(sqlite_url, works=False) as rig, listened(rig) as (_, port):
        for _ in range(2):
            (porter,) = porters()
            os.kill(porter, signal.SIGKILL)
            await until(lambda: porters() != [porter])  # noqa: B023 - awaited at once
            assert (await submit(port)).startswith(b"250 ")
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    assert "the process that listens is gone (SIGKILL)" in caplog.text


async def test_stopped_while_it_is_to_be_started_again_it_is_not(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Rig(sqlite_url, works=False) as rig:
        async with listened(rig):
            (porter,) = porters()
            os.kill(porter, signal.SIGKILL)
            await until(lambda: "is gone" in caplog.text)
        assert porters() == []


async def test_it_says_why_it_can_t_listen(sqlite_url: str, tmp_path: Path) -> None:
    missing = str(tmp_path / "none.pem")
    async with Rig(sqlite_url, works=False) as rig:
        acceptance = Acceptance(journal=rig.journal, worker=None)
        unable = Listening(brief(certificate=(missing, missing)), acceptance, rig.budget)
        with pytest.raises(ListenTrouble, match=r"listen\.tls_cert: .*none\.pem can't be read"):
            await unable.start()
        await unable.stop(0)
        assert porters() == []


@pytest.mark.parametrize(
    ("executable", "program", "said"),
    [
        (sys.executable, ("-c", "pass"), "the process that listens ended at its start"),
        ("/nowhere/python", (), "the process that listens can't be started"),
    ],
)
async def test_where_it_ends_at_once_that_is_said(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, executable: str, program: tuple[str, ...], said: str
) -> None:
    monkeypatch.setattr(listener_process, "PROGRAM", program)
    monkeypatch.setattr(sys, "executable", executable)
    async with Rig(sqlite_url, works=False) as rig:
        found = Listening(brief(), Acceptance(journal=rig.journal, worker=None), rig.budget)
        with pytest.raises(NotStarted, match=said):
            await found.start()
        await found.stop(0)
