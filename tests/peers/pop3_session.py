"""One session of the POP3 peer: the commands, and where a fault changes the answer. RFC 1939."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from cli.stand_in_mailbox import NO_SUCH_MESSAGE, number_of, top_of
from cli.stand_ins import Conversation, Hangup, stuffed
from tests.peers import pop3_login
from tests.peers.faults import FLOOD_LINE, Fault, Occasion, drip, flood, hang_up
from tests.peers.pop3_ledger import CAPABILITIES, Command, PeerMailbox, PeerMessage, Session

if TYPE_CHECKING:
    from tests.peers.pop3d import Pop3Peer

# RFC 2449 section 4: a command line has at most 255 octets, CRLF included.
COMMAND_LIMIT_OCTETS = 255
LOGIN_VERBS = frozenset({"USER", "PASS", "APOP", "AUTH"})
Answer = Callable[[str, Fault | None], Awaitable[bytes]]


class Pop3Session:
    """Reads commands, notes them, answers them. `mailbox` is None before login."""

    def __init__(self, peer: "Pop3Peer", conversation: Conversation, record: Session) -> None:
        self.peer = peer
        self.conversation = conversation
        self.record = record
        self.username = ""
        self.mailbox: PeerMailbox | None = None
        self.listing: list[PeerMessage] = []
        self.marked: set[int] = set()
        self._locked = False
        self._pipelined = False
        self._anytime: dict[str, Answer] = {"CAPA": self._capa, "QUIT": self._quit}
        self._before_login: dict[str, Answer] = {
            "STLS": self._stls,
            "USER": self._user,
            "PASS": self._pass,
            "APOP": self._apop,
            "AUTH": self._auth,
        }
        self._after_login: dict[str, Answer] = {
            "STAT": self._stat,
            "LIST": self._list,
            "UIDL": self._uidl,
            "RETR": self._retr,
            "TOP": self._top,
            "DELE": self._dele,
            "RSET": self._rset,
            "NOOP": self._noop,
        }

    async def run(self) -> None:
        """The whole session. Raises Hangup when it breaks."""
        fault = await self._reach("connect")
        if fault:
            await self._instead(fault)
        if self.peer.tls == "implicit":
            await self._secure(b"")
        fault = await self._reach("greeting")
        if fault is None or not await self._instead(fault):
            stamp = f" {self.peer.apop_stamp}" if self.peer.apop_stamp else ""
            await self._say(f"+OK {self.peer.greeting}{stamp}\r\n".encode(), fault)
        await self._reach("greeting-answered")
        while self.record.ended == "open":
            await self._command(await self.conversation.read_line())

    def unlock(self) -> None:
        """Give the mailbox free."""
        if self._locked and self.mailbox is not None:
            self.mailbox.in_use = False
        self._locked = False

    def enter(self, mailbox: PeerMailbox) -> bytes:
        """Open the mailbox of a user who proved who they are."""
        if self.peer.locks and mailbox.in_use:
            return b"-ERR [IN-USE] another session has the mailbox\r\n"
        self._locked = mailbox.in_use = True
        self.mailbox = mailbox
        self.record.user = mailbox.name
        self.listing = list(mailbox.messages)
        return b"+OK %d messages\r\n" % len(self.listing)

    async def _command(self, line: bytes) -> None:
        verb, _, argument = line.decode("utf-8", "replace").partition(" ")
        verb = verb.upper()
        command = self._note(verb, argument)
        answer = self._answer_to(verb, line)
        if answer is None:
            await self._say(b"-ERR not here, not now\r\n", None, command)
            return
        fault = await self._reach(verb.lower(), command)
        command.fault = fault.action if fault else None
        if fault is None or not await self._instead(fault):
            await self._say(await answer(argument, fault), fault, command)
        elif verb == "QUIT":
            await hang_up(self.conversation)
        await self._reach(f"{verb.lower()}-answered", command)

    def _note(self, verb: str, argument: str) -> Command:
        message = self._message(argument.partition(" ")[0]) if verb in ("RETR", "TOP", "DELE") else None
        command = Command(
            session=self.record.number,
            at_seconds=time.monotonic(),
            user=self.record.user,
            verb=verb,
            argument=argument,
            uidl=message.uidl if message else None,
            pipelined=self._pipelined,
        )
        self.peer.commands.append(command)
        self.peer.changed()
        return command

    def _answer_to(self, verb: str, line: bytes) -> Answer | None:
        """None for what this peer does not know, or not in this state."""
        if verb in self.peer.without or len(line) + 2 > COMMAND_LIMIT_OCTETS:
            return None
        if verb in LOGIN_VERBS and self.peer.login_needs_tls and not self.conversation.secure:
            return None
        now = self._before_login if self.mailbox is None else self._after_login
        return {**self._anytime, **now}.get(verb)

    async def _reach(self, stage: str, command: Command | None = None) -> Fault | None:
        number = None
        if command and command.uidl is not None:
            number = number_of(command.argument.partition(" ")[0])
        subjects = (self.record.user or self.username, (command.uidl or command.argument) if command else "")
        occasion = Occasion(stage=stage, session=self.record.number, number=number, subjects=subjects)
        return await self.peer.reach(occasion)

    async def _instead(self, fault: Fault) -> bool:
        """Do what comes in place of the answer; False if the answer is still to be given."""
        self._pipelined = self.conversation.waiting_octets > 0
        match fault.action:
            case "drop" | "drop-undone":
                await hang_up(self.conversation)
            case "stall":
                await self.peer.stall(fault, self.conversation)
                return False
            case "err":
                await self.conversation.write(f"-ERR {fault.text or '[SYS/TEMP] fault'}\r\n".encode())
                return True
            case "err-first":
                await self.conversation.write(b"-ERR busy\r\n")
                await asyncio.sleep(fault.pause_seconds)
            case "garbage":
                garbage = (fault.text or "\x00\ufffd not POP3").encode() + b"\r\n"
                await self.conversation.write(garbage)
                return True
            case "endless-line":
                await flood(self.conversation, b"x", fault.octets)
            case _:
                pass
        return False

    async def _say(self, reply: bytes, fault: Fault | None, command: Command | None = None) -> None:
        self._pipelined = self.conversation.waiting_octets > 0
        action = fault.action if fault else ""
        if command and action not in ("drop-mid", "no-final-dot", "flood", "drop-committed"):
            command.reply = reply.partition(b"\r\n")[0].decode()
            command.whole = reply.startswith(b"+OK")
        try:
            await self._send(reply, fault)
        except Hangup:
            if command:
                command.whole = False
            raise
        self.peer.changed()

    async def _send(self, reply: bytes, fault: Fault | None) -> None:
        match fault.action if fault else "":
            case "drop-mid":
                await self.conversation.write(reply[: len(reply) // 2])
                await hang_up(self.conversation)
            case "no-final-dot":
                await self.conversation.write(reply.removesuffix(b".\r\n"))
                await hang_up(self.conversation)
            case "flood":
                assert fault
                await self.conversation.write(reply.partition(b"\r\n")[0] + b"\r\n")
                await flood(self.conversation, FLOOD_LINE, fault.octets)
            case "stall-mid":
                assert fault
                await self.conversation.write(reply[: fault.octets])
                await self.peer.stall(fault, self.conversation)
                await self.conversation.write(reply[fault.octets :])
            case "drop-committed":
                await hang_up(self.conversation)
            case "drip":
                assert fault
                await drip(self.conversation, reply, fault.pause_seconds)
            case _:
                await self.conversation.write(reply)

    async def _secure(self, reply: bytes) -> None:
        assert self.peer.tls_context is not None
        await self.conversation.start_tls(self.peer.tls_context, reply)
        self.record.secure = True

    async def _capa(self, _argument: str, _fault: Fault | None) -> bytes:
        names = [name for name in CAPABILITIES if name not in self.peer.without]
        if self.peer.sasl:
            names.append("SASL " + " ".join(self.peer.sasl))
        if self.peer.tls == "starttls" and not self.conversation.secure:
            names.append("STLS")
        return b"+OK\r\n" + "".join(f"{name}\r\n" for name in (*names, *self.peer.extra)).encode() + b".\r\n"

    async def _stls(self, _argument: str, _fault: Fault | None) -> bytes:
        if self.peer.tls != "starttls" or self.conversation.secure:
            return b"-ERR no TLS here\r\n"
        await self._secure(b"+OK begin TLS\r\n")
        self.username = ""
        return b""

    async def _user(self, argument: str, _fault: Fault | None) -> bytes:
        self.username = argument
        return b"+OK\r\n"

    async def _pass(self, argument: str, _fault: Fault | None) -> bytes:
        return pop3_login.by_password(self, self.username, argument)

    async def _apop(self, argument: str, _fault: Fault | None) -> bytes:
        return pop3_login.by_apop(self, argument)

    async def _auth(self, argument: str, _fault: Fault | None) -> bytes:
        return await pop3_login.by_sasl(self, argument)

    async def _stat(self, _argument: str, _fault: Fault | None) -> bytes:
        sizes = [len(message.octets) for _, message in self._left()]
        return b"+OK %d %d\r\n" % (len(sizes), sum(sizes))

    async def _list(self, argument: str, fault: Fault | None) -> bytes:
        def size(number: int, message: PeerMessage) -> str:
            lies = fault is not None and fault.action == "lie-size" and fault.number in (None, number)
            return str(fault.octets or 1) if fault and lies else str(len(message.octets))

        return self._lines(argument, fault, size)

    async def _uidl(self, argument: str, fault: Fault | None) -> bytes:
        def uidl(number: int, message: PeerMessage) -> str:
            if fault is None or fault.number not in (None, number):
                return message.uidl
            if fault.action == "dup-uidl":
                return self.listing[max(0, number - 2)].uidl if fault.number else self.listing[0].uidl
            return f"{self.record.number}-{message.uidl}" if fault.action == "uidl-changes" else message.uidl

        return self._lines(argument, fault, uidl)

    def _lines(self, argument: str, fault: Fault | None, fact: Callable[[int, PeerMessage], str]) -> bytes:
        """The listing, or one line of it; `repeat` says a line twice, `omit` leaves it out."""
        action = fault.action if fault else ""
        lines: list[str] = []
        for number, message in self._left():
            if argument and number != number_of(argument):
                continue
            hit = fault is not None and fault.number in (None, number)
            times = {"repeat": 2, "omit": 0}.get(action, 1) if hit else 1
            lines += [f"{number} {fact(number, message)}\r\n"] * times
        if not argument:
            return b"+OK\r\n" + "".join(lines).encode() + b".\r\n"
        return b"+OK " + lines[0].encode() if lines else NO_SUCH_MESSAGE

    async def _retr(self, argument: str, _fault: Fault | None) -> bytes:
        message = self._message(argument)
        if message is None:
            return NO_SUCH_MESSAGE
        return b"+OK %d octets\r\n" % len(message.octets) + stuffed(message.octets)

    async def _top(self, argument: str, _fault: Fault | None) -> bytes:
        number, _, count = argument.partition(" ")
        message = self._message(number)
        if message is None or not count.isdecimal():
            return NO_SUCH_MESSAGE
        return b"+OK\r\n" + stuffed(top_of(message.octets, int(count)))

    async def _dele(self, argument: str, _fault: Fault | None) -> bytes:
        if self._message(argument) is None:
            return NO_SUCH_MESSAGE
        self.marked.add(number_of(argument))
        return b"+OK\r\n"

    async def _rset(self, _argument: str, _fault: Fault | None) -> bytes:
        self.marked.clear()
        return b"+OK\r\n"

    async def _noop(self, _argument: str, _fault: Fault | None) -> bytes:
        return b"+OK\r\n"

    async def _quit(self, _argument: str, _fault: Fault | None) -> bytes:
        if self.mailbox is not None:
            gone = [self.listing[number - 1] for number in sorted(self.marked)]
            here = {id(message) for message in gone}
            self.mailbox.messages[:] = [
                message for message in self.mailbox.messages if id(message) not in here
            ]
            self.record.committed = tuple(message.uidl for message in gone)
        self.unlock()
        self.record.ended = "quit"
        await self._reach("quit-committed")
        return b"+OK bye\r\n"

    def _left(self) -> list[tuple[int, PeerMessage]]:
        return [pair for pair in enumerate(self.listing, 1) if pair[0] not in self.marked]

    def _message(self, argument: str) -> PeerMessage | None:
        number = number_of(argument)
        known = 0 < number <= len(self.listing) and number not in self.marked
        return self.listing[number - 1] if known else None
