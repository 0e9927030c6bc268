"""Which servers take a domain's mail, asked of DNS (RFC 5321 section 5.1, RFC 7505).

Owns the order and what is left out: ourselves and who comes behind us, names without an address, addresses that can't be a
foreign server. What DNS says for good and what it could not say now are kept apart: the first is a reply of class 5, the second
of class 4. Answers are kept as long as their TTL says, and so many at most. Opens no connection but those to DNS servers.
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any, Literal

import dns.asyncresolver
import dns.exception
import dns.name
import dns.nameserver
import dns.resolver

from engine.core import direct
from engine.ports import Reply

NOBODY_ASKED = "not sent by mailgate: "  # no server said this
SMTP_PORT = 25
QUERY_SECONDS = 5.0  # one query to one DNS server
ANSWER_SECONDS = 20.0  # all of them, with repetitions
QUERIES_AT_ONCE = 64
ANSWERS_KEPT = 20_000
LONGEST_KEPT_SECONDS = 86_400.0
LONGEST_DENIAL_KEPT_SECONDS = 300.0  # that there is nothing: whoever mends his domain need not wait for us
MOST_ALIASES = 8  # CNAME after CNAME; who has more is walking in a circle
MOST_SERVERS = 10  # with the best preference: a domain with more is well reached by these
MOST_ADDRESSES = 4  # of one server

_Kind = Literal["MX", "A", "AAAA"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MailServer:
    """A server that takes a domain's mail, and where it is; a lower preference comes first."""

    name: str
    preference: int
    addresses: tuple[str, ...]


class _NoSuchName(Exception):
    """NXDOMAIN."""


class _Unanswered(Exception):
    """DNS could not say, now."""


class MailServers:
    """Answers for any number of coroutines at once. For one event loop."""

    def __init__(self, nameservers: Sequence[tuple[str, int]], hostname: str, port: int = SMTP_PORT) -> None:
        """`nameservers` are address and port, none for those of the machine; `hostname` is our own; `port` is where mail
        servers are spoken to. Raises OSError where the machine has no DNS servers.
        """
        try:
            self._resolver = dns.asyncresolver.Resolver(configure=not nameservers)
        except dns.resolver.NoResolverConfiguration as error:
            raise OSError("this machine names no DNS servers: say them in nameservers") from error
        if nameservers:
            self._resolver.nameservers = [dns.nameserver.Do53Nameserver(*address) for address in nameservers]
        self._resolver.timeout = QUERY_SECONDS
        self._resolver.lifetime = ANSWER_SECONDS
        self._resolver.cache = _Kept(ANSWERS_KEPT)
        self._hostname = _absolute(hostname)
        self._port = port
        self._queries = asyncio.Semaphore(QUERIES_AT_ONCE)

    async def of(self, domain: str) -> tuple[MailServer, ...] | Reply:
        """Return the servers of a domain, the best first and equal ones in random order; or why there is none."""
        fault = direct.fault_of(domain)
        if fault is not None:
            return _refusal(550, "5.1.2", domain, fault)
        try:
            wanted = await self._exchanges(domain)
            if not wanted:
                return _refusal(556, "5.1.10", domain, "the domain takes no mail (null MX)")
            return await self._servers(domain, wanted)
        except _NoSuchName:
            return _refusal(550, "5.1.2", domain, "there is no such domain")
        except _Unanswered as error:
            return Reply(None, f"4.4.3 {domain}: DNS gave no answer: {error}", "4.4.3", "next-hop")

    async def _exchanges(self, domain: str) -> list[tuple[int, dns.name.Name]]:
        """The names that MX names, the best first; the domain's own where there is no MX; none for a null MX."""
        itself = _absolute(domain)
        found = await self._ask(itself, "MX")
        if not found:
            return [(0, itself)]
        named = [(mx.preference, mx.exchange) for mx in found if mx.exchange != dns.name.root]
        random.shuffle(named)
        return sorted(named, key=lambda pair: pair[0])

    async def _servers(
        self, domain: str, wanted: list[tuple[int, dns.name.Name]]
    ) -> tuple[MailServer, ...] | Reply:
        """Their addresses, without ourselves and who is not better than we are."""
        ours = await self._own_addresses()
        looked_up = await asyncio.gather(*(self._addresses(name) for _, name in wanted[:MOST_SERVERS]))
        servers: list[MailServer] = []
        unanswered: list[_Unanswered] = []
        least: int | None = None
        for (preference, name), addresses in zip(wanted, looked_up, strict=False):
            if name == self._hostname or self._is_us(addresses, ours):
                least = preference if least is None else least
            elif isinstance(addresses, _Unanswered):
                unanswered.append(addresses)
            elif usable := tuple(a for a in addresses if _can_be_a_server(a))[:MOST_ADDRESSES]:
                servers.append(MailServer(name=_said(name), preference=preference, addresses=usable))
        if least is not None:
            servers = [server for server in servers if server.preference < least]
        if servers:
            return tuple(servers)
        if unanswered:
            raise unanswered[0]
        if least is not None:
            return _refusal(554, "5.4.6", domain, "its mail would come back to ourselves")
        return _refusal(550, "5.4.4", domain, "none of its mail servers has an address")

    async def _addresses(self, name: dns.name.Name) -> tuple[str, ...] | _Unanswered:
        """IPv6 and IPv4 in turn, so that one of them being broken costs one wait; a name that is not there has none."""
        found = await asyncio.gather(self._ask(name, "AAAA"), self._ask(name, "A"), return_exceptions=True)
        lists: list[list[str]] = []
        for answers in found:
            if isinstance(answers, list):
                lists.append([answer.address for answer in answers])
            elif not isinstance(answers, _NoSuchName | _Unanswered):
                raise answers
        mixed = tuple(a for a in chain.from_iterable(zip_longest(*lists)) if a is not None)
        unanswered = next((answers for answers in found if isinstance(answers, _Unanswered)), None)
        return unanswered if unanswered is not None and not mixed else mixed

    async def _own_addresses(self) -> frozenset[str]:
        found = await self._addresses(self._hostname)
        return frozenset() if isinstance(found, _Unanswered) else frozenset(found)

    def _is_us(self, addresses: tuple[str, ...] | _Unanswered, ours: frozenset[str]) -> bool:
        if isinstance(addresses, _Unanswered):
            return False
        # Where mail servers are spoken to, this machine is no stranger.
        here = self._port == SMTP_PORT and any(ipaddress.ip_address(a).is_loopback for a in addresses)
        return here or not ours.isdisjoint(addresses)

    async def _ask(self, name: dns.name.Name, kind: _Kind) -> list[Any]:
        """The records of a name, aliases followed; none where it has none. Raises _NoSuchName and _Unanswered."""
        for _ in range(MOST_ALIASES):
            try:
                async with self._queries:
                    answer = await self._resolver.resolve(name, kind, raise_on_no_answer=False, search=False)
            except dns.resolver.NXDOMAIN as error:
                raise _NoSuchName from error
            except (dns.exception.DNSException, OSError, EOFError) as error:
                raise _Unanswered(f"{kind} of {_said(name)}: {_reason(error)}") from error
            if answer.rrset is not None:
                return list(answer.rrset)
            if answer.canonical_name == name:
                return []
            name = answer.canonical_name
        raise _Unanswered(f"{kind} of {_said(name)}: too many aliases")


class _Kept(dns.resolver.LRUCache):
    """Answers for as long as they say, and not for ever where they don't."""

    def put(self, key: dns.resolver.CacheKey, value: dns.resolver.Answer) -> None:
        most = LONGEST_DENIAL_KEPT_SECONDS if value.rrset is None else LONGEST_KEPT_SECONDS
        value.expiration = min(value.expiration, time.time() + most)
        super().put(key, value)


def _refusal(code: int, enhanced: str, domain: str, text: str) -> Reply:
    return Reply(code, f"{enhanced} {NOBODY_ASKED}{domain}: {text}", enhanced, "recipient")


def _absolute(name: str) -> dns.name.Name:
    return dns.name.from_text(name, dns.name.root)


def _said(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower()


def _can_be_a_server(address: str) -> bool:
    parsed = ipaddress.ip_address(address)
    return not (parsed.is_unspecified or parsed.is_multicast or parsed.is_link_local)


def _reason(error: Exception) -> str:
    """What went wrong, in few words; the library's own speak of everything it tried."""
    if isinstance(error, dns.resolver.LifetimeTimeout):
        return "timed out"
    if isinstance(error, dns.resolver.NoNameservers):
        last = error.kwargs.get("errors") or [("", False, 0, error, None)]
        return str(last[-1][3]) or type(last[-1][3]).__name__
    return str(error) or type(error).__name__
