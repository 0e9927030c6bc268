"""SASL in POP3: PLAIN and XOAUTH2 (RFC 5034, RFC 4616, and the XOAUTH2 that Google and Microsoft describe).

Owns what is answered to which challenge. Never sends anything itself, and keeps secrets out of every repr.
An initial response goes into the AUTH command where the line stays within 255 octets (RFC 5034 section 4);
else it waits for the server's first `+`. Tokens nearly always need that second form.
"""

from __future__ import annotations

import base64
from typing import Final

from engine.wire.pop3_commands import COMMAND_OCTETS_LIMIT, BadCommand, Command

RESPONSE_OCTETS_LIMIT: Final = 64 * 1024  # tokens with many claims reach some 16 KiB

_CONTROLS: Final = frozenset(chr(code) for code in (*range(32), 127))


class Exchange:
    """One login by one SASL mechanism: the command that opens it, then an answer to each challenge."""

    __slots__ = ("_initial", "_last_word", "command", "complaint")

    def __init__(self, mechanism: str, initial: bytes, *, last_word: bytes | None) -> None:
        encoded = base64.b64encode(initial)
        if len(encoded) > RESPONSE_OCTETS_LIMIT:
            raise BadCommand(
                f"AUTH {mechanism}: the credentials are longer than {RESPONSE_OCTETS_LIMIT} octets"
            )
        name = mechanism.encode("ascii")
        fits = len(b"AUTH " + name + b" " + encoded + b"\r\n") <= COMMAND_OCTETS_LIMIT
        self.command = Command(verb="AUTH", arguments=name + b" " + encoded if fits else name)
        self.complaint = b""  # what a failing server said in a challenge
        self._initial = None if fits else initial
        self._last_word = last_word

    def __repr__(self) -> str:
        return f"Exchange({self.command!r})"

    def answer(self, challenge: bytes) -> bytes | None:
        """The response to a challenge, without base64; None cancels the exchange (RFC 5034 section 4)."""
        response, self._initial = self._initial, None
        if response is not None:
            return response
        self.complaint = challenge
        response, self._last_word = self._last_word, None
        return response


def plain(username: str, secret: str) -> Exchange:
    """PLAIN (RFC 4616): no challenge is foreseen after the credentials, so any is cancelled."""
    _refuse_controls("AUTH PLAIN", username)
    if "\0" in secret or not secret:
        raise BadCommand("AUTH PLAIN: the password is empty or holds a NUL")
    return Exchange("PLAIN", f"\0{username}\0{secret}".encode(), last_word=None)


def xoauth2(username: str, token: str) -> Exchange:
    """XOAUTH2: a bearer token. On failure the server explains itself in a challenge, answered by an empty
    line.
    """
    _refuse_controls("AUTH XOAUTH2", username)
    _refuse_controls("AUTH XOAUTH2", token)
    initial = f"user={username}\1auth=Bearer {token}\1\1"
    return Exchange("XOAUTH2", initial.encode(), last_word=b"")


def _refuse_controls(what: str, text: str) -> None:
    if not text or not _CONTROLS.isdisjoint(text):
        raise BadCommand(f"{what}: the user name or token is empty or holds a control character")
