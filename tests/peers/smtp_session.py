"""One session of the SMTP peer: the commands, and where a fault changes the answer. RFC 5321."""

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from cli.stand_in_home import PATH, SIZE, TOO_LARGE
from cli.stand_ins import Conversation
from tests.peers import smtp_login
from tests.peers.faults import Fault, Occasion, drip, flood, hang_up
from tests.peers.smtp_ledger import Command, Session, Taken

if TYPE_CHECKING:
    from tests.peers.smtpd import HomePeer

# A fault amid the content strikes after so many octets unless it says another number.
CONTENT_BEFORE_FAULT_OCTETS = 1
PARAMETER_NEEDS = {"BODY": "8BITMIME", "SMTPUTF8": "SMTPUTF8", "RET": "DSN", "ENVID": "DSN"}
RECIPIENT_PARAMETER_NEEDS = {"NOTIFY": "DSN", "ORCPT": "DSN"}
TLS_FIRST = "530 5.7.0 Must issue a STARTTLS command first"
UNKNOWN_PARAMETER = "555 5.5.4 parameter not recognized"
Answer = Callable[[str], Awaitable[str]]


class SmtpSession:
    """Reads commands, notes them, answers them; keeps the open transaction."""

    def __init__(self, peer: "HomePeer", conversation: Conversation, record: Session) -> None:
        self.peer = peer
        self.conversation = conversation
        self.record = record
        self._helo_name = ""
        self.user: str | None = None
        self._reverse_path: str | None = None
        self._parameters: tuple[str, ...] = ()
        self._recipients: list[str] = []
        self._pipelined = False
        self._verbs: dict[str, Answer] = {
            "EHLO": self._ehlo,
            "HELO": self._helo,
            "STARTTLS": self._starttls,
            "AUTH": self._auth,
            "MAIL": self._mail,
            "RCPT": self._rcpt,
            "DATA": self._data,
            "RSET": self._rset,
            "NOOP": self._noop,
            "QUIT": self._quit,
        }

    async def run(self) -> None:
        """The whole session. Raises Hangup when it breaks."""
        fault = await self._reach("connect", ())
        if fault:
            await self._instead(fault, None)
        if self.peer.tls == "implicit":
            await self._secure(b"")
        fault = await self._reach("banner", ())
        if fault is None or not await self._instead(fault, None):
            await self._say(f"220 {self.peer.hostname} ESMTP peer", fault)
        await self._reach("banner-answered", ())
        while not self.record.quit:
            line = await self.conversation.read_line()
            verb, _, argument = line.decode("utf-8", "replace").partition(" ")
            await self._command(verb.upper(), argument)

    async def _command(self, verb: str, argument: str) -> None:
        command = self._note(verb, argument)
        answer = self._verbs.get(verb)
        if answer is None:
            await self._say("500 5.5.1 no such command", None, command)
            return
        subjects = self._subjects(argument)
        fault = await self._reach(verb.lower(), subjects)
        command.fault = fault.action if fault else None
        if fault is None or not await self._instead(fault, command):
            await self._say(await answer(argument), fault, command)
        await self._reach(f"{verb.lower()}-answered", subjects)
        if verb == "DATA" and command.reply and command.reply.startswith("354"):
            await self._content()

    def _note(self, verb: str, argument: str) -> Command:
        command = Command(
            session=self.record.number,
            at_seconds=time.monotonic(),
            verb=verb,
            argument=argument,
            pipelined=self._pipelined,
        )
        self.peer.commands.append(command)
        self.peer.changed()
        return command

    def _subjects(self, argument: str) -> tuple[str, ...]:
        """What `matching` looks at: the path at hand and the reverse-path; after RCPT all recipients."""
        found = PATH.fullmatch(argument)
        if found:
            return (found["path"], *((self._reverse_path,) if self._reverse_path else ()))
        return (self._reverse_path or "", *self._recipients, argument)

    async def _reach(self, stage: str, subjects: tuple[str, ...]) -> Fault | None:
        occasion = Occasion(stage=stage, session=self.record.number, subjects=subjects)
        return await self.peer.reach(occasion)

    async def _instead(self, fault: Fault, command: Command | None) -> bool:
        """Do what comes in place of the answer; False if the answer is still to be given."""
        match fault.action:
            case "drop":
                await hang_up(self.conversation)
            case "stall":
                await self.peer.stall(fault, self.conversation)
                return False
            case "reply":
                await self._say(f"{fault.code} {fault.text or '4.3.0 fault'}", None, command)
                return True
            case "421":
                await self._say(f"421 {fault.text or '4.3.2 closing'}", None, command)
                await hang_up(self.conversation)
            case "garbage":
                await self._say(fault.text or "\x00\ufffd not SMTP", None, command)
                return True
            case "endless-line":
                await flood(self.conversation, b"2", fault.octets)
            case _:
                pass
        return False

    async def _say(self, reply: str, fault: Fault | None, command: Command | None = None) -> None:
        self._pipelined = self.conversation.waiting_octets > 0
        octets = reply.encode() + b"\r\n" if reply else b""
        action = fault.action if fault else ""
        if command and action not in ("drop-mid", "commit-drop", "late"):
            command.reply = reply
        match action:
            case "drop-mid":
                await self.conversation.write(octets[: len(octets) // 2])
                await hang_up(self.conversation)
            case "commit-drop":
                await hang_up(self.conversation)
            case "drip":
                assert fault
                await drip(self.conversation, octets, fault.pause_seconds)
            case "late":
                assert fault
                await self.peer.stall(fault, self.conversation)
                if command:
                    command.reply = reply
                await self.conversation.write(octets)
            case _:
                await self.conversation.write(octets)
        self.peer.changed()
        if fault and fault.action == "answer-drop":
            await hang_up(self.conversation)

    async def _secure(self, reply: bytes) -> None:
        assert self.peer.tls_context is not None
        await self.conversation.start_tls(self.peer.tls_context, reply)
        self.record.secure = True

    async def _ehlo(self, argument: str) -> str:
        self._forget()
        self._helo_name = argument
        lines = [self.peer.hostname, *self.peer.extensions]
        if self.peer.size_octets is not None:
            lines.append("SIZE" if self.peer.size_octets == "bare" else f"SIZE {self.peer.size_octets}")
        if self.peer.tls == "starttls" and not self.record.secure:
            lines.append("STARTTLS")
        if self.peer.users and (self.record.secure or not self.peer.tls_needed):
            lines.append("AUTH PLAIN LOGIN")
        return "\r\n".join([*(f"250-{line}" for line in lines[:-1]), f"250 {lines[-1]}"])

    async def _helo(self, argument: str) -> str:
        self._forget()
        self._helo_name = argument
        return f"250 {self.peer.hostname}"

    async def _starttls(self, _argument: str) -> str:
        if self.peer.tls != "starttls" or self.record.secure:
            return "502 5.5.1 no TLS here"
        await self._secure(b"220 2.0.0 go ahead\r\n")
        self._forget()
        self._helo_name = ""
        return ""

    async def _auth(self, argument: str) -> str:
        if self.peer.tls_needed and not self.record.secure:
            return TLS_FIRST
        reply, self.user = await smtp_login.by_sasl(self, argument)
        return reply

    async def _mail(self, argument: str) -> str:
        found = PATH.fullmatch(argument)
        if found is None:
            return "501 5.5.4 MAIL FROM:<reverse-path> expected"
        if self.peer.tls_needed and not self.record.secure:
            return TLS_FIRST
        if self.peer.login_needed and self.user is None:
            return "530 5.7.0 Authentication required"
        if self._reverse_path is not None or not self._helo_name:
            return "503 5.5.1 not now"
        parameters = tuple((found["parameters"] or "").split())
        refusal = self._parameter_refusal(parameters, found["path"])
        if refusal:
            return refusal
        self._reverse_path = found["path"]
        self._parameters = parameters
        return "250 2.1.0 OK"

    def _parameter_refusal(self, parameters: tuple[str, ...], path: str) -> str | None:
        for parameter in parameters:
            keyword = parameter.partition("=")[0].upper()
            if keyword == "SIZE" and self.peer.size_octets is not None:
                continue
            if PARAMETER_NEEDS.get(keyword) not in self.peer.extensions:
                return UNKNOWN_PARAMETER
        if not path.isascii() and "SMTPUTF8" not in (parameter.upper() for parameter in parameters):
            return "553 5.6.7 address needs SMTPUTF8"
        size = SIZE.search(" ".join(parameters))
        limit = self.peer.size_limit_octets
        return TOO_LARGE if size and limit is not None and int(size[1]) > limit else None

    async def _rcpt(self, argument: str) -> str:
        found = PATH.fullmatch(argument)
        if self._reverse_path is None:
            return "503 5.5.1 MAIL first"
        if found is None or not found["path"]:
            return "501 5.5.4 RCPT TO:<forward-path> expected"
        for parameter in (found["parameters"] or "").split():
            keyword = parameter.partition("=")[0].upper()
            if RECIPIENT_PARAMETER_NEEDS.get(keyword) not in self.peer.extensions:
                return UNKNOWN_PARAMETER
        if self.peer.max_recipients is not None and len(self._recipients) >= self.peer.max_recipients:
            return "452 4.5.3 too many recipients"
        self._recipients.append(found["path"])
        return "250 2.1.5 OK"

    async def _data(self, _argument: str) -> str:
        if self._reverse_path is None:
            return "503 5.5.1 MAIL first"
        return "354 go ahead" if self._recipients else "554 5.5.1 no valid recipients"

    async def _content(self) -> None:
        """The content and the answer to its final dot."""
        subjects = self._subjects("")
        fault = await self._reach("content", subjects)
        if fault:
            await self.conversation.wait_for_octets(fault.octets or CONTENT_BEFORE_FAULT_OCTETS)
            await self._instead(fault, None)
        octets = await self.conversation.read_content()
        command = self._note(".", "")
        fault = await self._reach("dot", subjects)
        command.fault = fault.action if fault else None
        if fault is None or not await self._instead(fault, command):
            await self._say(await self._take(octets, subjects), fault, command)
        self._forget()
        await self._reach("dot-answered", subjects)

    async def _take(self, octets: bytes, subjects: tuple[str, ...]) -> str:
        assert self._reverse_path is not None
        limits = (self.peer.size_limit_octets, self.peer.hidden_limit_octets)
        if any(limit is not None and len(octets) > limit for limit in limits):
            return TOO_LARGE
        taken = Taken(
            session=self.record.number,
            at_seconds=time.monotonic(),
            helo=self._helo_name,
            reverse_path=self._reverse_path,
            recipients=tuple(self._recipients),
            octets=octets,
            mail_parameters=self._parameters,
            secure=self.record.secure,
            user=self.user,
        )
        self.peer.take(taken)
        await self._reach("dot-taken", subjects)
        return f"250 2.0.0 taken as {len(self.peer.ledger)}"

    async def _rset(self, _argument: str) -> str:
        self._forget()
        return "250 2.0.0 OK"

    async def _noop(self, _argument: str) -> str:
        return "250 2.0.0 OK"

    async def _quit(self, _argument: str) -> str:
        self.record.quit = True
        return "221 2.0.0 bye"

    def _forget(self) -> None:
        self._reverse_path = None
        self._parameters = ()
        self._recipients = []
