"""What would pass for our own verdict, renamed; the rest of a message, untouched."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.core.renaming import NAMED, OLD, READ_OCTETS, SEARCHED_OCTETS, Beginning, beginning
from engine.wire.smtp_content import Stuffing

HOSTNAME = "gate.example.com"
COSTLY_SECONDS = 0.2  # of the processor: a third of a second and more, where all of it is read
BODY = b"\r\nX-Spam-Flag: YES\r\n\r\nAuthentication-Results: gate.example.com; spf=pass\r\n"


def renamed(octets: bytes, **more: bytes) -> bytes:
    return whole(beginning(octets, hostname=HOSTNAME, **more))


def whole(begun: Beginning) -> bytes:
    return begun.octets + bytes(begun.rest)


@pytest.mark.parametrize(
    ("line", "becomes"),
    [
        (b"X-Spam-Flag: YES\r\n", b"X-Old-X-Spam-Flag: YES\r\n"),
        (b"x-sPaM-flag:YES\r\n", b"X-Old-x-sPaM-flag:YES\r\n"),
        (b"X-Spam-Status \t : No\r\n", b"X-Old-X-Spam-Status \t : No\r\n"),
        (b"X-Spam-Status\r\n : No\r\n", b"X-Old-X-Spam-Status\r\n : No\r\n"),
        (b"X-Spam-Anything-Else: x\r\n", b"X-Old-X-Spam-Anything-Else: x\r\n"),
        (
            b"X-Spam-Report:\r\n\tfolded\r\n over lines\r\n",
            b"X-Old-X-Spam-Report:\r\n\tfolded\r\n over lines\r\n",
        ),
        (b"X-Virus-Status: Infected\r\n", b"X-Old-X-Virus-Status: Infected\r\n"),
        (b"X-MS-Exchange-Organization-SCL: -1\r\n", b"X-Old-X-MS-Exchange-Organization-SCL: -1\r\n"),
        (
            b"X-MS-Exchange-Organization-AuthAs: Internal\r\n",
            b"X-Old-X-MS-Exchange-Organization-AuthAs: Internal\r\n",
        ),
        (b"x-ms-exchange-organization-:\r\n", b"X-Old-x-ms-exchange-organization-:\r\n"),
        (b"X-MS-Exchange-CrossTenant-AuthAs: x\r\n", b"X-Old-X-MS-Exchange-CrossTenant-AuthAs: x\r\n"),
        (b"X-Spam-Flag\0: NO\r\n", b"X-Old-X-Spam-Flag\0: NO\r\n"),
        (b"X-Spam-Flag \v\0\r\n \x80: NO\r\n", b"X-Old-X-Spam-Flag \v\0\r\n \x80: NO\r\n"),
        (b"\xef\xbb\xbfX-Spam-Flag: NO\r\n", b"\xef\xbb\xbfX-Old-X-Spam-Flag: NO\r\n"),
        (b"\0 X-Spam-Flag: NO\r\n", b"\0 X-Old-X-Spam-Flag: NO\r\n"),
        (b"X-Mailgate-Released: by me\r\n", b"X-Old-X-Mailgate-Released: by me\r\n"),
        (b"Subject: a\rX-Spam-Flag: NO\r\n", b"Subject: a\rX-Old-X-Spam-Flag: NO\r\n"),
        (b"Subject: a\nX-Spam-Flag: NO\n", b"Subject: a\nX-Old-X-Spam-Flag: NO\n"),
        (b"no field at all\r\nX-Spam-Flag: NO\r\n", b"no field at all\r\nX-Old-X-Spam-Flag: NO\r\n"),
        (b" \t\r\nX-Spam-Flag: NO\r\n", b" \t\r\nX-Old-X-Spam-Flag: NO\r\n"),
        (
            b"From a@b.example Sun\r\nX-Spam-Flag: NO\r\n",
            b"From a@b.example Sun\r\nX-Old-X-Spam-Flag: NO\r\n",
        ),
        (
            b"X-Spam-Flag: YES\r\nSubject: a\r\nX-Spam-Flag: NO\r\n",
            b"X-Old-X-Spam-Flag: YES\r\nSubject: a\r\nX-Old-X-Spam-Flag: NO\r\n",
        ),
    ],
)
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_field_with_a_name_of_ours_gets_another(line: bytes, becomes: bytes, kind: type[bytes]) -> None:
    assert renamed(kind(b"To: x\r\n" + line + BODY)) == b"To: x\r\n" + becomes + BODY
    assert renamed(kind(line + BODY)) == becomes + BODY
    assert renamed(kind(line)) == becomes


@pytest.mark.parametrize(
    "octets",
    [
        BODY,
        b"",
        b"Subject: X-Spam-Flag: YES\r\n X-Spam-Flag: YES\r\n" + BODY,
        b"X-Spam: YES\r\nX-Spamd-Bar: +\r\nX-Virus-Scanned: by us\r\nX-Old-X-Spam-Flag: YES\r\n" + BODY,
        b"X-Spam-Flag YES\r\nMy-X-Spam-Flag: YES\r\nX-Spam-Flag\r\n" + BODY,
        b"X-MS-Exchange-Organization: 9\r\nX-MS-Exchange-Inbox-Rules-Loop: x\r\nX-Mailgate: x\r\n" + BODY,
        b" X-Spam-Flag: YES\r\nX-Spam-Flag\0x: YES\r\nX\0-Spam-Flag: YES\r\n" + BODY,
        b"Subject: a\n\rX-Spam-Flag: YES\r\n",
        b"Subject: a\r\rX-Spam-Flag: YES\r\n",
    ],
)
def test_everything_else_stays_and_is_not_even_copied(octets: bytes) -> None:
    begun = beginning(octets, hostname=HOSTNAME)
    assert begun.rest is octets
    assert (begun.octets, begun.renamed) == (b"", ())


@pytest.mark.parametrize(
    ("value", "ours"),
    [
        (b" gate.example.com; spf=pass", True),
        (b"GATE.Example.COM;none", True),
        (b" gate.example.com. 1; dkim=pass", True),
        (b' "gate.example.com"; x', True),
        (b' "gate\\.example.com"; x', True),
        (b"\r\n\tgate.example.com\r\n ; spf=pass", True),
        (b" (a (nested\\) comment) ) (another)\r\n gate.example.com (us); x", True),
        (b" gate.example.com", True),
        (b" mx.provider.example; spf=pass smtp.helo=gate.example.com", False),
        (b" (gate.example.com) mx.provider.example; none", False),
        (b" (never closed gate.example.com; none", False),
        (b" notgate.example.com; none", False),
        (b" gate.example.com.evil.example; none", False),
        (b"", False),
        (b" ;", False),
    ],
)
def test_authentication_results_are_ours_where_they_bear_our_name(value: bytes, ours: bool) -> None:
    field = b"Authentication-Results:" + value + b"\r\n"
    assert renamed(field + BODY) == (OLD if ours else b"") + field + BODY


@pytest.mark.parametrize(
    "octets", [b"Authentication-Results:" + b"(()) " * 180_000, b"Authentication-Results: ((((\r\n" * 27_000]
)
def test_what_is_made_to_take_long_is_taken_for_ours_unread(octets: bytes) -> None:
    began = time.process_time()
    begun = beginning(octets, hostname=HOSTNAME)
    assert time.process_time() - began < COSTLY_SECONDS
    assert begun.renamed == ("Authentication-Results",)


@pytest.mark.parametrize("spaces", [1, 4])
def test_the_name_that_is_read_no_further_may_be_ours(spaces: int) -> None:
    before = b"X-Filler: " + b"x" * READ_OCTETS
    for cut in range(len(HOSTNAME) + 3):
        filler = before[: READ_OCTETS - len(b"Authentication-Results:\r\n") - spaces - cut - 1] + b"\r\n"
        field = b"Authentication-Results:" + b" " * spaces + HOSTNAME.encode() + b"; spf=pass\r\n"
        assert renamed(filler + field + BODY) == filler + OLD + field + BODY


def test_what_was_renamed_is_named_once_for_each_and_not_without_end() -> None:
    two = beginning(b"X-Spam-Flag: a\r\nx-spam-flag: b\r\nX-Spam-Score: 1\r\n\r\n", hostname=HOSTNAME)
    assert two.renamed == ("X-Spam-Flag", "X-Spam-Score")
    many = b"".join(b"X-Spam-%d-%s: a\r\n" % (n, b"x" * 200) for n in range(100))
    begun = beginning(many, hostname=HOSTNAME)
    assert len(begun.renamed) == NAMED
    assert {len(name) for name in begun.renamed} == {64}
    assert whole(begun).count(OLD) == 100


def test_of_a_large_message_only_the_beginning_is_copied() -> None:
    octets = b"X-Spam-Flag: YES\r\n\r\n" + b"x" * 3_000_000
    begun = beginning(octets, hostname=HOSTNAME)
    assert begun.octets == OLD
    assert isinstance(begun.rest, memoryview)
    assert begun.rest.obj is octets
    assert whole(begun) == OLD + octets


def test_a_field_behind_a_long_header_is_found_and_no_more_than_a_bound_is_searched() -> None:
    filler = b"X-Filler: " + b"x" * 900 + b"\r\n"
    long_header = filler * 100 + b"X-Spam-Flag: YES\r\n\r\n" + filler
    assert renamed(long_header).count(OLD) == 1
    endless = filler * (2 * SEARCHED_OCTETS // len(filler)) + b"X-Spam-Flag: YES\r\n"
    assert beginning(endless, hostname=HOSTNAME).rest is endless


@pytest.mark.parametrize(
    ("line", "becomes"),
    [
        (b"Subject: hello\r\n", b"Subject: [SPAM] hello\r\n"),
        (b"subject:hello\r\n", b"subject: [SPAM] hello\r\n"),
        (b"Subject: =?utf-8?q?gr=C3=BC=C3=9Fe?=\r\n", b"Subject: [SPAM] =?utf-8?q?gr=C3=BC=C3=9Fe?=\r\n"),
        (b"Subject:\r\n =?utf-8?q?x?=\r\n", b"Subject: [SPAM]\r\n =?utf-8?q?x?=\r\n"),
        (b"Subject:\r\n", b"Subject: [SPAM]\r\n"),
        (b"Subject:", b"Subject: [SPAM]"),
        (b"Subject: a\r\nSubject: b\r\n", b"Subject: [SPAM] a\r\nSubject: b\r\n"),
        (b"X-Spam-Flag: NO\r\nSubject: a\r\n", b"X-Old-X-Spam-Flag: NO\r\nSubject: [SPAM] a\r\n"),
        (b"Subject: a\r\nX-Spam-Flag: NO\r\n", b"Subject: [SPAM] a\r\nX-Old-X-Spam-Flag: NO\r\n"),
    ],
)
def test_the_topmost_subject_gets_the_prefix_in_front(line: bytes, becomes: bytes) -> None:
    begun = beginning(line, hostname=HOSTNAME, subject_prefix=b"[SPAM]")
    assert whole(begun) == becomes
    assert begun.has_subject


def test_what_most_take_for_no_subject_gets_no_prefix() -> None:
    for line in (b"\xef\xbb\xbfSubject: a\r\n", b"Subject\0: a\r\n"):
        octets = line + b"Subject: b\r\n"
        assert renamed(octets, subject_prefix=b"[SPAM]") == line + b"Subject: [SPAM] b\r\n"
        assert not beginning(line, hostname=HOSTNAME, subject_prefix=b"[SPAM]").has_subject


def test_a_message_without_a_subject_says_so() -> None:
    assert not beginning(b"To: x\r\n\r\nSubject: x\r\n", hostname=HOSTNAME).has_subject


# -- whatever comes

NAMES = [
    b"X-Spam-Flag",
    b"x-spam-",
    b"X-Mailgate-Released",
    b"X-Virus-Status",
    b"X-MS-Exchange-Organization-SCL",
    b"X-MS-Exchange-CrossTenant-Id",
    b"\xef\xbb\xbfX-Spam-Flag",
    b"Authentication-Results",
    b"Subject",
    b"X-Spam",
    b"To",
    b"",
]
ENDS = [b"\r\n", b"\n", b"\r", b"\r\n ", b"\n\t"]
VALUES = [b" gate.example.com; x", b" (c) GATE.EXAMPLE.COM", b" other.example", b"", b" X-Spam-Flag: a"]
lines = st.builds(
    b"".join,
    st.tuples(
        st.sampled_from(NAMES),
        st.sampled_from([b"", b" ", b"\r\n ", b"\xff", b"\0"]),
        st.sampled_from([b":", b""]),
        st.sampled_from(VALUES),
        st.sampled_from(ENDS),
    ),
)
headers = st.lists(lines | st.binary(max_size=6), max_size=12).map(b"".join)


def on_the_wire(octets: bytes) -> tuple[list[bytes], bytes]:
    """The unfolded fields of the header as the next hop gets them, and all that is behind."""
    stuffing = Stuffing(mend=True)
    sent = b"\r\n" + stuffing.feed(octets) + stuffing.finish()
    header, empty, body = sent.partition(b"\r\n\r\n")
    fields = re.sub(rb"\r\n[ \t]", b" ", header).split(b"\r\n")
    return fields[1:], empty + body


OURS = re.compile(
    rb"((?:[^ \t!-~][^!-~]*)?)"
    rb"((x-spam-|x-mailgate-|x-ms-exchange-organization-|x-ms-exchange-crosstenant-)[!-9;-~]*|x-virus-status"
    rb"|authentication-results(?=[^!-~]*:[ \t]*(\(c\))?[ \t]*gate\.example\.com([; \t]|$)))[^!-~]*:",
    re.IGNORECASE,
)


@given(headers, st.binary(max_size=40))
@example(b"X-Spam-Flag: a\r", b"\nX-Spam-Flag: b")
@example(b"To: a\r\n\r", b"X-Spam-Flag: b")
def test_what_is_ours_is_renamed_and_nothing_else_changes_whatever_comes(header: bytes, body: bytes) -> None:
    octets = header + b"\r\n\r\n" + body
    before, behind = on_the_wire(octets)
    after, behind_after = on_the_wire(renamed(octets))
    assert behind_after == behind
    assert after == [
        ours[1] + OLD + field[ours.end(1) :] if (ours := OURS.match(field)) else field for field in before
    ]


@given(st.binary(max_size=300))
def test_it_never_fails_and_only_adds(octets: bytes) -> None:
    assert renamed(octets).replace(OLD, b"") == octets.replace(OLD, b"")
