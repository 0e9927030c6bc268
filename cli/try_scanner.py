"""Trying a scanner out: its version, and what it says of the test pattern of its kind: EICAR, or GTUBE.

Owns what that means for us. The patterns are harmless, made for this, and found by every scanner that is set up right.
"""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

from cli import times
from cli.trial import REPLY_SECONDS, Trial
from engine.ports import Answered, Mail, ScannerTrouble
from engine.scanners import scanner
from engine.settings import ScannerSettings

# In halves, so that no scanner of this machine finds them here. eicar.org; spamassassin.apache.org/gtube
EICAR = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR" + b"-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
GTUBE = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*" + b"GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
SENDER = "mailgate-check@example.com"
MESSAGE = b"From: <%s>\r\nTo: <%s>\r\nSubject: mailgate check\r\n\r\n%s\r\n"


async def try_scanner(settings: ScannerSettings) -> Trial:
    """Ask a scanner; whatever goes wrong is in what is returned."""
    adapter = scanner(settings)
    within = min(settings.timeout_seconds, REPLY_SECONDS)
    began = time.monotonic()
    try:
        async with asyncio.timeout(within):
            version = await adapter.version()
        asked = time.monotonic()
        async with asyncio.timeout(within):
            found = await adapter.scan(_mail(settings))
    except TimeoutError:
        return _failed(f"no answer within {within:g} s")
    except ScannerTrouble as trouble:
        return _failed(trouble.text)
    finally:
        await adapter.close()
    took = timedelta(seconds=time.monotonic() - asked)
    return _looked(settings, version, found, timedelta(seconds=asked - began), took)


def _mail(settings: ScannerSettings) -> Mail:
    address = SENDER.encode("ascii")
    pattern = EICAR if settings.kind == "clamd" else GTUBE
    octets = MESSAGE % (address, address, pattern)
    return Mail(id="check", octets=octets, reverse_path=SENDER, recipients=(SENDER,))


def _looked(
    settings: ScannerSettings, version: str, found: Answered, greeted: timedelta, took: timedelta
) -> Trial:
    virus = settings.kind == "clamd"
    name, wanted = ("EICAR", "infected") if virus else ("GTUBE", "spam")
    works = found.verdict == wanted
    facts = {
        "version": version,
        "pattern": name,
        "verdict": found.verdict,
        "signature": found.signature,
        "score": found.score,
        "threshold": found.threshold,
        "symbols": list(found.symbols),
    }
    said = f"{name}: {_said(found)}, within {times.span(took)}"
    blind = f"it does not know {name}: are its {'signatures' if virus else 'rules'} loaded?"
    return Trial(
        ok=works,
        found=(f"{version} answered within {times.span(greeted)}", said),
        advice=() if works else (blind,),
        facts=facts,
    )


def _said(found: Answered) -> str:
    score = "" if found.score is None else f", score {found.score:g}"
    of = "" if found.threshold is None else f" of {found.threshold:g}"
    name = f" ({found.signature})" if found.signature else ""
    return f"{found.verdict}{name}{score}{of}"


def _failed(text: str) -> Trial:
    down = "connect" in text
    advice = (
        ("check the address, and whether the scanner runs and this user may use its socket",) if down else ()
    )
    return Trial(ok=False, found=(text,), advice=advice)
