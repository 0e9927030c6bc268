"""Addresses: reading, comparing, matching, and the reverse-path."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.core.envelope import (
    ADDRESS_LIMIT_OCTETS,
    PARSE_LIMIT_CHARACTERS,
    addresses,
    domain,
    glob,
    key,
    matches,
    parse,
    reverse_path,
    valid,
)
from engine.core.headers import facts

NEARLY_ADDRESSES = st.lists(
    st.one_of(
        st.sampled_from([*"<>()[]\\\",;:@.' ", "a", "b.example", "ü", "\r\n", "\x00", "<a@b>", '"a b"@c']),
        st.text(max_size=5),
    ),
    max_size=20,
).map("".join)

LOCAL_PARTS = st.from_regex(r"[a-z0-9!#$%&*+/=?^_`{|}~-]{1,20}(\.[a-z0-9]{1,5})?", fullmatch=True)
DOMAINS = st.from_regex(r"[a-z0-9]{1,10}(\.[a-z0-9-]{1,10}){0,3}", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("a@b", "a@b"),
        ("Jane.Doe@EXAMPLE.Com", "Jane.Doe@example.com"),
        ("<a@b.example>", "a@b.example"),
        (" <a@b.example>\t", "a@b.example"),
        ("Jane Doe <a@b.example>", "a@b.example"),
        ('"Doe, Jane" <a@b.example>', "a@b.example"),
        ('"x@y.example" <a@b.example>', "a@b.example"),
        ("a@b.example (Jane (Doe) x@y)", "a@b.example"),
        ("<@one.example,@two.example:a@b.example>", "a@b.example"),
        ('"john doe"@b.example', '"john doe"@b.example'),
        ('<"john@doe"@b.example>', '"john@doe"@b.example'),
        ('"john"@b.example', "john@b.example"),
        ('"a@b.example"', "a@b.example"),
        ("'a@b.example'", "a@b.example"),
        ("o'brien@b.example", "o'brien@b.example"),
        ("a@b.example.", "a@b.example"),
        ("a@[192.0.2.1]", "a@[192.0.2.1]"),
        ("a@[IPv6:2001:db8::1]", "a@[ipv6:2001:db8::1]"),
        ("müller@bücher.EXAMPLE", "müller@bücher.example"),
        ("owner-list+a=b.example@c.example", "owner-list+a=b.example@c.example"),
        ("for <a@b.example>;", "a@b.example"),
        ('"Doe, Jane <a@b.example>', "a@b.example"),
        ("(Jane <a@b.example>", "a@b.example"),
        ("Jane <a@b.example", "a@b.example"),
        ("<<a@b.example>>", "a@b.example"),
        ("", None),
        ("<>", None),
        ("MAILER-DAEMON", None),
        ("undisclosed-recipients:;", None),
        ("a@b@c", None),
        ("@b.example", None),
        ("a@", None),
        ("a@b..example", None),
        ('"a\r\nb"@c.example', None),
        ('"a>b"@c.example', None),
        ("a\ufffdb@c.example", None),
        ("a\u202eb@c.example", None),
        ("a\x00b@c.example", None),
        ("<Jane Doe@c.example>", None),
        ("a@b\u3002example\u2029", None),
    ],
)
def test_one_address_is_read_out_of_text(text: str, address: str | None) -> None:
    assert parse(text) == address


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a@b, c@d", ("a@b", "c@d")),
        ('"x, y" <a@b>; "z" <c@d>', ("a@b", "c@d")),
        ("Team: a@b, Jane <c@d>;", ("a@b", "c@d")),
        ("a@b (one), (two) c@d, (three)", ("a@b", "c@d")),
        ("a@b a@b", ("a@b", "a@b")),
        ('"a, b@c" <d@e>', ("d@e",)),
        ("<@x,@y:a@b>, <c@d>", ("a@b", "c@d")),
        ('"odd <a@b>, <c@d>', ("a@b", "c@d")),
        (r"\"a@b, c@d", ("c@d",)),
    ],
)
def test_a_list_gives_all_its_addresses(text: str, found: tuple[str, ...]) -> None:
    assert addresses(text) == found


@pytest.mark.parametrize("path", ["@" * 200_000, "a" + " " * 200_000 + "b", "@a:" * 60_000, "'" * 200_000])
def test_what_nobody_would_write_costs_no_more_than_its_length(path: str) -> None:
    # By the square of the length, these would take hours.
    assert addresses(f"<{path}>, <c@d>") == ("c@d",)


def test_too_long_is_no_address() -> None:
    fitting = "a" * (ADDRESS_LIMIT_OCTETS - 2) + "@b"
    assert valid(fitting)
    assert parse(fitting) == fitting
    assert not valid("a" + fitting)
    assert parse("a" + fitting) is None
    assert not valid("ü" * 127 + "@b")
    assert parse(" " * PARSE_LIMIT_CHARACTERS + "a@b") is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "<a@b>",
        "a b@c",
        "a@b c",
        "a@b\n",
        "a@b\r\nRCPT TO:<c@d>",
        "a@b>",
        "a@b.",
        "a\x00@b",
        "a@b\udc80",
    ],
)
def test_what_is_not_an_address_is_not_valid(text: str) -> None:
    assert not valid(text)


def test_domain_and_key_are_lower_case() -> None:
    assert domain('"x@y"@Example.COM') == "example.com"
    assert domain("") == ""
    assert key("Jane@Example.COM") == "jane@example.com"


@pytest.mark.parametrize(
    ("pattern", "address", "fits"),
    [
        ("*@example.com", "a@example.com", True),
        ("*@EXAMPLE.com", "a@Example.COM", True),
        ("@example.com", "a@example.com", True),
        ("example.com", "a@example.com", True),
        ("example.com", "a@sub.example.com", False),
        ("example.com", "a@notexample.com", False),
        ("*.example.com", "a@sub.example.com", True),
        ("*.example.com", "a@example.com", False),
        ("@*.example.com", "a@sub.example.com", True),
        ("info@example.com", "INFO@example.com", True),
        ("info@example.com", "xinfo@example.com", False),
        ("info*@*", "info-2@example.com", True),
        ("a?c@example.com", "abc@example.com", False),
        ("[a]@example.com", "a@example.com", False),
        ("*", "a@b", True),
        ("*", "", True),
        ("", "", True),
        ("<>", "", True),
        ("<>", "a@b", False),
        ("*@*", "", False),
        ("example.com", "", False),
        ("*.*", "", False),
    ],
)
def test_a_pattern_fits_or_not(pattern: str, address: str, fits: bool) -> None:
    assert matches(pattern, address) is fits


@given(st.text(alphabet="ab*", max_size=8), st.text(alphabet="ab", max_size=8))
@example("*ab*ab", "ab")  # no octet is there twice
@example("*ab*ab*", "ab")
def test_glob_agrees_with_trying_every_way(pattern: str, text: str) -> None:
    def tried(rest: str, left: str) -> bool:
        if not rest:
            return not left
        if rest[0] == "*":
            return any(tried(rest[1:], left[at:]) for at in range(len(left) + 1))
        return left[:1] == rest[0] and tried(rest[1:], left[1:])

    assert glob(pattern, text) is tried(pattern, text)


@pytest.mark.parametrize(
    ("header", "path"),
    [
        (b"Return-Path: <a@B.example>\nSender: c@d\nFrom: e@f", "a@b.example"),
        (b"Return-Path: <>\nSender: c@d\nFrom: e@f", ""),
        (b"Return-Path:\nFrom: e@f", ""),
        (b"Return-Path: <MAILER-DAEMON>\nFrom: e@f", ""),
        (b"Return-Path: <>\nReturn-Path: <forged@x>\nFrom: e@f", ""),
        (b"Return-Path: <'odd'@b.example>", "'odd'@b.example"),
        (b"Sender: c@d\nFrom: e@f", "c@d"),
        (b"Resent-Sender: r@s\nSender: c@d\nFrom: e@f", "r@s"),
        (b"Sender: nobody\nFrom: Jane <e@f>", "e@f"),
        (b"From: =?utf-8?q?=3Cvictim=40x.example=3E?= <e@f>", "e@f"),
        (b"Auto-Submitted: auto-replied\nSender: c@d\nFrom: e@f", ""),
        (b"Auto-Submitted: auto-replied\nReturn-Path: <a@b>", "a@b"),
        (b"List-Id: <l.example>\nFrom: e@f", ""),
        (b"List-Id: <l.example>\nSender: l-bounces@d\nFrom: e@f", "l-bounces@d"),
        (b"From: " + b"x" * 975 + b" <jane@sender.example.com>", ""),
        (b"From: " + b"x" * 960 + b" <jane@sender.example.com>", "jane@sender.example.com"),
        (b"Reply-To: e@f", ""),
        (b"From: nobody", ""),
        (b"", ""),
    ],
)
def test_the_reverse_path_comes_from_the_best_witness(header: bytes, path: str) -> None:
    assert reverse_path(facts(header + b"\n\n")) == path


@given(st.one_of(st.text(), NEARLY_ADDRESSES))
def test_any_text_is_read_and_what_comes_out_is_valid(text: str) -> None:
    for address in addresses(text):
        assert valid(address)
        assert parse(address) == address
        assert not set("<>\r\n\x00") & set(address)
        assert domain(address) == domain(address).lower()
        assert matches(f"@{domain(address)}", address)
    parse(text)


@given(st.one_of(st.text(), NEARLY_ADDRESSES), st.one_of(st.text(), NEARLY_ADDRESSES))
def test_any_pattern_can_be_held_against_any_text(pattern: str, text: str) -> None:
    assert matches("*", text)
    assert matches(pattern, text) in (True, False)
    assert key(key(text)) == key(text)


@given(
    LOCAL_PARTS,
    DOMAINS,
    st.sampled_from(["{}", "<{}>", "Jane <{}>", '"Doe, J" <{}> (x)', "(x) {}", "<@r.example:{}>"]),
)
def test_a_plain_address_is_read_in_every_dress(local: str, name: str, dress: str) -> None:
    address = f"{local}@{name}"
    assert valid(address)
    assert parse(dress.format(address)) == address


@given(
    st.lists(st.tuples(LOCAL_PARTS, DOMAINS), min_size=1, max_size=5),
    st.sampled_from([",", ", ", ";", ",\t"]),
)
def test_a_list_of_plain_addresses_is_read_whole(pairs: list[tuple[str, str]], between: str) -> None:
    written = [f"{local}@{name}" for local, name in pairs]
    assert addresses(between.join(written)) == tuple(written)
