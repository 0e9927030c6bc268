"""What the peers of clamd, spamd and rspamd have in common: questions noted, and faults on the way to the answer.

Stages: "connect" (before anything is read), "content" (amid the message, after `octets` of it) and "answer" (to whatever
was asked; `matching` is looked for in the command and in the message). What "answer" can be:

    reply         `text` instead of the answer (what that means, each peer says)
    drop          close without a word            reset     break the connection without a word
    drop-mid      close after half the answer     reset-mid break it there
    stall         nothing until it is released    late      the answer after `pause_seconds`
    garbage       octets that are no answer       flood     such octets without end
    drip          the answer octet by octet

A peer that is down: `stop` it (`PeerThread.go_away`), and connections are refused until it is started again at its port.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

from cli.stand_ins import Conversation, Hangup
from tests.peers.faults import Fault, FaultyServer, Occasion, drip, flood, hang_up, reset

__all__ = ["EICAR", "GTUBE", "Asked", "ScannerPeer"]

# In halves, so that no scanner of this machine finds them here.
EICAR = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR" + b"-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
GTUBE = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*" + b"GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"

GARBAGE = b"\x00\xff\xfe rubbish \x00\r\n\r\n\x00"
# A fault amid the content strikes after so many octets unless it says another number.
CONTENT_BEFORE_FAULT_OCTETS = 1
# As many octets of content are read at once.
PIECE_OCTETS = 65_536

ACTIONS = {
    "connect": frozenset({"drop", "reset", "stall"}),
    "content": frozenset({"drop", "reset", "stall"}),
    "answer": frozenset(
        {"reply", "drop", "drop-mid", "reset", "reset-mid", "stall", "late", "garbage", "flood", "drip"}
    ),
}


@dataclass(slots=True, kw_only=True)
class Asked:
    """One question, noted before it is answered. `headers` are what came along with it, names in lower case.

    `octets` is the message, None where none came or the peer keeps none. `reply` is set when the answer was given whole.
    """

    session: int
    at_seconds: float
    command: str
    headers: tuple[tuple[str, str], ...] = ()
    octets: bytes | None = None
    size_octets: int = 0
    fault: str | None = None
    reply: bytes | None = None

    def header(self, name: str) -> str | None:
        """The first value of a header, None if it wasn't given."""
        return next((value for found, value in self.headers if found == name.lower()), None)

    def all(self, name: str) -> list[str]:
        """Every value of a header."""
        return [value for found, value in self.headers if found == name.lower()]


class ScannerPeer(FaultyServer):
    """`keep_octets` False forgets the messages: for loads. `sessions` counts connections, `open_sessions` those that are open.

    `unanswered` are commands that are read and never answered.
    """

    def __init__(
        self, *, keep_octets: bool = True, actions: Mapping[str, frozenset[str]] | None = None
    ) -> None:
        super().__init__(actions={**ACTIONS, **(actions or {})}, hooks=frozenset({"answered"}), held=False)
        self.keep_octets = keep_octets
        self.asked: list[Asked] = []
        self.sessions = 0
        self.open_sessions = 0
        self.unanswered: set[str] = set()

    def questions(self, command: str) -> list[Asked]:
        """What was asked by this command, in order."""
        return [asked for asked in self.asked if asked.command == command]

    async def converse(self, conversation: Conversation) -> None:
        self.sessions += 1
        self.open_sessions += 1
        self.changed()
        try:
            session = self.sessions
            fault = await self.reach(Occasion(stage="connect", session=session))
            if fault:
                await self._break(fault, conversation)
            await self.serve(conversation, session)
        finally:
            self.open_sessions -= 1
            self.changed()

    async def serve(self, conversation: Conversation, session: int) -> None:
        """Read questions and answer them."""
        raise NotImplementedError

    def note(
        self,
        session: int,
        command: str,
        headers: tuple[tuple[str, str], ...] = (),
        octets: bytes | None = None,
    ) -> Asked:
        """Note a question."""
        asked = Asked(
            session=session,
            at_seconds=time.monotonic(),
            command=command,
            headers=headers,
            octets=octets if self.keep_octets else None,
            size_octets=len(octets or b""),
        )
        self.asked.append(asked)
        self.changed()
        return asked

    async def amid(self, conversation: Conversation, session: int) -> Fault | None:
        """Say which fault strikes amid the message that comes now."""
        return await self.reach(Occasion(stage="content", session=session))

    async def read_amid(self, conversation: Conversation, count: int, had: int, fault: Fault | None) -> bytes:
        """So many octets of the message, after `had` of it; or as many as come before the fault. Raises Hangup."""
        if fault is None or fault.released:
            return await conversation.read_octets(count)
        before = max(0, (fault.octets or CONTENT_BEFORE_FAULT_OCTETS) - had)
        if before >= count:
            return await conversation.read_octets(count)
        head = await conversation.read_octets(before)
        await self._break(fault, conversation)
        return head + await conversation.read_octets(count - before)

    async def read_headers(self, conversation: Conversation) -> tuple[tuple[str, str], ...]:
        """Header lines up to the empty one. Raises Hangup."""
        headers = []
        while line := await conversation.read_line():
            name, _, value = line.decode("latin-1").partition(":")
            headers.append((name.strip().lower(), value.strip()))
        return tuple(headers)

    async def read_content(
        self, conversation: Conversation, session: int, headers: tuple[tuple[str, str], ...]
    ) -> bytes:
        """As many octets as Content-length says. Raises Hangup."""
        length = int(dict(headers).get("content-length", "0"))
        fault = await self.amid(conversation, session) if length else None
        octets = bytearray()
        while len(octets) < length:
            piece = min(length - len(octets), PIECE_OCTETS)
            octets += await self.read_amid(conversation, piece, len(octets), fault)
        return bytes(octets)

    async def answer(
        self,
        conversation: Conversation,
        asked: Asked,
        octets: bytes,
        content: bytes = b"",
        frame: tuple[bytes, bytes] = (b"", b""),
    ) -> None:
        """Give the answer within its frame, or what a fault puts in its place. Raises Hangup where that ends the session."""
        if asked.command in self.unanswered:
            await conversation.gone.wait()
            raise Hangup
        subjects = (asked.command, content.decode("latin-1")) if self._faults else ()
        fault = await self.reach(Occasion(stage="answer", session=asked.session, subjects=subjects))
        asked.fault = fault.action if fault else None
        octets = frame[0] + octets + frame[1]
        if fault and fault.action == "reply":
            octets = frame[0] + self.scripted(asked, fault.text or "") + frame[1]
        elif fault:
            octets = await self._instead(fault, conversation, octets)
        await conversation.write(octets)
        asked.reply = octets
        self.changed()
        await self.reach(Occasion(stage="answered", session=asked.session))

    def scripted(self, asked: Asked, text: str) -> bytes:
        """The answer that the fault "reply" gives."""
        raise NotImplementedError

    async def _instead(self, fault: Fault, conversation: Conversation, octets: bytes) -> bytes:
        """Do what comes in place of the answer; returns what is still to be said."""
        match fault.action:
            case "drop-mid" | "reset-mid":
                await conversation.write(octets[: len(octets) // 2])
                await self._break(fault, conversation)
            case "late":
                await asyncio.sleep(fault.pause_seconds)
            case "garbage":
                await conversation.write(fault.text.encode() if fault.text else GARBAGE)
                await hang_up(conversation)
            case "flood":
                await flood(conversation, b"x" * 64, fault.octets)
            case "drip":
                await drip(conversation, octets[:-1], fault.pause_seconds)
                return octets[-1:]
            case _:
                await self._break(fault, conversation)
        return octets

    async def _break(self, fault: Fault, conversation: Conversation) -> None:
        """Close, reset or stall; returns when a stall is released."""
        if fault.action.startswith("drop"):
            await hang_up(conversation)
        if fault.action.startswith("reset"):
            # What was said before must have left, or the reset overtakes it.
            await asyncio.sleep(0)
            await reset(conversation)
        await self.stall(fault, conversation)
