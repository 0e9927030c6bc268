"""Words of the configuration that mean more than their characters: durations, sizes, addresses, patterns.

Each is a value that can only be made from a text that means something; the text that doesn't is a ValueError
whose message says how to write it. Owns no key and no rule between keys, reads no file. What an address is
and what a pattern matches is for `engine.core.envelope` to say.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Self

from engine.core import envelope

SHOWN_CHARACTERS = 60  # of a wrong value in an error: the message stays one readable line
LONGEST_DURATION_SECONDS = 3650 * 86400  # ten years: more is a slip of the finger, and dates would overflow
LARGEST_SIZE_OCTETS = 1 << 50
HUGE_BITS = 1024  # of an integer; Python itself writes none of some thousands of digits
DOMAIN_OCTETS = 255  # RFC 5321 section 4.5.3.1.2
LABEL_OCTETS = 63  # RFC 1035 section 2.3.4

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_OCTETS = {
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
}
_PER_CENT = re.compile(r"([0-9]{1,2}) ?%")
_DURATION = re.compile(r"([0-9]{1,12})([smhd])")
_SIZE = re.compile(r"([0-9]{1,18}) ?([kmg]i?b|b)", re.IGNORECASE)
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?")
_PATTERN = re.compile(r"[!-~]+")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_FIELD_NAME = re.compile(r"[!-9;-~]+")  # RFC 5322 section 2.2: printable ASCII but the colon
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


def shown(value: object) -> str:
    """A value of the configuration as an error shows it: one line, cut when long. Never for a secret."""
    text = "a huge number" if isinstance(value, int) and value.bit_length() > HUGE_BITS else repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def kind_of(value: object) -> str:
    """What a TOML value is, in words: for the values that must not be shown, or say too little."""
    kinds: dict[type, str] = {
        str: "a string",
        bool: "a boolean",
        int: "an integer",
        float: "a number",
        list: "a list",
        dict: "a table",
    }
    return kinds.get(type(value), "a date or time")


def _text(value: object, expected: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected {expected}, found {kind_of(value)}")
    return value


class Duration(float):
    """Seconds, written "90s", "5m", "4h" or "14d"."""

    @classmethod
    def parse(cls, value: object) -> Self:
        expected = 'a duration such as "90s", "5m", "4h" or "14d"'
        if isinstance(value, int | float) and not isinstance(value, bool):
            raise ValueError(
                f'expected {expected}, found a number: write the unit, for example "{shown(value)}s"'
            )
        found = _DURATION.fullmatch(_text(value, expected))
        if found is None:
            raise ValueError(f"expected {expected}, found {shown(value)}")
        seconds = int(found[1]) * _SECONDS[found[2]]
        if seconds > LONGEST_DURATION_SECONDS:
            raise ValueError(f'{shown(value)} is too long: the longest is "3650d"')
        return cls(seconds)


class Size(int):
    """Octets, written "10MB" (10^6), "10MiB" (2^20) or as an integer. Never zero."""

    @classmethod
    def parse(cls, value: object) -> Self:
        expected = 'a size such as "10MB", "10MiB" or a number of octets'
        if isinstance(value, int) and not isinstance(value, bool):
            octets = value
        else:
            found = _SIZE.fullmatch(_text(value, expected))
            if found is None:
                raise ValueError(f"expected {expected}, found {shown(value)}")
            octets = int(found[1]) * _OCTETS[found[2].lower()]
        if not 0 < octets <= LARGEST_SIZE_OCTETS:
            raise ValueError(f"{shown(value)} is out of range: a size is 1 octet to 1024 TiB")
        return cls(octets)


class FreeSpace(str):
    """How much of a file system must stay free, written "10%" of it, or as a size."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> Self:
        if isinstance(value, str) and (found := _PER_CENT.fullmatch(value)):
            return cls(f"{int(found[1])}%")
        try:
            return cls(int(Size.parse(value)))
        except ValueError:
            text = shown(value) if isinstance(value, str) else kind_of(value)
            raise ValueError(
                f'expected a share such as "10%" or a size such as "5GB", found {text}'
            ) from None

    def octets_of(self, total_octets: int) -> int:
        """What that comes to on a file system of so many octets."""
        return total_octets * int(self[:-1]) // 100 if self.endswith("%") else int(self)


class Name(str):
    """The name of a mailbox or next hop; it becomes part of a stream's name and of what is printed."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> Self:
        text = _text(value, "a string")
        if not _NAME.fullmatch(text):
            raise ValueError(
                f"{shown(text)} is not a name: up to 63 letters, digits, '.', '_', '-', not a mark first"
            )
        return cls(text)


class Domain(str):
    """A mail domain, in lower case."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> Self:
        text = _text(value, "a string").lower()
        if not text.isascii():
            raise ValueError(f"{shown(text)} is not ASCII: write an international domain in its xn--… form")
        if len(text) > DOMAIN_OCTETS or not _DOMAIN.fullmatch(text):
            raise ValueError(f'{shown(text)} is not a domain: write it as in "example.com"')
        return cls(text)


class Address(str):
    """A mailbox address, local part and domain, as it goes into MAIL FROM and RCPT TO."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> Self:
        text = _text(value, "an address")
        if not envelope.valid(text):
            raise ValueError(f'{shown(text)} is not an address: write it as in "info@example.com"')
        local_part, _, domain = text.rpartition("@")
        return cls(f"{local_part}@{domain.lower()}")


class Pattern(str):
    """What a route compares a user name with, case aside; `*` stands for any characters. In lower case."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> Self:
        text = _text(value, "a pattern")
        if not _PATTERN.fullmatch(text):
            raise ValueError(f"{shown(text)} is not a pattern: printable ASCII, no spaces, '*' for anything")
        return cls(text.lower())


class AddressPattern(Pattern):
    """What a route compares an address or its domain with (`envelope.matches`). `<>` is the null reverse-
    path."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> Self:
        pattern = super().parse(value)
        if not any(mark in pattern for mark in "@.*") and pattern != "<>":
            raise ValueError(
                f'{shown(value)} is no address pattern: write "*@example.com" or "info@example.com"'
            )
        return pattern


class FieldName(str):
    """The name of a header field, without its colon."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> Self:
        text = _text(value, "a header field's name")
        if not _FIELD_NAME.fullmatch(text):
            raise ValueError(f'{shown(text)} is not a header field\'s name: write it as in "Delivered-To"')
        return cls(text)


class FilePath(str):
    """The path of a file, absolute or relative to the configuration's folder."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> Self:
        text = _text(value, "the path of a file")
        if not text or "\0" in text:
            raise ValueError(f"{shown(text)} is no path of a file")
        return cls(text)


class Fingerprint(str):
    """The SHA-256 of a certificate in DER form, as `sha256:` and 64 lower-case hex digits."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> Self:
        text = _text(value, "a fingerprint").lower()
        digits = text.removeprefix("sha256:").replace(":", "")
        if not text.startswith("sha256:") or not _FINGERPRINT.fullmatch(digits):
            raise ValueError(
                f'{shown(value)} is not a fingerprint: write "sha256:" and 64 hex digits (colons allowed)'
            )
        return cls(f"sha256:{digits}")


class Host(str):
    """A host to connect to: a name or an IP address, without port or scheme."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> Self:
        text = _text(value, "a host name or IP address")
        if _is_ip(text) or (len(text) <= DOMAIN_OCTETS and _HOST.fullmatch(text) and ".." not in text):
            if not _is_ip(text) and max(map(len, text.split("."))) > LABEL_OCTETS:
                raise ValueError(f"{shown(text)} has a part of more than {LABEL_OCTETS} characters")
            return cls(text)
        if not text.isascii():
            raise ValueError(f"{shown(text)} is not ASCII: write an international name in its xn--… form")
        hint = "; write the port as port = …" if ":" in text and "/" not in text else ""
        raise ValueError(f"{shown(text)} is not a host name or IP address{hint}")


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
