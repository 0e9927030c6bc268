"""Until when a certificate of our own is valid.

Reads as much of X.509 (RFC 5280) as it takes to get there; whether the rest is right, the handshake tells. `ssl` says it of a
far side's certificate only, and only where that is trusted.
"""

from __future__ import annotations

import re
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

CERTIFICATE: Final = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
VERSION: Final = 0xA0  # a tag that comes first, or is left out
UTC_TIME: Final = 0x17  # a tag; with two digits of the year
LONG: Final = 0x80  # the length follows in so many octets


def valid_until(file: str) -> datetime | None:
    """Return when the first certificate in a PEM file expires, None where that can't be read."""
    try:
        found = CERTIFICATE.search(Path(file).read_text("ascii", "replace"))
        return None if found is None else _not_after(ssl.PEM_cert_to_DER_cert(found[0]))
    except (OSError, ValueError, IndexError):
        return None


def _not_after(der: bytes) -> datetime:
    """Raises ValueError, IndexError for what is no certificate."""
    at, _ = _value(der, 0)  # Certificate
    at, _ = _value(der, at)  # TBSCertificate
    for _ in range(4 if der[at] == VERSION else 3):  # version, serialNumber, signature, issuer
        at = sum(_value(der, at))
    at, _ = _value(der, at)  # Validity
    at = sum(_value(der, at))  # behind notBefore
    begin, length = _value(der, at)
    text = der[begin : begin + length].decode("ascii")
    if der[at] == UTC_TIME:
        text = ("19" if text >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _value(der: bytes, at: int) -> tuple[int, int]:
    """Return where the value of the element at `at` begins, and how long it is."""
    length, begin = der[at + 1], at + 2
    if length < LONG:
        return begin, length
    size = length - LONG
    return begin + size, int.from_bytes(der[begin : begin + size], "big")
