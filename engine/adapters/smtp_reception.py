"""What we answer to the commands of an SMTP client, one session long; no socket, no clock, no waiting.

Owns the state of a session and of its transaction, the order of commands (RFC 5321 section 4.1.4), the replies with their
enhanced codes (RFC 2034; none in answers to HELO and EHLO), and the limits on what one transaction may hold. Commands that need
more than an answer (DATA, AUTH, STARTTLS, BDAT, QUIT) are the connection's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from engine.core import relaying
from engine.core.relaying import Client, IpAddress, Refused, Rules
from engine.ports import Submission
from engine.wire.smtp_arguments import ArgumentFault, MailArgument, RcptArgument, mail_argument, rcpt_argument

HELP: Final = (
    b"214 2.0.0 mailgate takes HELO EHLO STARTTLS AUTH MAIL RCPT DATA RSET NOOP VRFY HELP QUIT (RFC 5321)\r\n"
)
MECHANISMS: Final = (b"PLAIN", b"LOGIN")
REPLY_CHARACTERS: Final = 500  # RFC 5321 section 4.5.3.1.5 has 512 octets for a line of a reply
OK: Final = b"250 2.0.0 Ok\r\n"
HELLO_FIRST: Final = b"503 5.5.1 Say EHLO first\r\n"
MAIL_FIRST: Final = b"503 5.5.1 Say MAIL first\r\n"
NEEDS_UTF8: Final = b"553 5.6.7 An address that is not ASCII needs SMTPUTF8\r\n"
NOT_TEXT: Final = b"501 5.5.2 A command is ASCII or UTF-8, without control characters\r\n"
NO_ROOM: Final = b"452 4.3.1 No room for new mail at the moment; come again later\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the listener grants to everybody. Sizes are octets."""

    hostname: str
    rules: Rules
    max_size_octets: int
    max_recipients: int
    offers_tls: bool = False


@dataclass(slots=True)
class Transaction:
    """From MAIL to the end of data."""

    mail: MailArgument
    reverse_path: str
    recipients: dict[str, RcptArgument] = field(default_factory=dict)  # each once, however often it is named
    refusal: bytes = b""  # of the last recipient that was refused


class Reception:
    """One client's session. `command` answers; `submission` says what a transaction came to."""

    def __init__(self, terms: Terms, address: IpAddress, has_room: Callable[[], bool]) -> None:
        self.terms = terms
        self.client = Client(address)
        self.kind = relaying.kind(self.client, terms.rules)
        self.helo: str | None = None
        self.extended = False
        self.tls = "none"
        self.transaction: Transaction | None = None
        self.too_large: tuple[Submission, int] | None = (
            None  # refused at MAIL for its size, and not on record yet
        )
        self.errors = 0  # 5xx replies since the last message that was taken
        self.commands = 0  # commands but RCPT since then
        self._has_room = has_room

    def command(self, verb: bytes, line: bytes) -> bytes:
        """Answer a command; `verb` is its first word in upper case, `line` the whole of it without CRLF."""
        answer = _ANSWERS.get(verb)
        if verb != b"RCPT":
            self.commands += 1
        if answer is None:
            reply = b"500 5.5.2 This command is not known here\r\n"
        else:
            argument = line[len(verb) :].strip().decode("utf-8", "replace")
            reply = (
                answer(self, argument) if argument.isprintable() and "\ufffd" not in argument else NOT_TEXT
            )
        if reply[0] == 0x35:
            self.errors += 1
        return reply

    def secured(self, tls: str) -> None:
        """TLS stands: what was said before was said by nobody (RFC 3207 section 4.2)."""
        self.tls = tls
        self.helo, self.extended, self.transaction = None, False, None

    def logged_in(self, user: str) -> None:
        """The client has proven who it is."""
        self.client = Client(self.client.address, user)
        self.kind = relaying.kind(self.client, self.terms.rules)

    def data_refusal(self, argument: bytes) -> bytes | None:
        """Why DATA can't begin now; None where 354 is the answer."""
        transaction = self.transaction
        if transaction is None:
            return MAIL_FIRST
        if argument:
            return b"501 5.5.4 Syntax: DATA\r\n"
        if not transaction.recipients:
            return transaction.refusal or b"503 5.5.1 Say RCPT first\r\n"
        return None

    def auth_refusal(self, argument: bytes) -> bytes | None:
        """Why nobody can log in now; None where the exchange begins."""
        if not self.terms.rules.has_users:
            return b"502 5.5.1 There is nobody to log in here\r\n"
        if not self.offers_login:
            return b"538 5.7.11 Log in under TLS: say STARTTLS first\r\n"
        if not self.extended:
            return HELLO_FIRST
        if self.client.user is not None or self.transaction is not None:
            return b"503 5.5.1 Not now: you are logged in, or a transaction is under way\r\n"
        if argument.partition(b" ")[0].upper() not in MECHANISMS:
            return b"504 5.5.4 PLAIN and LOGIN are known here\r\n"
        return None

    def submission(self) -> Submission:
        """Return the envelope of the transaction, which is over now."""
        transaction, self.transaction = self.transaction, None
        assert transaction is not None
        return self._submission(transaction)

    def _submission(self, transaction: Transaction) -> Submission:
        notify = tuple(r.notify for r in transaction.recipients.values())
        orcpt = tuple(r.orcpt for r in transaction.recipients.values())
        return Submission(
            peer=str(self.client.address),
            helo=self.helo or "",
            protocol=self.protocol(utf8=transaction.mail.smtputf8),
            tls=self.tls,
            user=self.client.user,
            reverse_path=transaction.reverse_path,
            recipients=tuple(transaction.recipients),
            notify=notify if any(notify) else (),
            orcpt=orcpt if any(orcpt) else (),
            envid=transaction.mail.envid,
            ret=transaction.mail.ret,
            smtputf8=transaction.mail.smtputf8,
            pushed=self.kind == "inbound",
        )

    def protocol(self, *, utf8: bool) -> str:
        """Return the word for a trace (RFC 3848; RFC 6531 section 4.3)."""
        if not self.extended:
            return "SMTP"
        secure, known = "S" if self.tls != "none" else "", "A" if self.client.user is not None else ""
        return f"{'UTF8SMTP' if utf8 else 'ESMTP'}{secure}{known}"

    # -- the commands

    def _helo(self, argument: str) -> bytes:
        return self._greet(argument, extended=False) or f"250 {self.terms.hostname}\r\n".encode()

    def _ehlo(self, argument: str) -> bytes:
        refusal = self._greet(argument, extended=True)
        if refusal is not None:
            return refusal
        offers = [
            self.terms.hostname,
            f"SIZE {self.terms.max_size_octets}",
            *("PIPELINING", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "DSN", "HELP"),
        ]
        if self.terms.offers_tls and self.tls == "none":
            offers.append("STARTTLS")
        if self.offers_login:
            offers.append("AUTH PLAIN LOGIN")
        lines = [f"250-{offer}\r\n" for offer in offers[:-1]]
        return "".join([*lines, f"250 {offers[-1]}\r\n"]).encode()

    @property
    def offers_login(self) -> bool:
        """Whether a password may be said now."""
        return self.terms.rules.has_users and self.tls != "none"

    def _greet(self, argument: str, *, extended: bool) -> bytes | None:
        """Take note of a name, whatever it is; a new greeting ends the transaction (RFC 5321 section 4.1.4)."""
        if not argument or " " in argument or len(argument) > 255:
            return b"501 5.5.4 Syntax: EHLO your-host-name\r\n"
        self.helo, self.extended, self.transaction = argument, extended, None
        return None

    def _mail(self, argument: str) -> bytes:
        if self.helo is None:
            return HELLO_FIRST
        if self.transaction is not None:
            return b"503 5.5.1 There is a transaction already: say RSET first\r\n"
        try:
            mail = mail_argument(argument, extended=self.extended)
        except ArgumentFault as fault:
            return f"{fault.reply}\r\n".encode()
        if not mail.smtputf8 and not mail.mailbox.isascii():
            return NEEDS_UTF8
        verdict = relaying.sender(mail.mailbox, self.client, self.terms.rules)
        if isinstance(verdict, Refused):
            return _reply(verdict)
        limit = self.terms.max_size_octets
        if mail.size_octets is not None and mail.size_octets > limit:
            if self.kind != "stranger":  # whose mail would not have been taken anyway
                self.too_large = self._submission(Transaction(mail, verdict)), mail.size_octets
            return f"552 5.3.4 The message is too large: at most {limit} octets are taken here\r\n".encode()
        if not self._has_room():
            return NO_ROOM
        self.transaction = Transaction(mail, verdict)
        return b"250 2.1.0 Ok\r\n"

    def _rcpt(self, argument: str) -> bytes:
        transaction = self.transaction
        if transaction is None:
            return HELLO_FIRST if self.helo is None else MAIL_FIRST
        utf8 = transaction.mail.smtputf8
        try:
            rcpt = rcpt_argument(argument, extended=self.extended, utf8=utf8)
        except ArgumentFault as fault:
            transaction.refusal = f"{fault.reply}\r\n".encode()
            return transaction.refusal
        reply = NEEDS_UTF8 if not utf8 and not rcpt.mailbox.isascii() else self._add(transaction, rcpt)
        if reply[0] != 0x32:
            transaction.refusal = reply
        return reply

    def _add(self, transaction: Transaction, rcpt: RcptArgument) -> bytes:
        verdict = relaying.recipient(rcpt.mailbox, self.client, self.kind, self.terms.rules)
        if isinstance(verdict, Refused):
            return _reply(verdict)
        if len(transaction.recipients) >= self.terms.max_recipients and verdict not in transaction.recipients:
            return b"452 4.5.3 Too many recipients: send the others in a transaction of their own\r\n"
        transaction.recipients.setdefault(verdict, rcpt)
        return b"250 2.1.5 Ok\r\n"

    def _rset(self, argument: str) -> bytes:
        if argument:
            return b"501 5.5.4 Syntax: RSET\r\n"
        self.transaction = None
        return OK

    def _noop(self, _argument: str) -> bytes:
        return OK

    def _vrfy(self, argument: str) -> bytes:
        if not argument:
            return b"501 5.5.4 Syntax: VRFY address\r\n"
        return b"252 2.5.0 Not verified here: send the message and it will be tried\r\n"

    def _expn(self, _argument: str) -> bytes:
        return b"502 5.5.1 Lists are not expanded here\r\n"

    def _help(self, _argument: str) -> bytes:
        return HELP


def _reply(refused: Refused) -> bytes:
    """A verdict as it goes out: one line, whatever the address in it is."""
    return refused.reply[:REPLY_CHARACTERS].encode() + b"\r\n"


_ANSWERS: Final[dict[bytes, Callable[[Reception, str], bytes]]] = {
    b"HELO": Reception._helo,
    b"EHLO": Reception._ehlo,
    b"MAIL": Reception._mail,
    b"RCPT": Reception._rcpt,
    b"RSET": Reception._rset,
    b"NOOP": Reception._noop,
    b"VRFY": Reception._vrfy,
    b"EXPN": Reception._expn,
    b"HELP": Reception._help,
}
