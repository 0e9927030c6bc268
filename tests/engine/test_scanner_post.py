"""Who is to blame when a scanner gives no answer, and who waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from email import message_from_bytes
from typing import Any

import pytest

from engine.core.attachments import Rules, is_plain
from engine.core.verdict import KILLS
from engine.ports import Answered, Mail, ScannerTrouble
from engine.scanner_post import ALONE_SECONDS, SAMPLE, ScannerPost
from engine.scanner_standing import LONGEST_REST, Resting
from tests.engine.rig import Clock
from tests.engine.scripted import CLEAN, GONE, KILLER, ScriptedScanner

PATIENCE_SECONDS = 10.0


def a_mail(number: int = 1, octets: bytes = b"Subject: harmless\r\n\r\n") -> Mail:
    return Mail(id=f"message {number}", octets=octets, reverse_path="", recipients=())


def killer(number: int = 666) -> Mail:
    return a_mail(number, b"\r\n" + KILLER)


async def trouble(post: ScannerPost, mail: Mail | None = None, killed: int = 0) -> ScannerTrouble:
    with pytest.raises(ScannerTrouble) as caught:
        await post.ask(mail or a_mail(), killed=killed)
    return caught.value


async def until(true: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not true():
            await asyncio.sleep(0)


async def test_a_scanner_that_is_not_there_rests_and_is_probed_by_one() -> None:
    clock, scanner = Clock(), ScriptedScanner()
    post = scanner.post(clock)
    scanner.down = GONE
    said = await trouble(post)
    assert (said.blame, said.text, post.gate()) == ("scanner", GONE, "closed")
    assert isinstance(await trouble(post), Resting)
    assert scanner.asked == ["message 1"]  # nobody asked a second time
    assert post.probe_at is not None
    clock.at = post.probe_at
    assert post.gate() == "probe"
    scanner.down = None
    assert await post.ask(a_mail(), killed=0) == CLEAN
    assert (post.gate(), post.failures, post.down_since) == ("open", 0, None)


async def test_each_rest_is_longer_up_to_a_limit_and_down_since_stays() -> None:
    clock, scanner = Clock(), ScriptedScanner()
    post = scanner.post(clock)
    scanner.down = GONE
    began, rests = clock.at, []
    for _ in range(9):
        await trouble(post)
        assert post.probe_at is not None
        rests.append(post.probe_at - clock.at)
        clock.at = post.probe_at
    assert rests == sorted(rests)
    assert rests[-1] == LONGEST_REST
    assert post.down_since == began


async def test_while_one_probes_nobody_else_does() -> None:
    clock, scanner = Clock(), ScriptedScanner()
    post = scanner.post(clock)
    scanner.down = GONE
    await trouble(post)
    clock.later(minutes=5)
    scanner.down = None
    scanner.hang()
    probe = asyncio.create_task(post.ask(a_mail(1), killed=0))
    await until(lambda: scanner.checks)
    assert post.gate() == "closed"
    assert isinstance(await trouble(post, a_mail(2)), Resting)
    scanner.go_on()
    assert await probe == CLEAN
    assert post.gate() == "open"


async def test_a_probe_that_is_given_up_leaves_the_way_free() -> None:
    clock, scanner = Clock(), ScriptedScanner()
    post = scanner.post(clock)
    scanner.down = GONE
    await trouble(post)
    clock.later(minutes=5)
    scanner.down = None
    scanner.hang()
    probe = asyncio.create_task(post.ask(a_mail(1), killed=0))
    await until(lambda: scanner.checks)
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)
    assert post.gate() == "probe"
    await post.close()
    assert scanner.closed


async def test_one_that_hangs_takes_one_time_out_and_nobody_is_blamed_but_it() -> None:
    scanner = ScriptedScanner(connections=3)
    scanner.timeout_seconds = 0.05
    post = scanner.post(Clock())
    scanner.hang()
    asked = (post.ask(a_mail(n), killed=0) for n in range(50))
    said = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(one, ScannerTrouble) and one.blame == "scanner" for one in said)
    assert len(scanner.asked) == 3
    assert scanner.checks == 1
    assert sum(isinstance(one, Resting) for one in said) == 47
    scanner.go_on()


async def test_a_message_that_takes_too_long_while_it_is_well_is_to_blame_and_the_others_go_on() -> None:
    scanner = ScriptedScanner()
    scanner.timeout_seconds = 0.05
    scanner.breaks_at = lambda mail: False

    async def slow(mail: Mail) -> Answered:
        if mail.id == "message 7":
            await asyncio.sleep(PATIENCE_SECONDS)
        return CLEAN

    scanner.scan = slow  # type: ignore[method-assign]
    post = scanner.post(Clock())
    blamed = asyncio.create_task(trouble(post, a_mail(7)))
    assert await post.ask(a_mail(8), killed=0) == CLEAN
    assert (await blamed).blame == "message"
    assert post.gate() == "open"


async def test_what_crashes_it_is_to_blame_and_if_it_stays_away_it_rests() -> None:
    scanner = ScriptedScanner()
    post = scanner.post(Clock())
    assert (await trouble(post, killer())).blame == "message"
    assert post.gate() == "open"  # started again at once

    def gone_for_good(mail: Mail) -> bool:
        scanner.down = GONE
        return True

    scanner.breaks_at = gone_for_good
    assert (await trouble(post, killer())).blame == "message"
    assert post.gate() == "closed"
    assert post.trouble == GONE


async def test_a_suspect_is_asked_about_only_while_the_scanner_is_well() -> None:
    scanner = ScriptedScanner()
    post = scanner.post(Clock())
    scanner.rubbish = True
    assert (await trouble(post, killed=1)).blame == "scanner"
    assert scanner.asked == []
    assert post.gate() == "closed"


async def test_suspects_go_one_by_one() -> None:
    scanner = ScriptedScanner()
    post = scanner.post(Clock())
    said = await asyncio.gather(*(post.ask(a_mail(n), killed=1) for n in range(4)), return_exceptions=True)
    assert said == [CLEAN] * 4
    assert set(scanner.together) == {1}


async def test_in_the_end_a_suspect_is_asked_about_alone_so_that_no_other_breaks_with_it() -> None:
    scanner = ScriptedScanner()
    post = scanner.post(Clock())
    before = [asyncio.create_task(post.ask(a_mail(n), killed=0)) for n in range(2)]
    await until(lambda: len(scanner.asked) == 2)
    suspect = asyncio.create_task(trouble(post, killer(), killed=KILLS - 1))
    await asyncio.sleep(0)
    behind = [asyncio.create_task(post.ask(a_mail(n), killed=0)) for n in range(2, 30)]
    assert (await suspect).blame == "message"
    assert await asyncio.gather(*before, *behind) == [CLEAN] * 30
    assert scanner.together[scanner.asked.index("message 666")] == 1


async def test_others_stand_back_for_a_suspect_for_so_long_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ALONE_SECONDS < 30
    monkeypatch.setattr("engine.scanner_post.ALONE_SECONDS", 0.02)
    scanner = ScriptedScanner()
    slow = asyncio.Event()

    async def scan(mail: Mail) -> Answered:
        if mail.id == "message 666":
            await slow.wait()
        return CLEAN

    scanner.scan = scan  # type: ignore[method-assign]
    post = scanner.post(Clock())
    suspect = asyncio.create_task(post.ask(a_mail(666), killed=KILLS - 1))
    await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await post.ask(a_mail(1), killed=0) == CLEAN
    assert not suspect.done()
    slow.set()
    assert await suspect == CLEAN


@pytest.mark.parametrize("how", ["crash", "hang"])
async def test_however_many_messages_break_it_one_that_answers_the_sample_is_up(how: str) -> None:
    scanner = ScriptedScanner()
    scanner.timeout_seconds = 0.05

    async def hang(mail: Mail) -> Answered:
        if KILLER in bytes(mail.octets):
            await asyncio.sleep(PATIENCE_SECONDS)
        return CLEAN

    if how == "hang":
        scanner.scan = hang  # type: ignore[method-assign]
    post = scanner.post(Clock())
    for number in range(25):
        assert (await trouble(post, killer(number), killed=number % KILLS)).blame == "message"
        assert (post.gate(), post.failures) == ("open", 0)
    assert await post.ask(a_mail(), killed=0) == CLEAN


async def test_one_that_rests_is_up_once_it_answers_the_sample_whatever_the_message_does_that_probes() -> (
    None
):
    clock, scanner = Clock(), ScriptedScanner()
    post = scanner.post(clock)
    scanner.down = GONE
    await trouble(post)
    clock.later(minutes=5)
    scanner.down = None
    assert (await trouble(post, killer())).blame == "message"
    assert (post.gate(), post.failures) == ("open", 0)
    assert await post.ask(a_mail(), killed=0) == CLEAN


def test_the_sample_has_what_mail_usually_has() -> None:
    sample = message_from_bytes(bytes(SAMPLE.octets))
    kinds = [part.get_content_type() for part in sample.walk()]
    assert kinds == ["multipart/mixed", "text/plain", "text/html", "application/octet-stream"]
    assert not [part.defects for part in sample.walk() if part.defects]
    assert not is_plain(SAMPLE.octets, Rules((), ()))  # a process has to read it
    assert 1 << 15 < len(SAMPLE.octets) < 1 << 17


async def test_a_fault_of_ours_is_a_trouble_like_another(caplog: pytest.LogCaptureFixture) -> None:
    scanner = ScriptedScanner()
    scanner.answer = lambda mail: CLEAN if mail.id == "check" else 1 / 0  # type: ignore[return-value]
    post = scanner.post(Clock())
    said = await trouble(post)
    assert (said.blame, said.text) == ("message", "asking broke: ZeroDivisionError: division by zero")
    assert "asking broke" in caplog.text


async def test_no_more_are_asked_at_once_than_there_are_connections() -> None:
    scanner = ScriptedScanner(connections=2)
    post = scanner.post(Clock())
    await asyncio.gather(*(post.ask(a_mail(n), killed=n % 2) for n in range(40)))
    assert max(scanner.together) == 2


@pytest.mark.parametrize("killers", [1, 3])
async def test_nobody_innocent_is_blamed_three_times(killers: int) -> None:
    """However they come together: each in its rounds, as the worker would, the killers with them."""
    scanner = ScriptedScanner()
    post = scanner.post(Clock())
    killed = dict.fromkeys(["good 1", "good 2", "good 3", *(f"bad {n}" for n in range(killers))], 0)
    waiting = set(killed)
    for _ in range(KILLS):
        mails = [
            Mail(id=one, octets=KILLER if one.startswith("bad") else b"", reverse_path="", recipients=())
            for one in sorted(waiting)
        ]
        asked = (post.ask(mail, killed=killed[mail.id]) for mail in mails)
        for mail, said in zip(mails, await asyncio.gather(*asked, return_exceptions=True), strict=True):
            if isinstance(said, ScannerTrouble):
                killed[mail.id] += said.blame == "message"
            else:
                waiting.discard(mail.id)
    assert waiting == {one for one in killed if one.startswith("bad")}
    assert {killed[one] for one in waiting} == {KILLS}
