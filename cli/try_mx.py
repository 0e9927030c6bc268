"""Trying direct delivery out: whether DNS answers; no server of a stranger is spoken to, no mail is handed over."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

from cli import times
from cli.trial import REPLY_SECONDS, Trial
from engine.adapters.mx import NOBODY_ASKED
from engine.ports import Reply
from engine.settings import NextHopSettings
from engine.wiring import mail_servers

SERVERS_SAID = 3
PORT_ADVICE = "whether port {} is open on the way out shows with the first mail: many networks close it"


async def try_mx(hop: NextHopSettings, hostname: str, domain: str) -> Trial:
    """Ask DNS for the mail servers of a domain; that they are ourselves, or none, is an answer too."""
    began = time.monotonic()
    try:
        servers = mail_servers(hop, hostname)
        async with asyncio.timeout(REPLY_SECONDS):
            found = await servers.of(domain)
    except TimeoutError:
        return _failed(f"no answer from DNS within {REPLY_SECONDS:g} s")
    except OSError as error:
        return _failed(str(error))
    if isinstance(found, Reply):
        if not found.permanent:
            return _failed(found.text.partition(" ")[2])
        said, names = found.text.partition(" ")[2].removeprefix(NOBODY_ASKED), []
    else:
        names = [server.name for server in found]
        more = f" and {len(names) - SERVERS_SAID} more" if len(names) > SERVERS_SAID else ""
        said = f"the mail servers of {domain} are {', '.join(names[:SERVERS_SAID])}{more}"
    took = times.span(timedelta(seconds=time.monotonic() - began))
    return Trial(
        ok=True,
        found=(f"DNS answered within {took}: {said}",),
        advice=(PORT_ADVICE.format(hop.port),),
        facts={"domain": domain, "servers": names},
    )


def _failed(text: str) -> Trial:
    return Trial(
        ok=False,
        found=(text,),
        advice=('check the machine\'s DNS servers, or name others: nameservers = ["192.0.2.53"]',),
    )
