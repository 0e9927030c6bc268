"""What came of trying something out: whether it works, what was found, what a person could do about it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass, field
from typing import Any

CONNECT_SECONDS = 10.0  # shorter than the gateway's patience: a person is waiting
REPLY_SECONDS = 10.0  # longer than servers hold their greeting back to catch spammers

EXPIRED = "certificate has expired"  # as OpenSSL says it
RENEW = "whoever runs the server has to renew its certificate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """`facts` are for `--json`; `found` and `advice` are lines for people."""

    ok: bool
    found: tuple[str, ...]
    advice: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return what `--json` prints under "connect"."""
        said = {"error": None} if self.ok else {"error": "; ".join(self.found)}
        return {"ok": self.ok, **said, **self.facts, "advice": list(self.advice)}


def distrusted(text: str, fingerprint: str | None) -> tuple[str, ...]:
    """Return what to do about a certificate that is not trusted; `text` says why, `fingerprint` is its own."""
    # Without spaces, so that the setting stays on one line and can be pasted.
    pin = f'tls_fingerprint="{fingerprint}"'
    if EXPIRED in text:
        until_then = f"until then, if this is the right server, pin the certificate it shows: {pin}"
        return (RENEW, until_then) if fingerprint else (RENEW,)
    trust = 'if this is the right server, trust the authority that signed its certificate: tls_ca="ca.pem"'
    return (trust, f"or pin the certificate it shows: {pin}") if fingerprint else (trust,)


class Doors:
    """Lets so many at once in at each host: providers turn away who comes with more."""

    def __init__(self, per_host: int) -> None:
        self._hosts: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(per_host))

    async def through(self, host: str, trial: Awaitable[Trial]) -> Trial:
        """Await a trial when the host has room."""
        async with self._hosts[host]:
            return await trial


def offered(names: Iterable[tuple[str, bool]]) -> str:
    """Return "has A, B; lacks C"."""
    pairs = list(names)
    has = ", ".join(name for name, there in pairs if there)
    lacks = ", ".join(name for name, there in pairs if not there)
    return "; ".join(part for part in (has and f"offers {has}", lacks and f"lacks {lacks}") if part)
