"""The scanner of attachments: processes that read, die, take too long, and are replaced."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.adapters import attachment_scanner
from engine.adapters.attachment_scanner import AttachmentScanner
from engine.core.attachments import Rules
from engine.ports import Mail, ScannerTrouble
from tests.engine.attachment_reader.samples import (
    SLOW,
    attached,
    disposed,
    message,
    mixed,
    named,
    part,
    zipped,
)
from tests.processes import children, environment

PATIENCE_SECONDS = 60  # only a hang takes so long
MB = 1 << 20
FINE = attached("a.pdf", b"x" * 100)
EVIL = attached("a.zip", zipped("invoice.pdf.exe"))


def mail(octets: bytes | bytearray | memoryview) -> Mail:
    return Mail(id="m", octets=octets, reverse_path="", recipients=("info@example.com",))


def readers() -> set[int]:
    """The processes that read, of this process."""
    return set(children(doing=b"engine.attachment_reader"))


def read_octets(pid: int) -> int:
    """What a process has read so far, files and pipes."""
    (line,) = (line for line in Path(f"/proc/{pid}/io").read_text().splitlines() if line.startswith("rchar"))
    return int(line.split()[1])


async def until_there_are(count: int) -> set[int]:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(readers()) != count:
            await asyncio.sleep(0.01)
    return readers()


@pytest.fixture
async def scanner() -> AsyncIterator[AttachmentScanner]:
    rules = Rules(("*.exe",), ("application/x-msdownload",))
    scanner = AttachmentScanner("files", rules, archives=True, timeout_seconds=60, max_octets=35 * MB)
    yield scanner
    await scanner.close()
    assert readers() == set()


async def test_it_says_what_it_found(scanner: AttachmentScanner) -> None:
    found = await scanner.scan(mail(EVIL))
    assert (found.verdict, found.signature) == ("infected", "name *.exe")
    assert found.detail == "invoice.pdf.exe in a.zip"
    assert found.engine.startswith("mailgate ")


async def test_only_some_of_many_files_are_named(scanner: AttachmentScanner) -> None:
    many = mixed(*[part(f"Content-Type: a/b; name={n}.exe") for n in range(10)])
    assert sorted((await scanner.scan(mail(many))).detail.split()[-3:]) == ["7", "and", "more"]


async def test_what_is_clean_what_is_odd_and_what_can_not_be_read(scanner: AttachmentScanner) -> None:
    assert (await scanner.scan(mail(FINE))).verdict == "clean"
    odd = await scanner.scan(mail(mixed(end=False)))
    assert (odd.verdict, odd.detail) == ("clean", "MIME: CloseBoundaryNotFound")
    unread = await scanner.scan(mail(attached("a.zip", b"rubbish")))
    assert (unread.verdict, unread.detail) == ("unscannable", "a.zip is no zip archive")


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_octets_come_in_any_shape(scanner: AttachmentScanner, kind: type[bytes]) -> None:
    assert (await scanner.scan(mail(kind(EVIL)))).verdict == "infected"


async def test_one_process_reads_one_message_after_the_other(scanner: AttachmentScanner) -> None:
    for _ in range(3):
        assert (await scanner.scan(mail(FINE))).verdict == "clean"
        assert (await scanner.scan(mail(EVIL))).verdict == "infected"
    assert len(readers()) == 1


async def test_a_plain_text_needs_no_process(scanner: AttachmentScanner) -> None:
    assert (await scanner.scan(mail(message(body=b"hello\r\n")))).verdict == "clean"
    assert readers() == set()


async def test_messages_at_a_time_are_read_at_a_time(scanner: AttachmentScanner) -> None:
    answers = await asyncio.gather(*(scanner.scan(mail(octets)) for octets in (FINE, EVIL) * 2))
    assert [answer.verdict for answer in answers] == ["clean", "infected"] * 2
    assert 1 <= len(readers()) <= 4


async def test_a_large_message_is_read_and_its_process_not_kept(scanner: AttachmentScanner) -> None:
    large = mixed(
        part("Content-Type: a/b; name=a.bin", body=(b"x" * 76 + b"\r\n") * 400_000),
        part("Content-Type: a/b; name=b.exe"),
    )
    assert len(large) > attachment_scanner.LARGE_OCTETS
    assert (await scanner.scan(mail(large))).detail == "b.exe"
    await until_there_are(0)


async def test_who_waits_no_more_kills_the_process_and_the_next_message_gets_another(
    scanner: AttachmentScanner,
) -> None:
    await scanner.scan(mail(FINE))
    (before,) = readers()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2):
            await scanner.scan(mail(SLOW))
    await until_there_are(0)
    assert (await scanner.scan(mail(EVIL))).verdict == "infected"
    assert readers() != {before}


async def test_others_are_read_while_one_takes_for_ever(scanner: AttachmentScanner) -> None:
    slow = asyncio.create_task(scanner.scan(mail(SLOW)))
    await until_there_are(1)
    for _ in range(5):
        assert (await scanner.scan(mail(EVIL))).verdict == "infected"
    assert not slow.done()
    slow.cancel()
    with pytest.raises(asyncio.CancelledError):
        await slow


async def test_a_process_that_breaks_at_a_message_blames_it(scanner: AttachmentScanner) -> None:
    await scanner.scan(mail(FINE))
    (pid,) = readers()
    started = read_octets(pid)
    os.kill(pid, signal.SIGKILL)
    await until_there_are(0)
    slow = asyncio.create_task(scanner.scan(mail(SLOW)))
    (pid,) = await until_there_are(1)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while read_octets(pid) < started + len(SLOW) - len(FINE):
            await asyncio.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ScannerTrouble) as caught:
        await slow
    assert caught.value.blame == "message"
    assert caught.value.text == "the process that reads broke at it: it ended without an answer"
    assert (await scanner.scan(mail(FINE))).verdict == "clean"


async def test_a_process_that_died_while_it_waited_says_nothing_about_a_message(
    scanner: AttachmentScanner,
) -> None:
    await scanner.scan(mail(FINE))
    (pid,) = readers()
    os.kill(pid, signal.SIGKILL)
    assert (await scanner.scan(mail(EVIL))).verdict == "infected"
    assert readers() != {pid}


async def test_the_memory_of_a_process_is_bounded(
    scanner: AttachmentScanner, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = named("Content-Type: a/b; name=a.bin", body=(b"x" * 76 + b"\r\n") * 250_000)
    monkeypatch.setattr(attachment_scanner, "BASE_MEMORY_OCTETS", 100 * MB)
    monkeypatch.setattr(attachment_scanner, "MEMORY_FOR_EACH_OCTET", 1)
    small = AttachmentScanner(
        "files", Rules(("*.exe",), ()), archives=True, timeout_seconds=60, max_octets=MB
    )
    answer = await small.scan(mail(large))
    assert (answer.verdict, answer.detail) == ("unscannable", "the message takes too much memory to read")
    assert (await small.scan(mail(large.replace(b"a.bin", b"a.exe")))).signature == "name *.exe"
    await small.close()


async def test_where_no_process_can_be_started_the_scanner_is_to_blame(
    scanner: AttachmentScanner, monkeypatch: pytest.MonkeyPatch
) -> None:
    for program in ("/nowhere/python", "/bin/false"):
        monkeypatch.setattr(sys, "executable", program)
        for asked in (scanner.scan(mail(EVIL)), scanner.ping(), scanner.version()):
            with pytest.raises(ScannerTrouble) as caught:
                await asked
            assert caught.value.blame == "scanner"
            assert caught.value.text.startswith("the process that reads can't be started: ")


async def test_it_is_well_and_says_what_it_is(scanner: AttachmentScanner) -> None:
    await scanner.ping()
    assert (await scanner.version()).startswith("mailgate ")


async def test_no_password_is_in_the_environment_of_a_process(
    scanner: AttachmentScanner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFO_PASSWORD", "open sesame")
    await scanner.scan(mail(FINE))
    (pid,) = readers()
    assert b"open sesame" not in environment(pid)


async def test_a_process_outlives_the_signals_of_its_group_and_ends_with_its_gateway(
    scanner: AttachmentScanner,
) -> None:
    await scanner.scan(mail(FINE))
    (pid,) = readers()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(pid, number)
    assert (await scanner.scan(mail(EVIL))).verdict == "infected"
    assert readers() == {pid}


async def test_closed_it_can_be_asked_again(scanner: AttachmentScanner) -> None:
    await scanner.scan(mail(FINE))
    await scanner.close()
    assert readers() == set()
    assert (await scanner.scan(mail(disposed("filename=a.exe")))).verdict == "infected"
