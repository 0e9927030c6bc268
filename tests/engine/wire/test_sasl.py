"""Credentials go out in one step where they fit, in two where they do not, and never in a repr."""

from __future__ import annotations

import base64

from engine.wire import sasl


def test_a_short_credential_goes_along_with_auth_and_a_long_one_waits_for_the_server() -> None:
    short = sasl.xoauth2("a@b", "t")
    long = sasl.xoauth2("a@b", "t" * 2000)

    assert (
        short.command.line() == b"AUTH XOAUTH2 " + base64.b64encode(b"user=a@b\1auth=Bearer t\1\1") + b"\r\n"
    )
    assert long.command.line() == b"AUTH XOAUTH2\r\n"
    assert long.answer(b"") == b"user=a@b\1auth=Bearer " + b"t" * 2000 + b"\1\1"
    assert long.answer(b'{"status":"401"}') == b""
    assert long.complaint == b'{"status":"401"}'
    assert long.answer(b"again") is None


def test_auth_with_credentials_never_exceeds_255_octets() -> None:
    forms = {len(sasl.plain("anna", "x" * length).command.line()) for length in range(1, 300)}

    assert max(forms) == 253  # base64 comes in fours: the next longer line would have 257
    assert len(b"AUTH PLAIN\r\n") in forms


def test_an_unforeseen_challenge_to_plain_is_cancelled() -> None:
    assert sasl.plain("anna", "secret").answer(b"more?") is None
