"""What a webhook is sent, how it is signed, and how long it waits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from engine.core import webhook
from engine.core.webhook import Answer

AT = datetime(2026, 5, 4, 3, 2, 1, 987654, tzinfo=UTC)


def test_headers_say_what_it_is_and_who_sent_it() -> None:
    sent = dict(webhook.headers("delivered", "ab12", "crm", "secret", AT, b'{"a":1}'))
    assert sent == {
        "Content-Type": "application/json",
        "X-Mailgate-Webhook": "crm",
        "X-Mailgate-Event": "delivered",
        "X-Mailgate-Id": "ab12",
        "X-Mailgate-Timestamp": "1777863721",
        # printf '1777863721.{"a":1}' | openssl dgst -sha256 -hmac secret
        "X-Mailgate-Signature": "sha256=5351a8ed87abd139caeb784993c0fa16d36fd61bc015c65b4301b03cd9bb739a",
    }


def test_the_signature_is_of_the_time_and_the_body_by_the_secret() -> None:
    signed = webhook.signature("secret", "1", b"body")
    assert signed == webhook.signature("secret", "1", b"body")
    others = [("Secret", "1", b"body"), ("secret", "2", b"body"), ("secret", "1", b"bodY")]
    assert all(webhook.signature(*other) != signed for other in others)


@pytest.mark.parametrize(
    ("failures", "wished", "seconds"),
    [
        (1, None, 1),
        (2, None, 2),
        (5, None, 16),
        (9, None, 256),
        (10, None, 300),
        (100_000, None, 300),
        (1, 90, 90),
        (9, 90, 256),
        (1, 10**9, 3600),
        (3, 0, 4),
    ],
)
def test_each_wait_is_twice_as_long_up_to_an_end(failures: int, wished: int | None, seconds: int) -> None:
    wish = None if wished is None else timedelta(seconds=wished)
    assert webhook.wait(failures, wish) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("status", "taken", "said"),
    [
        (200, True, "200 OK"),
        (204, True, "204 No Content"),
        (299, True, "299"),
        (302, False, "302 Found, and redirections are not followed"),
        (410, False, "410 Gone"),
        (500, False, "500 Internal Server Error"),
        (799, False, "799"),
    ],
)
def test_only_success_is_taken(status: int, taken: bool, said: str) -> None:
    answer = Answer(status=status, text="what a stranger wrote")
    assert (answer.taken, answer.said) == (taken, said)
