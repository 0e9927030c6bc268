"""A POP3 server for tests: several mailboxes, a ledger of every command, faults on demand.

It follows RFC 1939 strictly: deletions take effect at QUIT and only there, a mailbox is locked while a
session has it, dots are stuffed, octets are never changed. CAPA (RFC 2449), STLS (RFC 2595), AUTH (RFC 5034)
and response codes (RFC 3206) can be had or left out. What it may do wrong is in ACTIONS, one set for each
stage; see `tests.peers.faults` for rules, hooks and waiting.

    peer = Pop3Peer()
    peer.add_user("info", "secret")
    peer.put("info", b"Subject: one\\r\\n\\r\\nbody\\r\\n")
    peer.fault("retr", "drop-mid", number=1)
    port = await peer.start()
"""

import ssl
import time
from collections.abc import Collection
from typing import Literal

from cli.stand_ins import Conversation
from tests.peers.faults import FaultyServer
from tests.peers.pop3_ledger import ACTIONS, HOOKS, Command, PeerMailbox, PeerMessage, Session
from tests.peers.pop3_session import Pop3Session

__all__ = ["ACTIONS", "HOOKS", "Command", "PeerMailbox", "PeerMessage", "Pop3Peer", "Session"]


class Pop3Peer(FaultyServer):
    """`without` names capabilities to leave out, "CAPA" itself among them; `extra` adds lines to CAPA.

    `tls`: "none", "implicit", or "starttls" (STLS). `sasl` names mechanisms for AUTH: PLAIN, XOAUTH2.
    `login_needs_tls` refuses logins in clear text. `locks` False lets several sessions have one mailbox.
    """

    def __init__(
        self,
        *,
        without: Collection[str] = (),
        extra: Collection[str] = (),
        greeting: str = "peer ready",
        tls: Literal["none", "implicit", "starttls"] = "none",
        tls_context: ssl.SSLContext | None = None,
        apop: bool = False,
        sasl: Collection[str] = (),
        login_needs_tls: bool = False,
        locks: bool = True,
    ) -> None:
        if (tls == "none") != (tls_context is None):
            raise ValueError("tls and tls_context go together")
        super().__init__(actions=ACTIONS, hooks=HOOKS, held=tls == "implicit")
        self.without = frozenset(without)
        self.extra = tuple(extra)
        self.greeting = greeting
        self.tls = tls
        self.tls_context = tls_context
        self.apop_stamp = "<1896.697170952@peer.example>" if apop else ""
        self.sasl = tuple(sasl)
        self.login_needs_tls = login_needs_tls
        self.locks = locks
        self.mailboxes: dict[str, PeerMailbox] = {}
        self.commands: list[Command] = []
        self.sessions: list[Session] = []
        self._uidls_given = 0

    def add_user(self, name: str, password: str, *, token: str | None = None) -> PeerMailbox:
        """A new, empty mailbox; `token` is what XOAUTH2 asks for."""
        self.mailboxes[name] = PeerMailbox(name=name, password=password, token=token)
        return self.mailboxes[name]

    def put(self, user: str, octets: bytes, *, uidl: str | None = None) -> str:
        """New mail at the end of the mailbox; returns its unique id."""
        self._uidls_given += 1
        message = PeerMessage(uidl=uidl or f"uid-{self._uidls_given:05}", octets=octets)
        self.mailboxes[user].messages.append(message)
        return message.uidl

    def uidls(self, user: str) -> list[str]:
        """The unique ids of what is in the mailbox now."""
        return [message.uidl for message in self.mailboxes[user].messages]

    def said(self, verb: str, user: str | None = None) -> list[Command]:
        """The commands with this verb, in the order they came."""
        return [command for command in self.commands if command.verb == verb and user in (None, command.user)]

    def retrievals(self, user: str | None = None) -> list[str]:
        """The unique ids of messages that were sent whole, in order; twice in the list if sent twice."""
        return [command.uidl for command in self.said("RETR", user) if command.whole and command.uidl]

    def deletions(self, user: str | None = None) -> list[str]:
        """The unique ids that a QUIT deleted, in order."""
        return [
            uidl for session in self.sessions if user in (None, session.user) for uidl in session.committed
        ]

    async def converse(self, conversation: Conversation) -> None:
        record = Session(number=len(self.sessions) + 1, opened_at_seconds=time.monotonic())
        self.sessions.append(record)
        self.changed()
        session = Pop3Session(self, conversation, record)
        try:
            await session.run()
        finally:
            session.unlock()
            if record.ended == "open":
                record.ended = "broken"
            record.thrown_away_octets = conversation.thrown_away_octets
            record.closed_at_seconds = time.monotonic()
            self.changed()
