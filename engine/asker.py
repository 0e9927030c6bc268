"""The process that asks the scanners: it is told of messages by the gateway, and tells it what the scanners say.

    python -m engine.asker FD

So what the conversations cost is spent beside what keeping and relaying cost, on another processor. Started by `engine.elsewhere`
and by nobody else; what it needs to know comes over the socket FD. Without the gateway it ends: the log knows which messages
have no verdict yet.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from typing import Final, assert_never

from engine import clock
from engine.adapters import brief as briefs
from engine.adapters.asker_words import (
    HEAD_OCTETS,
    Answer,
    Beat,
    Brief,
    FromAsker,
    Question,
    Standing,
    encoded,
    to_asker,
)
from engine.adapters.process_line import Line
from engine.asking import Here
from engine.log_lines import log_to_stderr
from engine.loops import start
from engine.ports import Mail, Octets
from engine.scanner_standing import ScannerStanding
from engine.scanners import posts_of
from engine.wire.frames import Frames

BODY_OCTETS: Final = (1 << 32) - 1  # the gateway asks about no larger message than it is told to


class Asker:
    """Who is told of messages and asks about them. For one event loop."""

    def __init__(self, here: Here) -> None:
        self.gone = asyncio.Event()  # the gateway is
        self._here = here
        self._line: Line | None = None
        self._asking: set[asyncio.Task[None]] = set()
        for post in here.posts.values():
            post.told = lambda one=post: self._say(_standing(one))  # type: ignore[misc]

    async def meet(self, end: socket.socket) -> None:
        """Be on the line with the gateway from now on."""
        frames = Frames(head_limit=HEAD_OCTETS, body_limit=BODY_OCTETS)
        self._line = Line(frames, self._hear, lambda _error: self.gone.set())
        await self._line.open(end)

    def _say(self, word: FromAsker) -> None:
        if self._line is not None:
            self._line.say(encoded(word))

    def _hear(self, head: bytes, body: Octets) -> None:
        word = to_asker(head)
        match word:
            case Question():
                task = asyncio.get_running_loop().create_task(self._ask(word, body))
                self._asking.add(task)
                task.add_done_callback(self._asking.discard)
            case Beat():
                self._say(word)
            case _:
                assert_never(word)

    async def _ask(self, question: Question, octets: Octets) -> None:
        mail = Mail(
            id=question.id,
            octets=octets,
            reverse_path=question.reverse_path,
            recipients=question.recipients,
            client_ip=question.client_ip,
            helo=question.helo,
            user=question.user,
        )
        self._say(Answer(question.number, await self._here.ask(mail, question.scanners)))


def _standing(post: ScannerStanding) -> Standing:
    return Standing(
        name=post.name,
        failures=post.failures,
        down_since=post.down_since,
        probe_at=post.probe_at,
        trouble=post.trouble,
        broke_at=post.broke_at,
        answered=post.answered,
    )


async def _serve(brief: Brief, end: socket.socket) -> None:
    """Ask for as long as the gateway is there."""
    here = Here(posts_of(brief.scanners, brief.policies, clock.now))
    asker = Asker(here)
    await asker.meet(end)
    await asker.gone.wait()
    await here.close()


def main() -> None:
    """Be the process that asks."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # to a whole group of processes; this ends with the gateway
    end = socket.socket(fileno=int(sys.argv[1]))
    try:
        brief = briefs.read(end)
    except EOFError:
        return
    assert isinstance(brief, Brief)
    os.set_inheritable(end.fileno(), False)
    log_to_stderr(brief.log_level)
    start(_serve(brief, end))


if __name__ == "__main__":
    main()
