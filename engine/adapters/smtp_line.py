"""One SMTP connection behind its set-up: runs dialogues (`engine.wire.smtp`) over a transport, one at a time.

Owns the transport, the deadline and the flow control. The first trouble of any kind ends the connection at
once and is kept in `trouble`; so does an octet that arrives while no command is outstanding, between
transactions too. Never decides what trouble means for a message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from engine.adapters.smtp_access import NextHopTimeouts
from engine.wire.smtp import Command, Dialogue
from engine.wire.smtp_reply import SmtpFault, visible


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The far side, as set-up found it. `where` is "host[address]:port", for people."""

    where: str
    address: str
    tls: str
    banner: str
    extensions: tuple[str, ...]
    offers: frozenset[str]  # the keywords of `extensions`

    @property
    def size_octets(self) -> int | None:
        """What EHLO SIZE says; None where it is absent, without a number, or 0 (RFC 1870 section 4)."""
        for line in self.extensions if "SIZE" in self.offers else ():
            keyword, _, number = line.partition(" ")
            if keyword == "SIZE" and (number := number.strip()).isascii() and number.isdecimal():
                return int(number) or None
        return None


class SmtpLine(asyncio.Protocol):
    """A connection that mail transactions may use, one after the other."""

    def __init__(self, transport: asyncio.Transport, peer: Peer, timeouts: NextHopTimeouts) -> None:
        self.peer = peer
        self.trouble: str | None = None
        self.garbled = False
        self.hung_up = False  # by the far side, and not for anything that we found wrong
        self.transactions = 0
        self.took_mail = False
        self.reset_first = False
        # Called once when an idle connection has waited long enough, or was lost.
        self.on_idle_end: Callable[[SmtpLine], None] | None = None
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._timeouts = timeouts
        self._seconds: dict[Command, float] = {
            "RSET": timeouts.command_seconds,
            "MAIL": timeouts.mail_seconds,
            "RCPT": timeouts.rcpt_seconds,
            "DATA": timeouts.data_seconds,
            "final dot": timeouts.final_dot_seconds,
            "lone dot": timeouts.final_dot_seconds,
        }
        self._dialogue: Dialogue | None = None
        self._quitting = False
        self._paused = False
        self._lost = False
        self._waiter: asyncio.Future[None] | None = None
        self._deadline: float | None = None
        self._awaiting = ""
        self._timer: asyncio.TimerHandle | None = None
        transport.set_protocol(self)

    # What a transaction does, in this order.

    async def open(self, dialogue: Dialogue) -> None:
        """Start a dialogue; returns when content may be sent, when it is over, or on trouble."""
        self._dialogue = dialogue
        self.transactions += 1
        self._write(dialogue.start())
        self._expect_reply(dialogue)
        while dialogue.phase == "envelope" and self.trouble is None:
            await self._change()

    async def send(self, octets: bytes) -> bool:
        """Send content; returns when there is room for more, False when there is no sense in more."""
        dialogue = self._dialogue
        assert dialogue is not None
        if self.trouble is not None or dialogue.phase != "content":
            return False
        self._write(octets)
        if not self._paused:
            # A far side that keeps up never pauses us; the other tasks want their turn all the same.
            await asyncio.sleep(0)
        while self._paused and self.trouble is None and dialogue.phase == "content":
            self._expect(self._timeouts.data_block_seconds, "room for more content")
            await self._change()
        self._deadline = None
        return self.trouble is None and dialogue.phase == "content"

    async def end(self, octets: bytes) -> bool:
        """Send the last of the content and the final dot, in one write, and wait for the reply.

        False where the connection was gone before: then no dot was sent.
        """
        dialogue = self._dialogue
        assert dialogue is not None
        if self.trouble is not None or dialogue.phase != "content" or self._transport.is_closing():
            return False
        dialogue.dot_sent()
        self._write(octets + b".\r\n")
        self._expect_reply(dialogue)
        while not dialogue.over and self.trouble is None:
            await self._change()
        return True

    def close_dialogue(self) -> bool:
        """Forget the dialogue; True where the connection may be used for another."""
        dialogue, self._dialogue = self._dialogue, None
        self._deadline = None
        assert dialogue is not None
        self.reset_first = dialogue.left_open
        return self.trouble is None and dialogue.reusable and not self._transport.is_closing()

    # What becomes of the connection between transactions and in the end.

    def rest(self) -> None:
        """Nobody uses the connection for now; `on_idle_end` is called after a while."""
        self._expect(self._timeouts.idle_seconds, "")

    def resume(self) -> None:
        """Somebody uses it again."""
        self._deadline = None

    async def quit(self) -> None:
        """QUIT, a short wait for the server to close, then close."""
        self._quitting = True
        self._deadline = None
        if not self._lost and not self._transport.is_closing():
            self._transport.write(b"QUIT\r\n")
        try:
            async with asyncio.timeout(self._timeouts.quit_seconds):
                while not self._lost:
                    await self._change()
        except TimeoutError:
            self.trouble = "no answer to QUIT"
        finally:
            self.drop()

    def drop(self) -> None:
        """Close at once, without QUIT and without sending what is still buffered."""
        self.trouble = self.trouble or "dropped"
        self._forget_timer()
        self._transport.abort()

    # What the transport calls.

    def data_received(self, data: bytes) -> None:
        if self._quitting:
            self._transport.close()
            return
        dialogue = self._dialogue
        if dialogue is None:
            self._fail("the server spoke unasked: " + visible(data[:200].decode("utf-8", "replace")))
            return
        try:
            answer = dialogue.receive(data)
        except SmtpFault as fault:
            self.garbled = True
            self._fail(str(fault))
            return
        if answer:
            self._write(answer)
        self._expect_reply(dialogue)
        if dialogue.phase != "envelope":
            self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self.hung_up = self.trouble is None
        self._fail(f"connection lost{self._while_waiting()}" + (f": {exc}" if exc else ""))

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._wake()

    # How it is done.

    def _write(self, octets: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(octets)

    def _fail(self, reason: str) -> None:
        if self.trouble is None:
            self.trouble = reason
        self._forget_timer()
        if not self._lost:
            self._transport.abort()
        self._wake()
        self._leave_idleness()

    def _while_waiting(self) -> str:
        dialogue = self._dialogue
        if dialogue is not None and dialogue.awaited is not None:
            return f" while waiting for the reply to {dialogue.awaited}"
        return ""

    def _leave_idleness(self) -> None:
        callback, self.on_idle_end = self.on_idle_end, None
        if callback is not None:
            callback(self)

    async def _change(self) -> None:
        """Wait until anything happened; callers look again at what they wait for."""
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # One timer serves every deadline. It is moved only when a deadline comes sooner than it would ring;
    # when it rings early it is set again. So the usual transaction costs no timer at all.

    def _expect_reply(self, dialogue: Dialogue) -> None:
        if dialogue.awaited is None:
            self._deadline = None
        else:
            self._expect(self._seconds[dialogue.awaited], dialogue.awaited)

    def _expect(self, seconds: float, awaiting: str) -> None:
        self._awaiting = awaiting
        self._deadline = self._loop.time() + seconds
        if self._timer is not None and self._timer.when() <= self._deadline:
            return
        if self._timer is not None:
            self._timer.cancel()
        if self.trouble is None:
            self._timer = self._loop.call_at(self._deadline, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._deadline is None:
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._ring)
        elif self._awaiting:
            self._fail(f"no answer in time, waiting for {self._awaiting}")
        else:
            self._deadline = None
            self._leave_idleness()

    def _forget_timer(self) -> None:
        self._deadline = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
