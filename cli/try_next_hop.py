"""Trying a next hop out: connect, EHLO, TLS, AUTH as configured, and an empty MAIL; no mail is handed over.

Owns what each extension means for us, and which setting would help where no session can be had.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import timedelta

from cli import times
from cli.trial import REPLY_SECONDS, Trial, distrusted, offered
from engine.adapters.tls_probe import Opening, certificate_of, greeting_of
from engine.ports import Greeting, NextHopTrouble
from engine.settings import NextHopSettings
from engine.wiring import next_hop

ASKED = ("SIZE", "PIPELINING", "8BITMIME", "SMTPUTF8", "DSN", "AUTH")
JSON_NAMES = {"8BITMIME": "eightbitmime"}  # a name that programs can use as an attribute


async def try_next_hop(hop: NextHopSettings, hostname: str) -> Trial:
    """Greet a next hop; whatever goes wrong is in what is returned."""
    began = time.monotonic()
    adapter = next_hop(hop, hostname)
    try:
        async with asyncio.timeout(REPLY_SECONDS):
            greeting = await adapter.greet()
            refusal = await adapter.refusal()
    except TimeoutError:
        return await _failed(hop, f"no session with {hop.host}:{hop.port} within {REPLY_SECONDS:g} s")
    except NextHopTrouble as trouble:
        return await _failed(hop, str(trouble))
    finally:
        await adapter.close()
    if refusal is not None:
        return _shut_out(hop, greeting, refusal)
    return _looked(hop, greeting, timedelta(seconds=time.monotonic() - began))


def _looked(hop: NextHopSettings, greeting: Greeting, took: timedelta) -> Trial:
    lines = {line.partition(" ")[0]: line.partition(" ")[2] for line in greeting.extensions}
    mechanisms = lines.get("AUTH", "").split()
    has = {name: name in lines for name in ASKED}
    limit = f", takes up to {times.size(greeting.size_octets)}" if greeting.size_octets else ""
    logged_in = f", logged in as {hop.username}" if hop.username else ""
    return Trial(
        ok=True,
        found=(
            f"{greeting.address} greeted within {times.span(took)}, TLS: {greeting.tls}{logged_in}",
            f"{greeting.banner}{limit}",
            offered(
                (f"AUTH {' '.join(mechanisms)}".rstrip() if name == "AUTH" else name, there)
                for name, there in has.items()
                if there or name != "AUTH" or hop.username
            ),
        ),
        advice=tuple(_meanings(hop, greeting, has)),
        facts={
            "banner": greeting.banner,
            "address": greeting.address,
            "tls": greeting.tls,
            "size_octets": greeting.size_octets,
            "auth": mechanisms,
            **{JSON_NAMES.get(n, n.lower()): has[n] for n in ("PIPELINING", "8BITMIME", "SMTPUTF8", "DSN")},
            "extensions": list(greeting.extensions),
        },
    )


def _meanings(hop: NextHopSettings, greeting: Greeting, has: dict[str, bool]) -> Iterator[str]:
    """What the server lacks, and what follows."""
    size = greeting.size_octets
    if size is None and hop.max_size is None:
        yield "it names no size limit: what it won't take is found out by trying; max_size would say it first"
    if size is not None and hop.max_size is not None and hop.max_size > size:
        yield f"max_size is above what it takes ({times.size(size)}), and so changes nothing"
    if hop.tls == "opportunistic" and greeting.tls.startswith("none"):
        yield "mail goes in the clear: it offers no STARTTLS that works"
    if hop.tls == "none" and "STARTTLS" in (line.partition(" ")[0] for line in greeting.extensions):
        yield 'mail goes in the clear though it offers STARTTLS: tls = "opportunistic" uses it'
    if not has["8BITMIME"]:
        yield "no 8BITMIME: text in eight bits is sent as it is, and may be refused"
    if not has["SMTPUTF8"]:
        yield "no SMTPUTF8: mail from or to addresses outside ASCII fails there"
    if not has["PIPELINING"]:
        yield "no PIPELINING: each command waits for the line's round trip"


def _shut_out(hop: NextHopSettings, greeting: Greeting, refusal: str) -> Trial:
    """It greets, and takes no mail from such a session: more is asked of whoever comes."""
    clear = greeting.tls.startswith("none")
    if clear and "TLS" in refusal.upper():
        advice = 'it wants TLS first: set tls = "required"'
    elif hop.username is None:
        safely = ', with tls = "required"' if clear else ""
        advice = f"it wants a login: set username and password{safely}; or have it take mail from this machine's address"
    else:
        advice = f"{hop.username} is logged in and may not send: ask whoever runs the server"
    return Trial(ok=False, found=(f"it takes no mail from such a session: {refusal}",), advice=(advice,))


async def _failed(hop: NextHopSettings, text: str) -> Trial:
    advice = await _advice(hop, text)
    return Trial(ok=False, found=(text,), advice=advice)


async def _advice(hop: NextHopSettings, text: str) -> tuple[str, ...]:
    """What might help, by what was said; the adapter's words are the only thing to go by."""
    opening: Opening = "implicit" if hop.tls == "implicit" else "smtp"
    if "not trusted" in text:
        return distrusted(text, await certificate_of(hop.host, hop.port, opening))
    if "not offered" in text:
        without = "without tls_verify, tls_ca and tls_fingerprint"
        return (
            f'use its port for implicit TLS, mostly 465, with tls = "implicit"; or tls = "opportunistic" {without}',
        )
    if "authentication" in text:
        return () if "no TLS" in text or "no password" in text else ("check username and password",)
    if hop.tls == "implicit" and await greeting_of(hop.host, hop.port) is not None:
        return ('the server begins in the clear there: set tls = "required" for STARTTLS, or use port 465',)
    if hop.tls != "implicit" and await certificate_of(hop.host, hop.port, "implicit"):
        return ('the server wants TLS from the first octet there: set tls = "implicit"',)
    if "connect to" in text or "look up" in text:
        return ("check host and port, and whether a firewall lets this machine through",)
    return ()
