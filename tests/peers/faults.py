"""Faults and hooks by rule: what all peers have in common.

A peer passes through named stages. At each one it runs the hooks that `on` put there, then looks for a fault
that `fault` put there. Tests on any thread may wait for what a peer has seen: `until` in a coroutine,
`wait_until` elsewhere. Stage and action names are checked, so that a misspelt fault cannot pass unseen.
"""

import asyncio
import inspect
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from cli.stand_ins import Conversation, Hangup, LoopbackServer

# Long enough for a loaded machine, short enough that a hung test names itself.
WAIT_SECONDS = 30.0
# A client without a limit of its own must not eat the machine's memory.
FLOOD_OCTETS = 64 * 1024 * 1024
FLOOD_LINE = b"X-Flood: " + b"x" * 60 + b"\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Occasion:
    """A stage reached: in which session (from 1), about which message number, about whom.

    `subjects` are what `matching` is looked for in: user and unique id, or reverse-path and recipients.
    """

    stage: str
    session: int
    number: int | None = None
    subjects: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True, eq=False)
class Fault:
    """One rule. `times` None means every time; the first `after` occasions that match pass unharmed.

    `octets` is how much a flood or an endless line says, how much content comes before a drop or a stall, or the
    size that is told. `pause_seconds` lies between the octets of a drip. `stalled`: what is to come before the
    stall was sent.
    """

    stage: str
    action: str
    times: int | None = 1
    after: int = 0
    number: int | None = None
    matching: str | None = None
    code: int = 451
    text: str | None = None
    octets: int | None = None
    pause_seconds: float = 0.0
    fired: int = 0
    released: bool = False
    stalled: bool = False
    _changed: Callable[[], None] = field(default=lambda: None, repr=False)

    def release(self) -> None:
        """Let a stalled or late answer go on. From any thread."""
        self.released = True
        self._changed()

    def claims(self, occasion: Occasion) -> bool:
        """Whether this fault strikes now. Counts the occasion."""
        if occasion.stage != self.stage or (self.times is not None and self.fired >= self.times):
            return False
        # An occasion without a number is about all messages (LIST, UIDL), so a number does not exclude it.
        if None not in (self.number, occasion.number) and self.number != occasion.number:
            return False
        if self.matching is not None and not any(self.matching in subject for subject in occasion.subjects):
            return False
        if self.after > 0:
            self.after -= 1
            return False
        self.fired += 1
        return True


Hook = Callable[[Occasion], Awaitable[None] | None]


class FaultyServer(LoopbackServer):
    """A loopback server with faults, hooks and a way to wait for news. `actions` maps stage to actions."""

    def __init__(self, *, actions: Mapping[str, frozenset[str]], hooks: frozenset[str], held: bool) -> None:
        super().__init__(held=held)
        self._actions = actions
        self._hook_stages = hooks | actions.keys()
        self._faults: list[Fault] = []
        self._hooks: list[tuple[str, Hook]] = []
        self._news = threading.Condition()
        self._waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    def fault(self, stage: str, action: str, **options: Any) -> Fault:
        """Add a rule; `options` are the fields of Fault. Earlier rules go first. Raises ValueError.

        Add it before the client can reach the stage: "content" comes with the answer to DATA, not after it.
        """
        if action not in self._actions.get(stage, frozenset()):
            known = ", ".join(sorted(self._actions.get(stage, self._actions.keys())))
            raise ValueError(f"no fault {action!r} at stage {stage!r}; there are: {known}")
        fault = Fault(stage=stage, action=action, _changed=self.changed, **options)
        self._faults.append(fault)
        return fault

    def heal(self) -> None:
        """Forget every rule and let go of what is stalled."""
        faults, self._faults = self._faults, []
        for fault in faults:
            fault.release()

    def on(self, stage: str, hook: Hook) -> None:
        """Call `hook` whenever the stage is reached, on the peer's loop, before any fault or answer.

        The stage `X-answered` is reached when the answer to X has been handed to the system: the client may
        by then have said more, which the peer carries out even if the hook kills the client. A hook that
        blocks (to wait for the end of a child it killed) holds up the whole peer, as it should.
        """
        if stage not in self._hook_stages:
            raise ValueError(f"no stage {stage!r}; there are: {', '.join(sorted(self._hook_stages))}")
        self._hooks.append((stage, hook))

    def changed(self) -> None:
        """Wake everybody who waits. From any thread."""
        with self._news:
            self._news.notify_all()
            waiters, self._waiters = self._waiters, []
        for loop, event in waiters:
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)

    def wait_until(self, true: Callable[[], object], timeout_seconds: float = WAIT_SECONDS) -> None:
        """Block this thread until `true()` holds. Never on the peer's own loop. Raises TimeoutError."""
        with self._news:
            if not self._news.wait_for(lambda: bool(true()), timeout_seconds):
                raise TimeoutError(f"not within {timeout_seconds} s: {inspect.getsource(true).strip()}")

    async def until(self, true: Callable[[], object], timeout_seconds: float | None = WAIT_SECONDS) -> None:
        """Wait in a coroutine, on any loop, until `true()` holds. Raises TimeoutError."""
        async with asyncio.timeout(timeout_seconds):
            while True:
                event = asyncio.Event()
                with self._news:
                    if true():
                        return
                    self._waiters.append((asyncio.get_running_loop(), event))
                await event.wait()

    async def reach(self, occasion: Occasion) -> Fault | None:
        """Run the hooks of this stage, then say which fault strikes."""
        for stage, hook in self._hooks:
            if stage == occasion.stage:
                pause = hook(occasion)
                if pause is not None:
                    await pause
        struck = next((fault for fault in self._faults if fault.claims(occasion)), None)
        if struck:
            self.changed()
        return struck

    async def stall(self, fault: Fault, conversation: Conversation) -> None:
        """Say nothing until the fault is released. Raises Hangup if the client leaves first."""
        fault.stalled = True
        self.changed()
        released = asyncio.ensure_future(self.until(lambda: fault.released, None))
        gone = asyncio.ensure_future(conversation.gone.wait())
        try:
            await asyncio.wait((released, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            released.cancel()
            gone.cancel()
        if not fault.released:
            raise Hangup


async def hang_up(conversation: Conversation) -> NoReturn:
    """Close; what was written before still arrives."""
    conversation.close()
    raise Hangup


async def reset(conversation: Conversation) -> NoReturn:
    """Break the connection: by TCP the client sees a reset, by a socket in the file system at least an end."""
    there: socket.socket = conversation._transport.get_extra_info("socket")
    there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    conversation.abort()
    raise Hangup


def half_close(conversation: Conversation) -> None:
    """Say nothing more, and go on reading."""
    conversation._transport.write_eof()


async def flood(conversation: Conversation, piece: bytes, octets: int | None) -> NoReturn:
    """Say `piece` again and again until the client leaves, or so many octets; then close."""
    block = piece * max(1, 16_384 // len(piece))
    for _ in range(-(-(octets or FLOOD_OCTETS) // len(block))):
        await conversation.write(block)
        await asyncio.sleep(0)
    await hang_up(conversation)


async def drip(conversation: Conversation, octets: bytes, pause_seconds: float) -> None:
    """Say it one octet at a time."""
    for at in range(len(octets)):
        await conversation.write(octets[at : at + 1])
        await asyncio.sleep(pause_seconds)
