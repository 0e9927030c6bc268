"""Logging in to the listener: PLAIN and LOGIN (RFC 4954, RFC 4616), passwords compared in constant time.

Owns what is asked and answered, and who failed how often. A password is read at the moment it is compared, so that a changed one
counts at once. It is for the connection to see that nothing of this happens without TLS.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network
from typing import Final

from engine.core.relaying import IpAddress
from engine.secrets import SecretError

FAILURE_SECONDS: Final = 2.0  # who guesses waits
FAILURES_PER_ADDRESS: Final = 10  # then nobody logs in from there for a while
FAILURES_KEPT_SECONDS: Final = 600.0
ADDRESSES_KEPT: Final = 10_000

logger = logging.getLogger("mailgate.listen")


class Cancelled(Exception):
    """The exchange came to nothing; `reply` is what to answer."""

    def __init__(self, reply: bytes) -> None:
        super().__init__(reply)
        self.reply = reply


class TooManyFailures(Exception):
    """Nobody may log in from there now."""


class Failures:
    """Failed logins by address. Old ones count no more; of very many addresses the latest are kept.

    A /64 of IPv6 is one: that much is given to a single customer (RFC 6177), who may use any address in it.
    """

    def __init__(self) -> None:
        self._failed: dict[IpAddress | IPv6Network, list[float]] = {}

    def note(self, address: IpAddress, now_seconds: float) -> None:
        """One more failed."""
        whose = _whose(address)
        times = self._failed.pop(whose, [])
        self._failed[whose] = [*times[1 - FAILURES_PER_ADDRESS :], now_seconds]
        if len(self._failed) > ADDRESSES_KEPT:
            del self._failed[next(iter(self._failed))]

    def too_many(self, address: IpAddress, now_seconds: float) -> bool:
        """Whether nobody may log in from there now."""
        times = self._failed.get(_whose(address), ())
        return sum(now_seconds - at < FAILURES_KEPT_SECONDS for at in times) >= FAILURES_PER_ADDRESS


async def credentials(
    mechanism: bytes, initial: bytes | None, ask: Callable[[bytes], Awaitable[bytes]]
) -> tuple[str, str]:
    """Return the name and password a client gives; `ask` sends a challenge and returns the response. Raises Cancelled."""
    try:
        if mechanism == b"PLAIN":
            given = _decoded(initial if initial is not None else await ask(b"334 \r\n"))
            parts = given.decode().split("\0")
            if len(parts) != 3 or parts[0] not in ("", parts[1]):
                raise Cancelled(b"501 5.5.2 PLAIN is NUL, name, NUL, password\r\n")
            return parts[1], parts[2]
        # The challenges of LOGIN are "Username:" and "Password:", in base64.
        name = _decoded(initial if initial is not None else await ask(b"334 VXNlcm5hbWU6\r\n"))
        return name.decode(), _decoded(await ask(b"334 UGFzc3dvcmQ6\r\n")).decode()
    except UnicodeDecodeError:
        raise Cancelled(b"501 5.5.2 Names and passwords are UTF-8\r\n") from None


@dataclass(frozen=True, slots=True)
class Guess:
    """Who says that he is whom, from where."""

    name: str
    password: str
    address: IpAddress


async def proven(
    guess: Guess,
    users: Mapping[str, Callable[[], Awaitable[str]]],
    failures: Failures,
    now: Callable[[], float],
) -> bool:
    """Whether the password is that user's; a failure is noted and waited for. Raises TooManyFailures.

    Takes as long for a user that isn't there.
    """
    if failures.too_many(guess.address, now()):
        raise TooManyFailures
    expected = await _expected(guess.name, users)
    # Nothing is waited for between the look and the note: however many guess at once, no more are answered.
    if failures.too_many(guess.address, now()):
        raise TooManyFailures
    # Compared in any case, so that the time says nothing.
    same = hmac.compare_digest(expected.encode(), guess.password.encode("utf-8", "surrogatepass"))
    if same and expected:
        return True
    failures.note(guess.address, now())
    logger.warning("[%s]: a login failed", guess.address)
    await asyncio.sleep(FAILURE_SECONDS)
    return False


async def _expected(name: str, users: Mapping[str, Callable[[], Awaitable[str]]]) -> str:
    """The password of a user; "" where there is none."""
    reveal = users.get(name)
    if reveal is None:
        return ""
    try:
        return await reveal()
    except SecretError as error:
        logger.error("%s", error)
        return ""


def _whose(address: IpAddress) -> IpAddress | IPv6Network:
    return IPv6Network((address, 64), strict=False) if isinstance(address, IPv6Address) else address


def _decoded(response: bytes) -> bytes:
    if response == b"*":
        raise Cancelled(b"501 5.7.0 Cancelled\r\n")
    try:
        return b64decode(b"" if response == b"=" else response, validate=True)
    except Base64Error:
        raise Cancelled(b"501 5.5.2 That is not base64\r\n") from None
