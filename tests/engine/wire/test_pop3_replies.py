"""Status lines and capabilities are read as they stand, and shown in one printable line."""

from __future__ import annotations

import pytest

from engine.wire.pop3_replies import (
    capabilities_of,
    code_of,
    text_of,
)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"-ERR [IN-USE] locked\r\n", "IN-USE"),
        (b"-ERR [sys/temp] later\r\n", "SYS/TEMP"),
        (b"-ERR [LOGIN-DELAY 60] wait\r\n", "LOGIN-DELAY"),
        (b"-ERR see [IN-USE]\r\n", None),
        (b"-ERR\r\n", None),
    ],
)
def test_a_response_code_stands_at_the_start_of_the_text(line: bytes, code: str | None) -> None:
    assert code_of(line) == code


def test_a_status_line_in_words_is_one_printable_line_of_bounded_length() -> None:
    assert text_of(b"-ERR  caf\xc3\xa9 \x1b[31m\xff\r\n") == "café ?[31m\ufffd"
    assert len(text_of(b"-ERR " + b"x" * 4000 + b"\r\n")) == 301


def test_capabilities_are_keywords_with_arguments() -> None:
    assert capabilities_of(b"sasl PLAIN XOAUTH2\r\n\r\nTOP\r\nLOGIN-DELAY 60\r\n") == {
        "SASL": ("PLAIN", "XOAUTH2"),
        "TOP": (),
        "LOGIN-DELAY": ("60",),
    }
