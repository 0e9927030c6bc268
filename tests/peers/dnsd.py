"""A DNS server for tests, as a resolver of the machine is: it knows its records, and nobody else.

Records are lines "name TYPE data", names without the dot at the end:

    peer = DnsPeer("customer.example MX 10 mx1.customer.example", "mx1.customer.example A 127.0.0.2")
    peer.failing.add("broken.example")   # SERVFAIL; `silent` says nothing, `truncated` answers whole by TCP only
    port = await peer.start()

A name is there where it or a name below it has a record; all else is NXDOMAIN. `shy` leaves out of an answer where an alias leads
to, so that it has to be asked for. `queries` tells what was asked.
"""

import asyncio
from typing import cast

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

TTL_SECONDS = 300


class DnsPeer:
    """Answers by UDP and by TCP at the same port."""

    def __init__(self, *records: str, ttl_seconds: int = TTL_SECONDS, shy: bool = False) -> None:
        self.ttl_seconds = ttl_seconds
        self.shy = shy
        self.failing: set[str] = set()
        self.silent: set[str] = set()
        self.truncated: set[str] = set()
        self.queries: list[tuple[str, str]] = []
        self._records: dict[tuple[dns.name.Name, str], list[str]] = {}
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None
        for record in records:
            self.add(record)

    def add(self, record: str) -> None:
        """Add a record: "name TYPE data"."""
        name, kind, data = record.split(maxsplit=2)
        self._records.setdefault((dns.name.from_text(name), kind), []).append(data)

    def asked(self, name: str) -> list[str]:
        """The types that were asked of a name, in order."""
        return [kind for asked, kind in self.queries if asked == name]

    async def start(self, port: int = 0, host: str = "127.0.0.1") -> int:
        """Answer; returns the port."""
        loop = asyncio.get_running_loop()
        self._tcp = await asyncio.start_server(self._converse, host, port)
        port = self._tcp.sockets[0].getsockname()[1]
        self._udp, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), local_addr=(host, port))
        return port

    async def stop(self) -> None:
        """Answer no more."""
        if self._udp is not None and self._tcp is not None:
            self._udp.close()
            self._tcp.close()
            await self._tcp.wait_closed()

    def answer(self, octets: bytes, *, tcp: bool) -> bytes | None:
        """The answer to a query, None for silence."""
        query = dns.message.from_wire(octets)
        (question,) = query.question
        name = question.name.to_text(omit_final_dot=True).lower()
        self.queries.append((name, dns.rdatatype.to_text(question.rdtype)))
        if name in self.silent:
            return None
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        if name in self.failing:
            response.set_rcode(dns.rcode.SERVFAIL)
        elif name in self.truncated and not tcp:
            response.flags |= dns.flags.TC
        else:
            self._fill(response, question.name, dns.rdatatype.to_text(question.rdtype))
        return response.to_wire()

    def _fill(self, response: dns.message.Message, name: dns.name.Name, kind: str) -> None:
        while alias := self._records.get((name, "CNAME")):
            response.answer.append(self._rrset(name, "CNAME", alias))
            name = dns.name.from_text(alias[0])
            if self.shy or len(response.answer) > 20:
                return
        if found := self._records.get((name, kind)):
            response.answer.append(self._rrset(name, kind, found))
        elif not any(known.is_subdomain(name) for known, _ in self._records):
            response.set_rcode(dns.rcode.NXDOMAIN)

    def _rrset(self, name: dns.name.Name, kind: str, data: list[str]) -> dns.rrset.RRset:
        return dns.rrset.from_text(
            name, self.ttl_seconds, "IN", kind, *(_absolute(kind, text) for text in data)
        )

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            length = int.from_bytes(await reader.readexactly(2))
            answer = self.answer(await reader.readexactly(length), tcp=True)
            if answer is not None:
                writer.write(len(answer).to_bytes(2) + answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, peer: DnsPeer) -> None:
        self._peer = peer
        self._transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(
            asyncio.DatagramTransport, transport
        )  # by its methods alone: uvloop has its own class

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = self._peer.answer(data, tcp=False)
        if answer is not None:
            self._transport.sendto(answer, addr)


def _absolute(kind: str, text: str) -> str:
    return text if kind in ("A", "AAAA") or text.endswith(".") else f"{text}."
