"""POP3 mailboxes as a source of messages: `engine.ports.SourceSession` over `engine.wire.pop3`.

Owns what a session does once it is logged in: listing, retrieving, marking, committing. How it gets there
is in `pop3_login`, how far ahead it asks in `pop3_pipeline`, what a listing comes to in `pop3_offers`, what
failures mean in `pop3_trouble`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Final

from engine.adapters import pop3_login, pop3_trouble
from engine.adapters.pop3_access import Auth, MailboxAccess, Tls
from engine.adapters.pop3_connection import Pop3Connection
from engine.adapters.pop3_offers import offers_of
from engine.adapters.pop3_pipeline import Pipeline
from engine.adapters.tls import describe
from engine.ports import Admit, Lacking, Offer, Refused, Retrieved, SourceTrouble
from engine.wire import pop3_commands
from engine.wire.pop3_commands import Command
from engine.wire.pop3_listing import TooManyOffers
from engine.wire.pop3_replies import Capabilities, Replied, text_of

__all__ = ["Auth", "MailboxAccess", "Pop3Session", "Tls", "open_session"]

RETRIEVED_SLACK_OCTETS: Final = 64 * 1024  # header fields that servers add and LIST does not count
# A first answer too many passes for that of the first of these; what is left of it, for none at all.
IN_STEP: Final = (pop3_commands.NOOP, pop3_commands.NOOP)
LISTING_OCTETS_AT_ONCE: Final = 256 * 1024  # some 10,000 lines, 10 ms; a longer listing is read off the loop


async def open_session(mailbox: MailboxAccess) -> Pop3Session:
    """Connect, secure, log in. Raises SourceTrouble, and what `mailbox.secret` raises; nothing is left open
    then.
    """
    connection = await pop3_login.connect(mailbox)
    try:
        greeted = await pop3_login.greet(connection)
        if mailbox.tls == "starttls":
            await pop3_login.start_tls(connection, mailbox)
        await pop3_login.log_in(connection, mailbox, greeted)
    except BaseException:
        connection.abort()
        raise
    return Pop3Session(connection, mailbox)


class Pop3Session:
    """One logged-in session. Its methods are used one after the other, never side by side.

    A retrieval that its consumer leaves early leaves replies under way that nobody takes: from then on only
    `abort` makes sense. The other methods raise SourceTrouble, and `quit` closes without QUIT and returns
    it.
    """

    def __init__(self, connection: Pop3Connection, mailbox: MailboxAccess) -> None:
        self.capabilities = _as_lines(connection.link.capabilities)
        verified = mailbox.tls_verify or mailbox.tls_fingerprint is not None
        self.tls = describe(connection.transport, verified=verified)
        self.passed_over = 0  # listed messages left out of the last listing, for a broken line
        self.lacking: tuple[Lacking, ...] = ()  # some of them
        self._connection = connection
        self._quit_seconds = mailbox.quit_seconds
        self._busy_with: str | None = None  # a run of commands that has not taken all its replies

    async def listing(self, admit: Callable[[int], Awaitable[None]] | None = None) -> tuple[Offer, ...]:
        """LIST and UIDL, matched by number. Raises SourceTrouble, and what `admit` raises."""
        asked: dict[str, int] = {}

        async def more(command: Command, octets: int) -> None:
            asked[command.verb] = octets
            if admit is not None:
                await admit(sum(asked.values()))

        commands = [pop3_commands.LIST, pop3_commands.UIDL]
        sizes, uidls = await self._run("listing", commands, more)
        return await self._offers(sizes, uidls)

    async def _offers(self, sizes: Replied, uidls: Replied) -> tuple[Offer, ...]:
        if not sizes.ok:
            raise pop3_trouble.of_refusal(sizes)
        if not uidls.ok and (
            "UIDL" in self._connection.link.capabilities or not pop3_trouble.is_codeless(uidls)
        ):
            # The server has UIDL and cannot say it now. To go on would fetch everything a second time.
            raise pop3_trouble.of_refusal(uidls)
        octets = len(sizes.body or b"") + len(uidls.body or b"")
        try:
            if octets > LISTING_OCTETS_AT_ONCE:
                listed = await asyncio.to_thread(offers_of, sizes, uidls)
            else:
                listed = offers_of(sizes, uidls)
        except TooManyOffers as error:
            raise SourceTrouble("protocol", str(error)) from error
        offers, self.passed_over, self.lacking = listed
        if self.passed_over and not offers:
            raise SourceTrouble("protocol", f"no line of the listing can be read, of {self.passed_over}")
        return offers

    async def retrieve(
        self, offers: Sequence[Offer], admit: Admit
    ) -> AsyncGenerator[Retrieved | Refused, None]:
        """RETR each offer, in order. Use it under `contextlib.aclosing`, and see the class on leaving early.

        A server that refuses a message and then gives it all the same would pass for one that gives each message from there
        on in the place of the next. So what comes behind a refusal is kept back until the session has shown to be in step.
        Raises SourceTrouble with the offer whose retrieval broke the session, and what `admit` raises.
        """
        self._begin("a retrieval")
        commands = (_retr(offer) for offer in offers)
        kept_back: list[Retrieved] = []
        due, proofs = len(offers), 0  # replies
        async with Pipeline(self._connection, commands, len(offers), _by_offer(admit)) as replies:
            while due:
                reply = await replies.next()
                proof = reply.command is pop3_commands.NOOP
                if reply.body is None and not proof and not proofs:
                    replies.slip_in(*IN_STEP)
                    proofs = len(IN_STEP)
                    due += proofs
                due -= 1
                if not due:
                    self._busy_with = None
                if proof:
                    proofs -= 1
                elif reply.body is None:
                    yield Refused(_offer(reply.command), text_of(reply.line))
                else:
                    kept_back.append(Retrieved(_offer(reply.command), reply.body))
                while kept_back and not proofs:
                    yield kept_back.pop(0)
        self._busy_with = None

    async def top(self, offer: Offer, admit: Admit) -> bytes | None:
        """The header section, or None where the server refuses TOP. Raises SourceTrouble, and what `admit`
        raises.
        """
        command = pop3_commands.top(offer.number, listed_octets=offer.size_octets, about=offer)
        (reply,) = await self._run("TOP", [command], _by_offer(admit))
        if reply.body is None:
            await self._run("NOOP", IN_STEP)
            return None
        return bytes(reply.body)

    async def delete(self, offers: Sequence[Offer]) -> tuple[Refused, ...]:
        """DELE each; those the server refused to mark. Raises SourceTrouble, and then nothing is marked."""
        commands = [pop3_commands.dele(offer.number, about=offer) for offer in offers]
        replies = await self._run("a deletion", commands)
        return tuple(Refused(_offer(reply.command), text_of(reply.line)) for reply in replies if not reply.ok)

    async def reset(self) -> bool:
        """RSET: unmark what was marked; True for +OK. Raises SourceTrouble."""
        (reply,) = await self._run("RSET", [pop3_commands.RSET])
        return reply.ok

    async def quit(self) -> SourceTrouble | None:
        """QUIT and close; None only for +OK. Raises nothing of what the server does."""
        if self._busy_with is not None:
            await self.abort()
            return SourceTrouble("protocol", f"{self._busy_with} was left early, so there was no QUIT")
        self._connection.idle_seconds = self._quit_seconds
        try:
            (reply,) = await self._run("QUIT", [pop3_commands.QUIT])
        except SourceTrouble as trouble:
            return trouble
        finally:
            await self._connection.close()
        return None if reply.ok else pop3_trouble.of_refusal(reply)

    async def abort(self) -> None:
        """Close at once, without QUIT: nothing that was marked is removed."""
        self._connection.abort()
        await self._connection.close()

    async def _run(
        self,
        name: str,
        commands: Sequence[Command],
        admit: Callable[[Command, int], Awaitable[None]] | None = None,
    ) -> list[Replied]:
        """The reply to each command."""
        self._begin(name)
        async with Pipeline(self._connection, commands, len(commands), admit) as replies:
            taken = [await replies.next() for _ in commands]
        self._busy_with = None
        return taken

    def _begin(self, name: str) -> None:
        if self._connection.broken is not None:
            raise pop3_trouble.of_broken(self._connection.broken)
        if self._busy_with is not None:
            raise SourceTrouble(
                "protocol", f"{self._busy_with} was left early, so the session is of no use any more"
            )
        self._busy_with = name


def _retr(offer: Offer) -> Command:
    """Twice the listed size: some servers count a line ending as one octet and then send two."""
    limit_octets = 2 * offer.size_octets + RETRIEVED_SLACK_OCTETS
    return pop3_commands.retr(
        offer.number, listed_octets=offer.size_octets, limit_octets=limit_octets, about=offer
    )


def _by_offer(admit: Admit) -> Callable[[Command, int], Awaitable[None]]:
    return lambda command, octets: admit(_offer(command), octets)


def _offer(command: Command) -> Offer:
    assert isinstance(command.about, Offer), "made by this module"
    return command.about


def _as_lines(capabilities: Capabilities) -> frozenset[str]:
    """As the CAPA reply lists them: keyword in upper case, then its arguments."""
    return frozenset(" ".join((keyword, *arguments)) for keyword, arguments in capabilities.items())
