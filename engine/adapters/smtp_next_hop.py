"""A next hop reached by SMTP: the `NextHop` port over a few kept connections.

Owns how many connections there are, which one a transaction gets, when one is closed. A kept connection may
have been closed by the server without our knowing; if it is gone before MAIL was taken, the transaction is
tried once more, on a fresh one. Every connection counts from its opening to its closing, so there are never
more than `connections`. Where the server refuses one more while others are in use or idle, it is no trouble of
the next hop: one of those is waited for, and there are fewer for a while. Whoever waited for his turn while no
session could be opened shares that outcome: a server that is gone costs one time-out, not one for each message.
Where the server hangs up amid an envelope, because of one recipient or of how many it refused, the others get a
transaction of their own, on a fresh connection, at once: a few of them, then the next attempt goes on. Never
retries anything else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from engine.adapters.smtp_access import NextHopAccess, NextHopTimeouts, TlsMode
from engine.adapters.smtp_delivery import Delivery, settled
from engine.adapters.smtp_line import SmtpLine
from engine.adapters.smtp_measured import Measured, measure, refused_here
from engine.adapters.smtp_session import NotOpened, open_line
from engine.adapters.smtp_slots import Slots
from engine.ports import Greeting, NextHopTrouble, Outcome, Reply, Transaction
from engine.wire.smtp import ACCESS_FIRST, Dialogue, mail_command

__all__ = ["NextHopAccess", "NextHopTimeouts", "SmtpNextHop", "TlsMode"]


# Further transactions for whom a server left out when it hung up amid the envelope, each on a connection of its own.
MORE_TRANSACTIONS = 2


@dataclass(slots=True)
class _Turn:
    """Who holds a slot: with which connection, whether that may be used again, whether it could not be had beside others'."""

    line: SmtpLine | None = None
    usable: bool = False
    crowded: bool = False


class _Crowded(Exception):
    """No session could be opened, but there are others, or there will be."""


@dataclass(frozen=True, slots=True)
class Handed:
    """What came of a transaction; `not_taken` is why the server took not even MAIL, for now."""

    outcome: Outcome
    not_taken: Reply | None


class SmtpNextHop:
    """Hands messages to one server; any number of coroutines may call it at once."""

    def __init__(self, access: NextHopAccess, hello: str) -> None:
        """`hello` is our own host name, for EHLO. Raises ValueError where it can't stand in a command."""
        if not hello.isascii() or not hello.isprintable() or not hello or " " in hello:
            raise ValueError(f"hostname {hello!r} can't be said in EHLO: use printable ASCII without spaces")
        self.name = access.name
        self.access = access  # how the next connection is made
        self._hello = hello
        # A slot is held while a connection is opened, used or closed, not while it is idle.
        self._slots = Slots(access.connections)
        self._idle: list[SmtpLine] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        # When the last trouble with opening was, and which.
        self._not_opened: tuple[float, NotOpened] | None = None

    async def hand_over(self, transaction: Transaction, before_dot: Callable[[], Awaitable[None]]) -> Outcome:
        """One mail transaction; see `engine.ports.NextHop`. The duration doesn't count waiting for a slot."""
        refused = refused_here(transaction)
        if len(refused) == len(transaction.recipients):
            return Outcome(tuple(refused[place] for place in range(len(refused))), "", "none", 0)
        measured = await measure(transaction)
        return (await self.attempt(measured, refused, before_dot, time.monotonic())).outcome

    async def attempt(
        self,
        measured: Measured,
        refused: dict[int, Reply],
        before_dot: Callable[[], Awaitable[None]],
        asked: float,
    ) -> Handed:
        """The same for a transaction that was measured, of which is known whom not to ask for; since when it waits."""
        handed: Handed | None = None
        while handed is None:
            handed = await self._attempted(measured, refused, before_dot, asked)
        return handed

    async def _attempted(
        self,
        measured: Measured,
        refused: dict[int, Reply],
        before_dot: Callable[[], Awaitable[None]],
        asked: float,
    ) -> Handed | None:
        """One turn; None where another's connection is to be waited for: then there is a slot less."""
        await self._slots.take()
        started = time.monotonic()
        turn = _Turn()
        try:
            delivery = await self._delivered(turn, measured, refused, before_dot, asked)
            not_taken = delivery.not_taken
            delivery = await self._delivered_to_others(turn, delivery, measured, before_dot)
            answers, dsn = settled(delivery.answers()), delivery.wish_passed_on
            address, tls = delivery.peer.address, delivery.peer.tls
        except _Crowded:
            turn.crowded = True
            return None
        except NotOpened as trouble:
            not_taken = trouble.reply
            places = range(len(measured.transaction.recipients))
            answers = tuple(refused.get(place, not_taken) for place in places)
            address, tls, dsn = trouble.address, "none", False
        finally:
            if turn.crowded:
                self._slots.hold_back()
            else:
                self._settle(turn.line, usable=turn.usable)
        took_ms = int((time.monotonic() - started) * 1000)
        return Handed(Outcome(answers, address, tls, took_ms, dsn), not_taken)

    async def _delivered(
        self,
        turn: _Turn,
        measured: Measured,
        refused: dict[int, Reply],
        before_dot: Callable[[], Awaitable[None]],
        asked: float,
    ) -> Delivery:
        """One transaction, on a fresh connection where a kept one turns out to be gone. Raises NotOpened or _Crowded."""
        turn.line, kept = await self._line(asked)
        delivery = Delivery(turn.line, measured, refused)
        turn.usable = await delivery.run(before_dot)
        if kept and delivery.never_began:
            turn.usable = False
            turn.line.drop()
            turn.line = await self._opened()
            delivery = Delivery(turn.line, measured, refused)
            turn.usable = await delivery.run(before_dot)
        return delivery

    async def _delivered_to_others(
        self,
        turn: _Turn,
        delivery: Delivery,
        measured: Measured,
        before_dot: Callable[[], Awaitable[None]],
    ) -> Delivery:
        """Where the server hung up amid the envelope: further transactions, without whoever it hung up on.

        What it does on the other connections says nothing of the next hop: the next message will show it.
        """
        for _ in range(MORE_TRANSACTIONS):
            again = delivery.to_ask_again
            if not again or turn.line is None:
                break
            turn.usable = False
            turn.line.drop()
            try:
                turn.line = await open_line(self.access, self._hello)
            except NotOpened:
                break
            answered = {n: answer for n, answer in enumerate(delivery.answers()) if n not in again}
            another = Delivery(turn.line, measured, answered, again)
            turn.usable = await another.run(before_dot)
            if another.never_began:
                break
            delivery = another
        return delivery

    async def greet(self) -> Greeting:
        """A new session, kept for use afterwards. Raises NextHopTrouble."""
        await self._slots.take()
        line: SmtpLine | None = None
        try:
            if self._idle:
                await self._wake(self._idle.pop()).quit()
            line = await open_line(self.access, self._hello)
        except NotOpened as trouble:
            raise NextHopTrouble(trouble.reply.said) from trouble
        finally:
            self._settle(line, usable=line is not None)
        peer = line.peer
        return Greeting(peer.banner, peer.address, peer.extensions, peer.size_octets, peer.tls)

    async def refusal(self) -> str | None:
        """Return what is said to MAIL where a session has to log in or begin TLS first; None where mail is taken, or
        nobody can say. To be asked behind `greet`, whose session it is. No message is sent.
        """
        asked = Dialogue(mail=mail_command(""), recipients=(), pipelining=False)
        line: SmtpLine | None = None
        usable = False
        await self._slots.take()
        try:
            line, _ = await self._line(time.monotonic())
            await line.open(asked)
            usable = line.close_dialogue()
        except NotOpened:
            return None  # it comes and goes
        finally:
            self._settle(line, usable=usable)
        reply = asked.mail_reply
        return f"{reply.code} {reply.text}" if reply is not None and reply.code == ACCESS_FIRST else None

    @property
    def has_idle(self) -> bool:
        """Whether a kept connection waits for use."""
        return bool(self._idle)

    async def close(self) -> None:
        """QUIT and close what is idle; what is in use follows when it is done."""
        self._closed = True
        while self._idle:
            self._in_background(self._wake(self._idle.pop()).quit())
        while self._tasks:
            await asyncio.gather(*self._tasks)

    async def _line(self, asked: float) -> tuple[SmtpLine, bool]:
        """A connection for who asked at that time, and whether it is a kept one. Raises NotOpened or _Crowded."""
        while self._idle:
            line = self._wake(self._idle.pop())
            if line.trouble is None:
                return line, True
            line.drop()
        if self._not_opened is not None and self._not_opened[0] > asked:
            trouble = self._not_opened[1]
            raise NotOpened(trouble.reply, address=trouble.address)
        return await self._opened(), False

    async def _opened(self) -> SmtpLine:
        try:
            return await open_line(self.access, self._hello)
        except NotOpened as trouble:
            if self._slots.beside_others(len(self._idle)):
                raise _Crowded from trouble
            self._slots.release_all()
            self._not_opened = (time.monotonic(), trouble)
            raise

    def _settle(self, line: SmtpLine | None, *, usable: bool) -> None:
        """Keep the connection or end it; the slot becomes free when that is done."""
        if line is None or not usable or line.trouble is not None:
            if line is not None:
                line.drop()
            self._slots.give()
        elif self._closed or line.transactions >= self.access.messages_per_connection:
            self._in_background(self._quit_and_release(line))
        else:
            self._rest(line)
            self._idle.append(line)
            self._slots.give()

    def _rest(self, line: SmtpLine) -> None:
        line.on_idle_end = self._idle_ended
        line.rest()

    @staticmethod
    def _wake(line: SmtpLine) -> SmtpLine:
        line.on_idle_end = None
        line.resume()
        return line

    def _idle_ended(self, line: SmtpLine) -> None:
        if line.trouble is not None:
            self._idle.remove(line)
        elif self._slots.wanted():
            # Somebody is about to take an idle connection; look again later.
            self._rest(line)
        else:
            self._in_background(self._quit_idle(line))

    async def _quit_idle(self, line: SmtpLine) -> None:
        await self._slots.take()
        # While we waited for the slot somebody may have taken the connection, which is as well.
        if line in self._idle:
            self._idle.remove(line)
            await self._quit_and_release(line)
        else:
            self._slots.give()

    async def _quit_and_release(self, line: SmtpLine) -> None:
        try:
            await line.quit()
        finally:
            self._slots.give()

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
