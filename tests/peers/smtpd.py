"""An SMTP server for tests, the organisation's home server: a ledger of what it took, faults on demand.

It is strict: only CRLF ends a command, only CRLF . CRLF ends the content, parameters of extensions it does
not offer are refused (555). The ledger is written before the answer to the final dot is sent, so that it
tells the truth whatever becomes of the connection. What it may do wrong is in ACTIONS, one set for each
stage; see `tests.peers.faults` for rules, hooks and waiting. At the stage "dot", the faults drop-mid, drip,
answer-drop, commit-drop and late come after the message was taken, the others before.
RFC 5321, 1870, 2920, 3207, 4954, 6152, 6531.

    peer = HomePeer(size_octets=10_000_000)
    peer.fault("rcpt", "reply", matching="nobody@", code=550, text="5.1.1 no such recipient", times=None)
    peer.fault("dot", "commit-drop")
    port = await peer.start()
"""

import ssl
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Literal

from cli.stand_ins import Conversation
from tests.peers.faults import FaultyServer
from tests.peers.smtp_ledger import (
    ACTIONS,
    HOOKS,
    Command,
    Session,
    Taken,
    append_durably,
    read_ledger,
)
from tests.peers.smtp_session import SmtpSession

__all__ = ["ACTIONS", "HOOKS", "Command", "HomePeer", "Session", "Taken", "read_ledger"]

EXTENSIONS = ("PIPELINING", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")


class HomePeer(FaultyServer):
    """`size_octets`: the limit EHLO SIZE says and the server keeps; 0 says "no limit", "bare" says SIZE
    alone, None says nothing. `hidden_limit_octets` is a lower limit it only tells by 552 after the content,
    as an organisation's limit below its connector's.

    `tls`: "none", "implicit" or "starttls". `users` offers AUTH PLAIN and LOGIN; `login_needed` refuses MAIL
    without it (530), `tls_needed` refuses MAIL and AUTH without TLS. Above `max_recipients` in one
    transaction RCPT gets 452 4.5.3. `ledger_file` gets each entry as a JSON line, synced, before the answer.
    """

    def __init__(
        self,
        *,
        hostname: str = "home.example",
        extensions: Collection[str] = EXTENSIONS,
        size_octets: int | Literal["bare"] | None = 36_000_000,
        hidden_limit_octets: int | None = None,
        max_recipients: int | None = None,
        tls: Literal["none", "implicit", "starttls"] = "none",
        tls_context: ssl.SSLContext | None = None,
        tls_needed: bool = False,
        users: Mapping[str, str] | None = None,
        login_needed: bool = False,
        ledger_file: Path | None = None,
    ) -> None:
        if (tls == "none") != (tls_context is None):
            raise ValueError("tls and tls_context go together")
        super().__init__(actions=ACTIONS, hooks=HOOKS, held=tls == "implicit")
        self.hostname = hostname
        self.extensions = tuple(extensions)
        self.size_octets = size_octets
        self.hidden_limit_octets = hidden_limit_octets
        self.max_recipients = max_recipients
        self.tls = tls
        self.tls_context = tls_context
        self.tls_needed = tls_needed
        self.users = dict(users or {})
        self.login_needed = login_needed
        self.ledger_file = ledger_file
        self.ledger: list[Taken] = []
        self.commands: list[Command] = []
        self.sessions: list[Session] = []

    @property
    def size_limit_octets(self) -> int | None:
        """The limit EHLO tells, None if it tells none."""
        return self.size_octets if isinstance(self.size_octets, int) and self.size_octets > 0 else None

    def said(self, verb: str) -> list[Command]:
        """The commands with this verb, in the order they came; "." is the final dot."""
        return [command for command in self.commands if command.verb == verb]

    def taken_for(self, recipient: str) -> list[Taken]:
        """The ledger's entries for one recipient: more than one of the same message is a duplicate."""
        return [entry for entry in self.ledger if recipient in entry.recipients]

    def take(self, taken: Taken) -> None:
        """Become responsible for a message."""
        if self.ledger_file is not None:
            append_durably(self.ledger_file, taken)
        self.ledger.append(taken)
        self.sessions[taken.session - 1].messages += 1
        self.changed()

    async def converse(self, conversation: Conversation) -> None:
        record = Session(number=len(self.sessions) + 1, opened_at_seconds=time.monotonic())
        self.sessions.append(record)
        self.changed()
        try:
            await SmtpSession(self, conversation, record).run()
        finally:
            record.thrown_away_octets = conversation.thrown_away_octets
            record.closed_at_seconds = time.monotonic()
            self.changed()
