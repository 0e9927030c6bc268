"""What is told in front of a message that was scanned."""

from __future__ import annotations

from datetime import timedelta
from email import message_from_bytes
from email.policy import default
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.policy import Policy
from engine.core.tagging import Outgoing, outgoing
from engine.core.trace import LINE_LENGTH_CHARACTERS
from engine.core.verdict import WHATEVER_IS_SPAM, ScannerPolicy
from store.events import Quarantined, Released, Scanned
from store.life import Message
from tests.engine.core.lives import INFO, NOON, VERSION, after, downloaded, generated, policy, submitted

MAIL = b"Subject: hello\r\nX-Spam-Flag: NO\r\n\r\nbody\r\n"
RENAMED = b"Subject: hello\r\nX-Old-X-Spam-Flag: NO\r\n\r\nbody\r\n"


def scanned(verdict: Any, scanner: str = "spamd", **more: Any) -> Scanned:
    return Scanned(scanner=scanner, verdict=verdict, duration_ms=3, policy=VERSION, **more)


def tagging(**more: Any) -> ScannerPolicy:
    return ScannerPolicy(**{"name": "spamd", "kind": "spamd", "on_found": "tag"} | more)


def scanning(*scanners: ScannerPolicy) -> Policy:
    return policy(scanners=scanners or (tagging(),))


def front(out: Outgoing) -> bytes:
    return out.lines


SPAM = scanned("spam", score=15.2, threshold=5.0, symbols=("GTUBE", "BAYES_99"))


def test_spam_is_called_so_with_its_score_and_the_rules_that_hit() -> None:
    out = outgoing(after(downloaded(INFO), SPAM), MAIL, scanning())
    assert out.lines == (
        b"X-Spam-Flag: YES\r\n"
        b"X-Spam-Score: 15.2\r\n"
        b"X-Spam-Status: Yes, score=15.2 required=5.0 tests=GTUBE,BAYES_99 scanner=spamd\r\n"
    )
    assert out.tags == ("X-Spam-Flag", "X-Spam-Score", "X-Spam-Status")
    assert out.renamed == ("X-Spam-Flag",)
    assert out.beginning + bytes(out.rest) == RENAMED


def test_what_is_no_spam_has_a_score_and_no_flag() -> None:
    out = outgoing(after(downloaded(INFO), scanned("clean", score=-0.125)), MAIL, scanning())
    assert (
        out.lines == b"X-Spam-Score: -0.125\r\nX-Spam-Status: No, score=-0.125 tests=none scanner=spamd\r\n"
    )


@pytest.mark.parametrize("threshold", [16.0, 3.0])
def test_the_threshold_of_today_decides(threshold: float) -> None:
    out = outgoing(after(downloaded(INFO), SPAM), MAIL, scanning(tagging(threshold=threshold)))
    assert (b"X-Spam-Flag" in out.lines) is (threshold < 15)
    assert b"required=%.1f" % threshold in out.lines


@pytest.mark.parametrize(
    ("scl", "event", "level"),
    [
        (((5.0, 5), (10.0, 7)), SPAM, b"7"),
        (((5.0, 5), (20.0, 9)), SPAM, b"5"),
        (((-100.0, -1), (0.0, 0), (5.0, 5)), scanned("clean", score=-2.0), b"-1"),
        (((5.0, 5),), scanned("clean", score=1.0), None),
        (((WHATEVER_IS_SPAM, 6),), SPAM, b"6"),
        (((WHATEVER_IS_SPAM, 6),), scanned("spam"), b"6"),
        (((WHATEVER_IS_SPAM, 6),), scanned("clean", score=4.9), None),
        ((), SPAM, None),
    ],
)
def test_the_confidence_level_of_exchange_is_that_of_the_highest_step(
    scl: tuple[tuple[float, int], ...], event: Scanned, level: bytes | None
) -> None:
    out = outgoing(after(downloaded(INFO), event), MAIL, scanning(tagging(scl=scl)))
    lines = [line for line in out.lines.split(b"\r\n") if line.startswith(b"X-MS-Exchange")]
    assert lines == ([] if level is None else [b"X-MS-Exchange-Organization-SCL: " + level])


def test_of_several_scanners_the_one_that_counts_most_speaks_and_each_has_a_line() -> None:
    both = scanning(tagging(scl=((5.0, 5),)), tagging(name="rspamd", kind="rspamd", scl=((5.0, 4),)))
    message = after(downloaded(INFO), SPAM, scanned("clean", "rspamd", score=40.0, threshold=50.0))
    read = message_from_bytes(front(outgoing(message, MAIL, both)))
    assert (read["X-Spam-Flag"], read["X-Spam-Score"]) == ("YES", "15.2")
    statuses = read.get_all("X-Spam-Status")
    assert statuses is not None
    assert [status.split(",")[0] for status in statuses] == ["Yes", "No"]
    assert read.get_all("X-MS-Exchange-Organization-SCL") == ["5"]


def test_a_virus_that_goes_on_is_named() -> None:
    policies = scanning(tagging(name="clamd", kind="clamd"))
    message = after(downloaded(INFO), scanned("infected", "clamd", signature="Eicar-Test (x), y\r\nZ: z"))
    out = outgoing(message, MAIL, policies)
    assert out.lines == b"X-Virus-Status: Infected, signature=Eicar-Test__x___y__Z:_z scanner=clamd\r\n"
    assert out.tags == ("X-Virus-Status",)


@pytest.mark.parametrize(
    ("kind", "field"),
    [("clamd", b"X-Virus-Status"), ("spamd", b"X-Spam-Status"), ("rspamd", b"X-Spam-Status")],
)
def test_what_could_not_be_scanned_is_called_so_where_that_is_wanted(kind: Any, field: bytes) -> None:
    message = after(downloaded(INFO), scanned("unscannable", "one"))
    told = tagging(name="one", kind=kind, on_unscannable="tag")
    assert outgoing(message, MAIL, scanning(told)).lines == field + b": Unscannable, scanner=one\r\n"
    assert outgoing(message, MAIL, scanning(tagging(name="one", kind=kind))).lines == b""


def test_a_long_list_of_rules_is_folded_and_bounded() -> None:
    symbols = tuple(f"RULE_{n}_{'x' * 20}" for n in range(300))
    out = outgoing(after(downloaded(INFO), scanned("spam", score=9.0, symbols=symbols)), MAIL, scanning())
    assert max(map(len, out.lines.split(b"\r\n"))) <= LINE_LENGTH_CHARACTERS
    status = message_from_bytes(out.lines, policy=default)["X-Spam-Status"]
    assert ",\r\n\tRULE_" in out.lines.decode()
    assert "".join(status.split("tests=")[1].split(" scanner")[0].split()).split(",") == list(symbols[:100])


def test_a_scanner_that_does_not_tag_says_nothing_and_lets_the_header_be() -> None:
    message = after(downloaded(INFO), SPAM)
    for quiet in (tagging(on_found="quarantine", threshold=20.0), tagging(on_found="pass")):
        out = outgoing(message, MAIL, scanning(quiet))
        assert (out.lines, out.beginning, out.tags, out.renamed) == (b"", b"", (), ())
        assert out.rest is MAIL


def test_where_verdicts_are_told_a_forged_one_is_renamed_whatever_was_found() -> None:
    for message in (downloaded(INFO), after(downloaded(INFO), scanned("error", detail="down"))):
        out = outgoing(message, MAIL, scanning())
        assert out.lines == b""
        assert out.beginning + bytes(out.rest) == RENAMED
    assert outgoing(submitted(INFO), MAIL, scanning()).renamed == ("X-Spam-Flag",)


def test_mail_of_a_direction_that_no_scanner_sees_and_our_own_go_as_they_are() -> None:
    inbound = scanning(tagging(directions=("inbound",)))
    for message in (submitted(INFO), generated()):
        assert outgoing(message, MAIL, inbound) == Outgoing(b"", b"", MAIL)


def test_what_is_redirected_tells_why() -> None:
    there = scanning(tagging(on_found="redirect", redirect="spam@example.com"))
    assert outgoing(after(downloaded(INFO), SPAM), MAIL, there).tags[0] == "X-Spam-Flag"


def test_what_a_person_let_go_is_not_called_spam_and_says_who_let_it_go() -> None:
    message = after(
        downloaded(INFO),
        SPAM,
        Quarantined(reason="spam", rule="spamd says spam", scanner="spamd", policy=VERSION),
    )
    message = after(
        message,
        Released(operator="anna\r\nX: grün", reason="a customer", policy=VERSION),
        at=NOON + timedelta(minutes=5),
    )
    out = outgoing(message, MAIL, scanning(tagging(subject_prefix="[SPAM]", scl=((5.0, 5),))))
    assert out.tags == ("X-Mailgate-Released",)
    read = message_from_bytes(out.lines, policy=default)
    assert dict(read.items()) == {
        "X-Mailgate-Released": "from quarantine (spam) by anna X: gr n at Sun, 1 Mar 2026\t12:05:00 +0000"
    }
    assert out.beginning + bytes(out.rest) == RENAMED


def test_the_subject_gets_the_prefix_only_where_it_is_spam() -> None:
    marking = scanning(tagging(subject_prefix="[SPAM]"))
    out = outgoing(after(downloaded(INFO), SPAM), MAIL, marking)
    assert out.beginning + bytes(out.rest) == RENAMED.replace(b"hello", b"[SPAM] hello")
    assert out.tags[-1] == "Subject"
    ham = outgoing(after(downloaded(INFO), scanned("clean", score=1.0)), MAIL, marking)
    assert ham.beginning + bytes(ham.rest) == RENAMED
    assert "Subject" not in ham.tags


def test_spam_without_a_subject_gets_one() -> None:
    out = outgoing(after(downloaded(INFO), SPAM), b"\r\nbody\r\n", scanning(tagging(subject_prefix="[SPAM]")))
    assert out.lines.endswith(b"\r\nSubject: [SPAM]\r\n")
    assert out.tags[-1] == "Subject"


words = st.text(max_size=80)


@given(
    st.floats() | st.none(),
    st.lists(words, max_size=8),
    words,
    words.filter(bool),
    st.sampled_from(["spam", "clean"]),
)
def test_whatever_a_scanner_writes_well_formed_fields_come_of_it(
    score: float | None, symbols: list[str], signature: str, operator: str, verdict: Any
) -> None:
    policies = scanning(tagging(), tagging(name="clamd", kind="clamd"))
    message: Message = after(
        downloaded(INFO),
        Quarantined(reason="operator", rule="by hand", policy=VERSION),
        Released(operator=operator, policy=VERSION),
        scanned(verdict, score=score, symbols=tuple(symbols)),
        scanned("infected", "clamd", signature=signature),
    )
    out = outgoing(message, MAIL, policies)
    read = message_from_bytes(out.lines)
    assert read.defects == []
    assert list(dict.fromkeys(read.keys())) == list(out.tags)
    assert all(len(line) < 998 for line in out.lines.split(b"\r\n"))
    assert out.lines.isascii()
