"""Trying a mailbox out: log in, list, leave; nothing is retrieved, nothing is deleted.

Owns what each capability (RFC 2449) means for us, and which setting would help where the login fails.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

from cli import times
from cli.trial import CONNECT_SECONDS, REPLY_SECONDS, Trial, distrusted, offered
from engine.adapters.pop3_source import Pop3Session, open_session
from engine.adapters.tls_probe import Opening, certificate_of, greeting_of
from engine.core.withheld import lines, passed_over
from engine.ports import Offer, SourceTrouble
from engine.secrets import SecretError
from engine.settings import Mailbox
from engine.wiring import mailbox_access

NAMED = 3  # of what can't be fetched
ASKED = ("UIDL", "TOP", "PIPELINING")


async def try_mailbox(mailbox: Mailbox) -> Trial:
    """Log in to a mailbox and look; whatever goes wrong is in what is returned."""
    began = time.monotonic()
    patient = replace(
        mailbox_access(mailbox),
        connect_seconds=CONNECT_SECONDS,
        idle_seconds=REPLY_SECONDS,
        quit_seconds=REPLY_SECONDS,
    )
    try:
        session = await open_session(patient)
    except SecretError as error:
        return Trial(ok=False, found=(str(error),), facts={"trouble": "auth"})
    except SourceTrouble as trouble:
        return await _failed(mailbox, trouble)
    took = timedelta(seconds=time.monotonic() - began)
    try:
        offers = await session.listing()
        await session.quit()
    except SourceTrouble as trouble:
        return await _failed(mailbox, trouble)
    finally:
        await session.abort()
    return _looked(mailbox, session, offers, took)


def _looked(mailbox: Mailbox, session: Pop3Session, offers: tuple[Offer, ...], took: timedelta) -> Trial:
    octets = sum(offer.size_octets for offer in offers)
    has = {name: _has(session, name) for name in ASKED}
    if offers:
        has["UIDL"] = offers[0].uidl is not None  # what it does counts for more than what it says
    useless = offers and not has["UIDL"] and mailbox.remove.when != "downloaded"
    held = "1 message" if len(offers) == 1 else f"{len(offers):,} messages"
    but = "can't be polled as it is configured, for want of UIDL; " if useless else ""
    found = (
        f"{but}logged in within {times.span(took)}, TLS: {session.tls}",
        f"{held}, {times.size(octets)}",
        offered(has.items()) if session.capabilities or offers else "does not say what it offers (no CAPA)",
    )
    return Trial(
        ok=not useless,
        found=found,
        advice=tuple(_meanings(mailbox, session, has, known=bool(session.capabilities))),
        facts={
            "trouble": "protocol" if useless else None,
            "tls": session.tls,
            "messages": len(offers),
            "octets": octets,
            **{name.lower(): there for name, there in has.items()},
            "capabilities": sorted(session.capabilities),
        },
    )


def _has(session: Pop3Session, name: str) -> bool:
    return any(line.partition(" ")[0] == name for line in session.capabilities)


def _meanings(mailbox: Mailbox, session: Pop3Session, has: dict[str, bool], *, known: bool) -> Iterator[str]:
    """What the server lacks or demands, and what follows."""
    if not has["UIDL"] and known and mailbox.remove.when != "downloaded":
        yield (
            "no UIDL: messages can't be told apart from one session to the next:"
            ' set remove = "downloaded", else it is not polled'
        )
    if not has["TOP"] and known:
        yield "no TOP: of a message that is too large not even the header can be read"
    if not has["PIPELINING"] and known:
        yield "no PIPELINING: one message after the other, each waits for the line's round trip"
    some = [passed_over(one, times.now()) for one in session.lacking[:NAMED]]
    yield from lines(some, session.passed_over - len(some))
    for line in session.capabilities:
        match line.split():
            case ["LOGIN-DELAY", seconds, *_] if seconds.isdecimal() and int(seconds) > mailbox.poll_every:
                yield f'it allows a login every {seconds} seconds: set poll_every = "{seconds}s"'
            case ["EXPIRE", "0", *_] if mailbox.remove.when != "downloaded":
                yield "it deletes what was retrieved at the end of the session by itself (EXPIRE 0)"
            case _:
                pass


async def _failed(mailbox: Mailbox, trouble: SourceTrouble) -> Trial:
    advice = await _advice(mailbox, trouble)
    return Trial(
        ok=False,
        found=(str(trouble),),
        advice=advice,
        facts={"trouble": trouble.kind},
    )


async def _advice(mailbox: Mailbox, trouble: SourceTrouble) -> tuple[str, ...]:
    match trouble.kind:
        case "tls":
            return await _tls_advice(mailbox, trouble)
        case "auth":
            return ("check username and password; some providers want the whole address, or an app password",)
        case "in-use":
            return ("another program, or a gateway that runs, has the mailbox open: try again later",)
        case "login-delay":
            return ("the server wants more time between logins: raise poll_every",)
        case "connect" | "protocol":
            return await _connect_advice(mailbox, trouble)


async def _tls_advice(mailbox: Mailbox, trouble: SourceTrouble) -> tuple[str, ...]:
    opening: Opening = "implicit" if mailbox.tls == "implicit" else "pop3"
    if "not trusted" in trouble.text:
        return distrusted(trouble.text, await certificate_of(mailbox.host, mailbox.port, opening))
    if mailbox.tls == "implicit" and await greeting_of(mailbox.host, mailbox.port) is not None:
        if await certificate_of(mailbox.host, mailbox.port, "pop3") is not None:
            return ('the server begins in the clear there and offers STLS: set tls = "starttls"',)
        return (
            "the server begins in the clear there, without TLS: use its port for implicit TLS, mostly 995",
        )
    if mailbox.tls == "starttls":
        return ('set tls = "implicit" and its port, mostly 995, if the server has one',)
    return ()


async def _connect_advice(mailbox: Mailbox, trouble: SourceTrouble) -> tuple[str, ...]:
    if mailbox.tls != "implicit" and await certificate_of(mailbox.host, mailbox.port, "implicit"):
        return ('the server wants TLS from the first octet there: set tls = "implicit"',)
    if "connect to" in trouble.text or "connection to" in trouble.text:
        return ("check host and port: POP3 is mostly on 995 with implicit TLS, on 110 otherwise",)
    return ()
