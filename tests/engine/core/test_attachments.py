"""Names and types against patterns; which messages can't have a file in them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.attachments import PLAIN_OCTETS, Rules, is_plain, shown, spellings, types

RULES = Rules(("*.exe", "setup.*", "*/macro?.bin", "*.zip/*.zip"), ("application/x-ms*",))


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("a.exe", "*.exe"),
        (".exe", "*.exe"),
        ("A.EXE", "*.exe"),
        ("a.exe.pdf", None),
        ("exe", None),
        ("a.exes", None),
        ("setup.pdf", "setup.*"),
        ("a/setup.pdf", "setup.*"),
        ("a\\setup.pdf", "setup.*"),
        ("setups.pdf", None),
        ("word/macro1.bin", "*/macro?.bin"),
        ("macro1.bin", None),
        ("a.zip/b.zip", "*.zip/*.zip"),
        ("a.zip", None),
        ("", None),
        ("...", None),
    ],
)
def test_a_name_fits_as_its_path_or_its_last_part(name: str, pattern: str | None) -> None:
    assert RULES.of_name(name) == pattern


def test_the_first_pattern_that_fits_is_told_as_it_is_written() -> None:
    assert Rules(("*.SCR", "*.scr"), ()).of_name("a.scr") == "*.SCR"


@pytest.mark.parametrize(
    ("pattern", "fits", "fits_not"),
    [
        ("rep[1].exe", "rep[1].exe", "rep1.exe"),
        ("[!a]*.exe", "[!a]b.exe", "b.exe"),
        ("a[b.exe", "a[b.exe", "ab.exe"),
        ("\uff3b?].exe", "[x].exe", "x.exe"),
    ],
)
def test_a_bracket_is_a_bracket(pattern: str, fits: str, fits_not: str) -> None:
    assert Rules((pattern,), ()).of_name(fits) == pattern
    assert Rules((pattern,), ()).of_name(fits_not) is None


def test_without_patterns_nothing_fits() -> None:
    nothing = Rules((), ())
    assert nothing.of_name("") is None
    assert nothing.of_name("a.exe") is None
    assert nothing.of_type("") is None


@pytest.mark.parametrize(
    ("value", "pattern"),
    [
        ("application/x-msdownload", "application/x-ms*"),
        ("Application / X-MSDownload; name=a", "application/x-ms*"),
        ("application/(comment)x-msi", "application/x-ms*"),
        ("application/pdf; x=application/x-msi", None),
        ("", None),
    ],
)
def test_a_type_fits_without_its_parameters(value: str, pattern: str | None) -> None:
    assert RULES.of_type(value) == pattern


HEADER = b"From: a@b.example\r\nSubject: x\r\n"
PLAIN = [
    b"",
    b"Content-Type: text/plain\r\n",
    b"Content-Type: TEXT/HTML; charset=utf-8\r\n",
    b'Content-Type: text/plain;\r\n charset="utf-8";\r\n format=flowed\r\n',
    b"MIME-Version: 1.0\r\nContent-Transfer-Encoding: 8bit\r\n",
    b"Content-Transfer-Encoding: quoted-printable\r\nContent-Language: de\r\n",
]
NOT_PLAIN = [
    b"Content-Type: text/calendar\r\n",
    b"Content-Type: multipart/mixed; boundary=b\r\n",
    b"Content-Type: text/plain; name=a\r\n",
    b"Content-Type: text/plain; NAME=a\r\n",
    b"Content-Type: text/plain;\r\n na\r\n me=a\r\n",
    b"Content-Type: text/plain; charset=(x)y\r\n",
    b"Content-Type: text/plain; charset==?utf-8?q?a?=\r\n",
    b"Content-Type: text/plain; x%6e=a\r\n",
    b"Content-Type: text/plain; x*0=a\r\n",
    b"Content-Type: text/plain\r\nContent-Type: text/plain\r\n",
    b"Content-Type : text/plain\r\n",
    b"Content-Disposition: inline\r\n",
    b"Content-Description: a\r\n",
    b"Content_Type: text/plain\r\n",
    b"Content-Transfer-Encoding: base64\r\n",
    b"Content-Transfer-Encoding: x\r\n",
    b"X: y\r\n \r\n",
    b"X: y\nZ: z\r\n",
    b"X: y\rZ: z\r\n",
    b"X: y\0\r\n",
    b"no field\r\n",
]


@pytest.mark.parametrize("more", PLAIN)
def test_a_text_by_itself_is_plain(more: bytes) -> None:
    assert is_plain(HEADER + more + b"\r\nhello\r\n--b\r\nname=a.exe\r\n", RULES)


@pytest.mark.parametrize("more", NOT_PLAIN)
def test_what_is_odd_is_not_plain(more: bytes) -> None:
    assert not is_plain(HEADER + more + b"\r\nhello\r\n", RULES)


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\r\nhello",
        b" \r\n" + HEADER + b"\r\n",
        b"From a\r\n" + HEADER + b"\r\n",
        HEADER,
        HEADER + b"\r\nbegin 644 a.exe\r\n",
        HEADER + b"\r\nhello\rbegin 644 a.exe",
        HEADER + b"\r\n=ybegin line=128 name=a.exe\r\n",
        HEADER + b"Content-Transfer-Encoding: quoted-printable\r\n\r\n=62egin 644 a.exe\r\n",
        HEADER + b"\r\n" + b"x" * PLAIN_OCTETS,
    ],
)
def test_what_begins_oddly_or_has_a_file_in_its_text_is_not_plain(octets: bytes) -> None:
    assert not is_plain(octets, RULES)


def test_a_text_is_not_plain_where_texts_are_meant() -> None:
    assert not is_plain(HEADER + b"\r\nhello", Rules((), ("text/plain",)))
    assert not is_plain(HEADER + b"Content-Type: text/html\r\n\r\nhello", Rules((), ("text/*",)))
    assert is_plain(HEADER + b"\r\nhello", Rules((), ("text/html",)))


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("a.exe", "a.exe"),
        ("März.exe", "März.exe"),
        ("a\u202efdp.exe", "a\\u202efdp.exe"),
        ("a\r\n\x1b[31m", "a\\u000d\\u000a\\u001b[31m"),
        ("x" * 1000 + ".exe", "x" * 100 + "…" + "x" * 96 + ".exe"),
    ],
)
def test_a_name_is_shown_so_that_it_can_not_mislead(text: str, seen: str) -> None:
    assert shown(text) == seen


@given(st.text())
def test_any_text_has_bounded_spellings_and_can_be_shown(text: str) -> None:
    assert len(spellings(text)) <= 24
    assert len(types(text)) <= 2
    assert shown(text).isprintable()
    assert len(shown(text)) <= 201


@given(st.binary(max_size=300))
def test_any_octets_are_plain_or_not(body: bytes) -> None:
    assert is_plain(body, RULES) in (True, False)
    if b"begin" not in body.lower():
        assert is_plain(HEADER + b"\r\n" + body, RULES)
