"""What the tests of the SMTP next hop share: a next hop for a port, a message, how to read an outcome."""

import hashlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from engine.adapters.smtp_next_hop import NextHopAccess, SmtpNextHop
from engine.ports import Outcome, Reply, Transaction
from tests.engine.adapters.scripted_smtp import EXTENSIONS
from tests.peers.certificates import CERTIFICATE

SOON_SECONDS = 0.3  # a time-out that a test waits for
CONTENT = b"Subject: hello\r\n\r\nHello.\r\n"
PREFIX = b"Received: from a by b\r\n"
NO_PIPELINING = tuple(line for line in EXTENSIONS if line != "PIPELINING")
FINGERPRINT = "sha256:" + hashlib.sha256(ssl.PEM_cert_to_DER_cert(CERTIFICATE)).hexdigest()


class Durable:
    """A before_dot that counts, and may do something."""

    def __init__(self, work: Callable[[], Awaitable[None]] | None = None) -> None:
        self.calls = 0
        self._work = work

    async def __call__(self) -> None:
        self.calls += 1
        if self._work is not None:
            await self._work()


@asynccontextmanager
async def next_hop(port: int, **access: Any) -> AsyncIterator[SmtpNextHop]:
    wanted = {"name": "home", "host": "127.0.0.1", "port": port, "tls": "none"} | access
    hop = SmtpNextHop(NextHopAccess(**wanted), "gate.example.net")
    try:
        yield hop
    finally:
        await hop.close()


def transaction(
    *recipients: str, content: bytes = CONTENT, prefix: bytes = PREFIX, **other: Any
) -> Transaction:
    return Transaction(
        reverse_path=other.get("reverse_path", "me@example.net"),
        recipients=recipients or ("you@example.org",),
        prefix=prefix,
        content=content,
        wish=other.get("wish"),
        smtputf8=other.get("smtputf8", False),
    )


async def handed_over(hop: SmtpNextHop, *recipients: str, **other: Any) -> Outcome:
    return await hop.hand_over(transaction(*recipients, **other), Durable())


def only(outcome: Outcome) -> Any:
    (answer,) = outcome.answers
    return answer


def codes(outcome: Outcome) -> list[int | None]:
    return [answer.code for answer in outcome.answers if isinstance(answer, Reply)]
