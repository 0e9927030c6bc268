"""By what a configuration is told from another: whether a file still says what a gateway was started with.

Of what is written, not of what follows from it: the same file has the same fingerprint on every machine. It may be seen by
whoever may ask whether a gateway runs, so of secrets it has two octets: that shows nearly every change (all but one of 65,536),
and finds nobody a password. Where the store is doesn't count: whoever compares has found it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Final

FINGERPRINT_OCTETS: Final = 4
SECRET_OCTETS: Final = 2
_SECRET: Final = frozenset({"password", "secret", "url"})  # the URL of a webhook often holds a token
_USERS: Final = "users"  # a table of secrets under [listen], a list of names in a route


def fingerprint(written: Mapping[str, object]) -> str:
    """Return eight hex digits for a parsed file."""
    hidden: list[str] = []
    rest = _without_secrets(dict(written) | {"store": _store(written.get("store"))}, hidden, secret=False)
    secrets = hashlib.sha256(_octets(hidden)).digest()[:SECRET_OCTETS]
    return hashlib.sha256(_octets([rest, secrets.hex()])).digest()[:FINGERPRINT_OCTETS].hex()


def _store(table: object) -> dict[str, object]:
    return {key: value for key, value in table.items() if key != "url"} if isinstance(table, Mapping) else {}


def _without_secrets(value: object, hidden: list[str], *, secret: bool) -> object:
    """Return a value without what is secret of it, which goes to `hidden`, in an order that is always the same."""
    if isinstance(value, Mapping):
        return {
            key: _without_secrets(
                item, hidden, secret=secret or key in _SECRET or (key == _USERS and isinstance(item, Mapping))
            )
            for key, item in sorted(value.items())
        }
    if isinstance(value, list):
        return [_without_secrets(item, hidden, secret=secret) for item in value]
    if secret:
        hidden.append(str(value))
        return ""
    return value


def _octets(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, default=str).encode()
