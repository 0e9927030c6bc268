"""A transaction to be sent by SMTP, looked at once: what its content is like, and whom the server need not be asked about.

Owns what is refused here (an address that can't stand in a command, SMTPUTF8 not offered) and how content is cut.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

from engine.ports import Octets, Reply, Transaction
from engine.wire.smtp import address_fault
from engine.wire.smtp_content import MOST_HEADER_OCTETS, Survey, utf8_header_section

# Content up to this is sent in one write together with the final dot.
SMALL_OCTETS = 64 * 1024
# One write of anything bigger, and what the data block time-out is for: even a modem sends it in time. Bigger
# ones are hardly faster.
CHUNK_OCTETS = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A transaction and what its content is like. `whole` is prefix and content in one, where that is
    small.
    """

    transaction: Transaction
    whole: bytes | None
    survey: Survey

    def chunks(self) -> Iterator[bytes]:
        """Prefix and content, in order."""
        if self.whole is not None:
            yield self.whole
        else:
            yield self.transaction.prefix
            yield from _cut(self.transaction.content)

    def start(self) -> bytes:
        """The first octets, at least the header section unless that is beyond reason."""
        head = memoryview(self.transaction.content)[:MOST_HEADER_OCTETS]
        return b"".join((self.transaction.prefix, head))[:MOST_HEADER_OCTETS]


async def measure(transaction: Transaction) -> Measured:
    """Look at the content once, without keeping the event loop for long."""
    survey = Survey(clean=transaction.clean)
    whole = None
    if len(transaction.prefix) + len(transaction.content) <= SMALL_OCTETS:
        whole = b"".join((transaction.prefix, transaction.content))
        survey.feed(whole)
    elif transaction.clean and not isinstance(transaction.content, memoryview):
        survey.feed(transaction.prefix)
        survey.feed(
            transaction.content
        )  # only the highest bit is looked at: milliseconds for the largest mail
    else:
        survey.feed(transaction.prefix)
        for chunk in _cut(transaction.content):
            survey.feed(chunk)
            await asyncio.sleep(0)
    return Measured(transaction=transaction, whole=whole, survey=survey)


def _cut(content: Octets) -> Iterator[bytes]:
    with memoryview(content) as view:
        for start in range(0, len(view), CHUNK_OCTETS):
            yield bytes(view[start : start + CHUNK_OCTETS])


def refused_here(transaction: Transaction) -> dict[int, Reply]:
    """Recipients, by their place, whose RCPT or whose MAIL must not be sent, with our own reply."""
    fault = address_fault(transaction.reverse_path) if transaction.reverse_path else None
    if fault is not None:
        text = f"5.1.7 not sent by mailgate: the reverse-path {fault}"
        reply = Reply(553, text, "5.1.7", "message")
        return dict.fromkeys(range(len(transaction.recipients)), reply)
    faults = {place: address_fault(address) for place, address in enumerate(transaction.recipients)}
    return {
        place: Reply(
            553, f"5.1.3 not sent by mailgate: the recipient's address {fault}", "5.1.3", "recipient"
        )
        for place, fault in faults.items()
        if fault is not None
    }


def refused_without_smtputf8(measured: Measured) -> dict[int, Reply]:
    """The same for what needs SMTPUTF8, for a server that has none (RFC 6531 sections 3.2 and 3.5).

    A header in UTF-8 does where its client asked for SMTPUTF8; other mail with eight bits in its header goes as it is.
    """
    transaction = measured.transaction
    text = "5.6.7 not sent by mailgate: the {} needs SMTPUTF8, which the next hop doesn't offer"
    asked = transaction.smtputf8 and measured.survey.eight_bit
    header = "header" if asked and utf8_header_section(measured.start()) else None
    if what := "reverse-path" if not transaction.reverse_path.isascii() else header:
        reply = Reply(550, text.format(what), "5.6.7", "message")
        return dict.fromkeys(range(len(transaction.recipients)), reply)
    reply = Reply(550, text.format("recipient's address"), "5.6.7", "message")
    return {place: reply for place, address in enumerate(transaction.recipients) if not address.isascii()}


def too_large(transaction: Transaction, size_octets: int, limit_octets: int) -> dict[int, Reply]:
    """The same for a message that the server need not be asked about: it is larger than SIZE (RFC 1870 section 6.1)."""
    text = f"5.3.4 not sent by mailgate: {size_octets:,} octets, and the next hop takes {limit_octets:,} by its EHLO"
    reply = Reply(552, text, "5.3.4", "message", limit_octets)
    return dict.fromkeys(range(len(transaction.recipients)), reply)
