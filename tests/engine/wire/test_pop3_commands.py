"""A command that cannot be said cannot be made."""

from __future__ import annotations

import base64

import pytest

from engine.wire import pop3_commands, sasl
from engine.wire.pop3_commands import BadCommand
from engine.wire.pop3_replies import Replied


@pytest.mark.parametrize("text", ["a\rb", "a\nDELE 1", "a\0b", ""])
def test_no_command_can_be_smuggled_in(text: str) -> None:
    for make in (
        lambda: pop3_commands.user(text),
        lambda: pop3_commands.password(text),
        lambda: pop3_commands.apop(text, "secret", b"<a@b>"),
        lambda: sasl.plain(text, "secret"),
        lambda: sasl.xoauth2(text, "token"),
        lambda: sasl.xoauth2("anna", text),
    ):
        with pytest.raises(BadCommand) as caught:
            make()
        assert not text or text not in str(caught.value)


def test_a_command_line_is_bounded() -> None:
    assert len(pop3_commands.user("x" * 248).line()) == 255
    with pytest.raises(BadCommand, match="USER: the command is longer than 255 octets"):
        pop3_commands.user("x" * 249)


def test_a_token_for_a_password_may_be_longer() -> None:
    assert len(pop3_commands.password("x" * 2_000).line()) == 2_007
    with pytest.raises(BadCommand, match="PASS: the command is longer than"):
        pop3_commands.password("x" * 100_000)


def test_secrets_stay_out_of_reprs() -> None:
    exchange = sasl.plain("anna", "hunter2")
    replied = Replied(pop3_commands.password("hunter2"), True, b"+OK\r\n")

    shown = repr((replied, exchange, exchange.command))

    assert "hunter2" not in shown
    assert base64.b64encode(b"hunter2").decode()[:6] not in shown
