"""A program that takes webhooks, for tests: POST by HTTP/1.1, request after request on a connection.

peer = HookPeer()
peer.fault("answer", "status", code=500, times=3)
port = await peer.start()

Stages: "connect" and "answer" (to a request that was read whole; `matching` is looked for in its body). What "answer" can be:

    status        `code` as the status, `text` as the body, `octets` as the seconds of Retry-After
    drop          close without a word            reset     break the connection without a word
    stall         nothing until it is released    garbage   what is no HTTP
    flood         status 200, and a body without end
    drip          status 200, and a body octet by octet
    stall-body    status 200, and no more until it is released
"""

import json
import ssl
from dataclasses import dataclass
from typing import Any

from cli.stand_ins import Conversation, Hangup
from tests.peers.faults import Fault, FaultyServer, Occasion, drip, flood, hang_up, reset

ACTIONS = {
    "connect": frozenset({"drop", "reset", "stall"}),
    "answer": frozenset({"status", "drop", "reset", "stall", "garbage", "flood", "drip", "stall-body"}),
}
GARBAGE = b"\x00\xff\xfe rubbish \x00\r\n\r\n\x00"
LONG_OCTETS = 1_000_000


@dataclass(slots=True, kw_only=True)
class Posted:
    """One request. `status` is None until it is answered, and stays so where it is not."""

    session: int
    target: str
    headers: dict[str, str]  # names in lower case
    octets: bytes
    status: int | None = None

    @property
    def body(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.octets)
        return found


class HookPeer(FaultyServer):
    """`posted` is what came, in order. `keeps` False closes each connection after one answer, without having said so."""

    def __init__(self, *, tls: ssl.SSLContext | None = None, keeps: bool = True) -> None:
        super().__init__(actions=ACTIONS, hooks=frozenset({"answered"}), held=tls is not None)
        self.posted: list[Posted] = []
        self.sessions = 0
        self.keeps = keeps
        self._tls = tls

    @property
    def taken(self) -> list[Posted]:
        """What was answered as taken."""
        return [one for one in self.posted if one.status is not None and one.status < 300]

    async def converse(self, conversation: Conversation) -> None:
        self.sessions += 1
        session = self.sessions
        fault = await self.reach(Occasion(stage="connect", session=session))
        if fault:
            await self._break(fault, conversation)
        if self._tls is not None:
            await conversation.start_tls(self._tls)
        while True:
            posted = await self._read(conversation, session)
            self.posted.append(posted)
            self.changed()
            await self._answer(conversation, posted)
            self.changed()
            await self.reach(Occasion(stage="answered", session=session))
            if not self.keeps:
                raise Hangup

    async def _read(self, conversation: Conversation, session: int) -> Posted:
        method, target, version = (await conversation.read_line()).decode("latin-1").split(" ")
        assert (method, version) == ("POST", "HTTP/1.1")
        headers = {}
        while line := await conversation.read_line():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        octets = await conversation.read_octets(int(headers["content-length"]))
        return Posted(session=session, target=target, headers=headers, octets=octets)

    async def _answer(self, conversation: Conversation, posted: Posted) -> None:
        subject = posted.octets.decode("utf-8", "replace")
        fault = await self.reach(Occasion(stage="answer", session=posted.session, subjects=(subject,)))
        if fault is not None and fault.action not in ("status", "flood", "drip", "stall-body"):
            await self._break(fault, conversation)
            fault = None  # it was let go
        status = fault.code if fault is not None and fault.action == "status" else 200
        body = (fault.text or "").encode() if fault is not None else b"thanks"
        length = LONG_OCTETS if fault is not None and fault.action != "status" else len(body)
        wish = f"Retry-After: {fault.octets}\r\n" if fault is not None and fault.octets else ""
        posted.status = status
        head = f"HTTP/1.1 {status} Because\r\nContent-Length: {length}\r\n{wish}\r\n"
        await conversation.write(head.encode() + body)
        if fault is not None and fault.action == "flood":
            await flood(conversation, b"x" * 64, LONG_OCTETS)
        if fault is not None and fault.action == "drip":
            await drip(conversation, b"x" * LONG_OCTETS, fault.pause_seconds)
        if fault is not None and fault.action == "stall-body":
            await self.stall(fault, conversation)

    async def _break(self, fault: Fault, conversation: Conversation) -> None:
        """Close, reset, talk rubbish or stall; returns when a stall is released."""
        if fault.action == "drop":
            await hang_up(conversation)
        if fault.action == "reset":
            await reset(conversation)
        if fault.action == "garbage":
            await conversation.write(GARBAGE)
            await hang_up(conversation)
        await self.stall(fault, conversation)
