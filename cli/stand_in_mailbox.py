"""A stand-in for a provider's POP3 mailbox: one user, the mail in memory.

Owns the messages and forgets them at the end. Deletions take effect at QUIT and only then; a connection
that breaks deletes nothing. The octets go out exactly as given. It knows no TLS and is for `mailgate demo`.

RFC 1939 (POP3), RFC 2449 (CAPA).
"""

import hmac
from collections.abc import Awaitable, Callable, Mapping

from cli.stand_ins import Conversation, LoopbackServer, stuffed

CAPABILITIES = ("USER", "UIDL", "TOP", "PIPELINING", "RESP-CODES", "AUTH-RESP-CODE")
# UIDs are 1 to 70 printable octets (RFC 1939 section 7).
UIDL_LIMIT_OCTETS = 70
NO_SUCH_MESSAGE = b"-ERR no such message\r\n"


class StandInMailbox(LoopbackServer):
    """`messages` maps each message's unique id to its octets, in the order of the listing."""

    def __init__(self, *, username: str, password: str, messages: Mapping[str, bytes]) -> None:
        """Raises ValueError for a unique id POP3 cannot carry."""
        super().__init__()
        for uidl in messages:
            if not 0 < len(uidl) <= UIDL_LIMIT_OCTETS or not all("!" <= letter <= "~" for letter in uidl):
                raise ValueError(f"unique id {uidl!r}: use 1 to 70 printable ASCII letters, no space")
        self._username = username
        self._password = password
        self._messages = dict(messages)
        self._in_use = False

    @property
    def uidls(self) -> tuple[str, ...]:
        """The unique ids of what is still in the mailbox."""
        return tuple(self._messages)

    def add(self, uidl: str, octets: bytes) -> None:
        """New mail; sessions that are open do not see it."""
        self._messages[uidl] = octets

    async def converse(self, conversation: Conversation) -> None:
        await _Session(self, conversation).run()

    def _admits(self, username: str, password: str) -> bool:
        known = hmac.compare_digest(username.encode(), self._username.encode())
        return hmac.compare_digest(password.encode(), self._password.encode()) and known


class _Session:
    """One POP3 session: its copy of the listing and its marks."""

    def __init__(self, mailbox: StandInMailbox, conversation: Conversation) -> None:
        self._mailbox = mailbox
        self._conversation = conversation
        self._username = ""
        self._listing: list[tuple[str, bytes]] | None = None
        self._marked: set[int] = set()
        self._done = False
        before_login: dict[str, Callable[[str], bytes]] = {
            "CAPA": self._capa,
            "USER": self._user,
            "PASS": self._pass,
            "QUIT": self._quit,
        }
        after_login: dict[str, Callable[[str], bytes]] = {
            "CAPA": self._capa,
            "STAT": self._stat,
            "LIST": self._list,
            "UIDL": self._uidl,
            "RETR": self._retr,
            "TOP": self._top,
            "DELE": self._dele,
            "RSET": self._rset,
            "NOOP": self._noop,
            "QUIT": self._quit,
        }
        self._verbs = {False: before_login, True: after_login}

    async def run(self) -> None:
        say: Callable[[bytes], Awaitable[None]] = self._conversation.write
        try:
            await say(b"+OK mailgate stand-in mailbox ready\r\n")
            while not self._done:
                line = (await self._conversation.read_line()).decode("utf-8", "replace")
                verb, _, argument = line.partition(" ")
                answer = self._verbs[self._listing is not None].get(verb.upper())
                await say(answer(argument) if answer else b"-ERR no such command now\r\n")
        finally:
            if self._listing is not None:
                self._mailbox._in_use = False

    def _capa(self, _argument: str) -> bytes:
        return b"+OK\r\n" + "".join(f"{name}\r\n" for name in CAPABILITIES).encode() + b".\r\n"

    def _user(self, argument: str) -> bytes:
        self._username = argument
        return b"+OK\r\n"

    def _pass(self, argument: str) -> bytes:
        if not self._mailbox._admits(self._username, argument):
            return b"-ERR [AUTH] wrong user or password\r\n"
        if self._mailbox._in_use:
            return b"-ERR [IN-USE] another session has the mailbox\r\n"
        self._mailbox._in_use = True
        self._listing = list(self._mailbox._messages.items())
        return b"+OK\r\n"

    def _stat(self, _argument: str) -> bytes:
        sizes = [len(octets) for _, _, octets in self._left()]
        return b"+OK %d %d\r\n" % (len(sizes), sum(sizes))

    def _list(self, argument: str) -> bytes:
        return self._lines(argument, lambda uidl, octets: str(len(octets)))

    def _uidl(self, argument: str) -> bytes:
        return self._lines(argument, lambda uidl, octets: uidl)

    def _lines(self, argument: str, fact: Callable[[str, bytes], str]) -> bytes:
        """The scan listing, or one line of it."""
        lines = {number: f"{number} {fact(uidl, octets)}\r\n" for number, uidl, octets in self._left()}
        if not argument:
            return b"+OK\r\n" + "".join(lines.values()).encode() + b".\r\n"
        number = number_of(argument)
        return b"+OK " + lines[number].encode() if number in lines else NO_SUCH_MESSAGE

    def _retr(self, argument: str) -> bytes:
        octets = self._octets(argument)
        return NO_SUCH_MESSAGE if octets is None else b"+OK %d octets\r\n" % len(octets) + stuffed(octets)

    def _top(self, argument: str) -> bytes:
        number, _, count = argument.partition(" ")
        octets = self._octets(number)
        if octets is None or not count.strip().isdecimal():
            return NO_SUCH_MESSAGE
        return b"+OK\r\n" + stuffed(top_of(octets, int(count)))

    def _dele(self, argument: str) -> bytes:
        if self._octets(argument) is None:
            return NO_SUCH_MESSAGE
        self._marked.add(number_of(argument))
        return b"+OK\r\n"

    def _rset(self, _argument: str) -> bytes:
        self._marked.clear()
        return b"+OK\r\n"

    def _noop(self, _argument: str) -> bytes:
        return b"+OK\r\n"

    def _quit(self, _argument: str) -> bytes:
        for number in self._marked:
            assert self._listing is not None
            self._mailbox._messages.pop(self._listing[number - 1][0], None)
        self._done = True
        return b"+OK bye\r\n"

    def _left(self) -> list[tuple[int, str, bytes]]:
        assert self._listing is not None
        numbered = [(number, uidl, octets) for number, (uidl, octets) in enumerate(self._listing, 1)]
        return [message for message in numbered if message[0] not in self._marked]

    def _octets(self, argument: str) -> bytes | None:
        assert self._listing is not None
        number = number_of(argument)
        known = 0 < number <= len(self._listing) and number not in self._marked
        return self._listing[number - 1][1] if known else None


def top_of(octets: bytes, body_lines: int) -> bytes:
    """The header, the empty line and so many lines of the body (RFC 1939, TOP)."""
    end = octets.find(b"\r\n\r\n")
    if end < 0:
        return octets
    end += 4
    for _ in range(body_lines):
        line_end = octets.find(b"\r\n", end)
        if line_end < 0:
            return octets
        end = line_end + 2
    return octets[:end]


def number_of(argument: str) -> int:
    """The message number, 0 if it is none."""
    return int(argument) if argument.isascii() and argument.isdecimal() else 0
