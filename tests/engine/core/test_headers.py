"""Header facts: what is read, and that anything at all may be read."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core import headers
from engine.core.headers import (
    FIRST_LOOK_OCTETS,
    HEADER_LIMIT_OCTETS,
    TEXT_LIMIT_CHARACTERS,
    Field,
    HeaderFacts,
    facts,
    received,
    section,
    split,
)

USUAL = (
    b"Return-Path: <bounce@news.example>\r\n"
    b"Received: from localhost (localhost [127.0.0.1])\r\n"
    b"\tby pop.provider.example (Postfix) with ESMTP id A1; Tue, 12 Aug 2025 10:00:00 +0200\r\n"
    b"Received: from mail.sender.example (mail.sender.example [192.0.2.25])\r\n"
    b"\tby mx.provider.example (Postfix) with ESMTPS id A0; Tue, 12 Aug 2025 09:59:59 +0200\r\n"
    b"From: Jane Doe <jane@sender.example>\r\n"
    b"To: info@example.com\r\n"
    b"Subject: The report\r\n"
    b" of August\r\n"
    b"Date: Tue, 12 Aug 2025 09:59:58 +0200\r\n"
    b"Message-ID: <1@sender.example>\r\n"
    b"\r\n"
    b"Subject: this is the body\r\n"
)

# Octets of which headers are made: whatever, and lines that nearly are fields.
NEARLY_LINES = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from([b"Subject:", b"From: ", b"received:", b"Return-Path: <", b"Sender:", b"List-Id"]),
        st.sampled_from(
            [b"=?utf-8?q?", b"=?x?b?", b"?=", b"\r\n", b"\n", b"\n ", b"\r", b"[192.0.2.1]", b"from a"]
        ),
    ),
    max_size=25,
).map(b"".join)


def shown(found: HeaderFacts) -> list[str]:
    texts = (
        found.message_id,
        found.subject,
        found.sender,
        found.date,
        found.return_path,
        found.agent,
        found.author,
        found.client_ip,
    )
    return [text for text in texts if text is not None]


def received_from(*clauses: str) -> bytes:
    return b"".join(f"Received: from {clause} by mx.example; date\r\n".encode() for clause in clauses)


def test_the_facts_of_a_usual_header() -> None:
    assert facts(USUAL) == HeaderFacts(
        message_id="<1@sender.example>",
        subject="The report of August",
        sender="Jane Doe <jane@sender.example>",
        date="Tue, 12 Aug 2025 09:59:58 +0200",
        return_path="bounce@news.example",
        agent=None,
        author="Jane Doe <jane@sender.example>",
        client_ip="192.0.2.25",
        received_count=2,
        auto_submitted=False,
        list_id=False,
        status_report=False,
    )


@pytest.mark.parametrize(
    ("value", "is_one"),
    [
        ('multipart/report; report-type=delivery-status; boundary="x"', True),
        ("MULTIPART/Report;\r\n\treport-type=delivery-status", True),
        ("multipart/mixed; boundary=report", False),
        ("text/plain; name=multipart/report", False),
    ],
)
def test_what_calls_itself_a_report_is_known_by_its_media_type(value: str, is_one: bool) -> None:
    assert facts(f"Content-Type: {value}\r\n\r\n".encode()).status_report is is_one


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_each_kind_of_octets_gives_the_same_facts(kind: type) -> None:
    assert facts(kind(USUAL)) == facts(USUAL)
    assert split(kind(USUAL)) == split(USUAL)


def test_line_feeds_alone_give_the_same_fields() -> None:
    assert split(USUAL.replace(b"\r\n", b"\n")) == split(USUAL)
    assert facts(USUAL.replace(b"\r\n", b"\n")) == facts(USUAL)


@pytest.mark.parametrize("octets", [b"", b"\r\nSubject: body", b"\nSubject: body", b"\r\n\r\nSubject: body"])
def test_a_message_without_header_has_no_facts(octets: bytes) -> None:
    assert section(octets) == b""
    assert split(octets) == ()
    assert shown(facts(octets)) == []


def test_a_header_without_end_is_read_to_its_end() -> None:
    assert facts(b"Subject: cut").subject == "cut"
    assert facts(b"Subject: cut\r").subject == "cut"


def test_a_line_that_is_no_field_does_not_hide_the_fields_behind_it() -> None:
    octets = b"From jane Tue Aug 12 10:00:00 2025\n>From x\nnonsense\nSubject: seen\n\nbody"
    assert split(octets) == (
        Field(b"", b"From jane Tue Aug 12 10:00:00 2025"),
        Field(b"", b">From x"),
        Field(b"", b"nonsense"),
        Field(b"Subject", b"seen"),
    )


def test_white_space_before_the_colon_and_folds_are_taken_off() -> None:
    assert split(b"Subject \t: a\r\n\tb\r\n  c \r\nX:\r\n") == (
        Field(b"Subject", b"a\tb  c"),
        Field(b"X", b""),
    )


def test_a_line_of_white_space_goes_on_with_the_field_above() -> None:
    assert facts(b"X: a\n \nSubject: still header\n\nbody").subject == "still header"


def test_of_two_instances_the_topmost_counts() -> None:
    found = facts(b"Return-Path: <>\nSubject: first\nReturn-Path: <a@b>\nSubject: second\n\n")
    assert (found.return_path, found.subject) == ("", "first")


def test_a_header_longer_than_the_first_look_is_read() -> None:
    octets = b"X: " + b"x" * FIRST_LOOK_OCTETS + b"\nSubject: far down\n\nSubject: body"
    assert facts(octets).subject == "far down"


def test_an_empty_line_cut_by_the_first_look_still_ends_the_header() -> None:
    for short in range(6):
        head = b"X: " + b"x" * (FIRST_LOOK_OCTETS - 3 - short) + b"\r\n"
        assert section(head + b"\r\nbody") == head
        assert section(head + b"\nbody") == head


def test_behind_the_limit_nothing_is_read() -> None:
    octets = b"X: " + b"x" * HEADER_LIMIT_OCTETS + b"\nSubject: too far\n\n"
    assert facts(octets).subject is None
    assert len(section(octets)) == HEADER_LIMIT_OCTETS


@pytest.mark.parametrize(
    ("written", "path"),
    [
        (b"<>", ""),
        (b"< >", ""),
        (b"", ""),
        (b"<a@b>", "a@b"),
        (b"a@b", "a@b"),
        (b"<a@b> (envelope)", "a@b"),
        (b"<MAILER-DAEMON>", "MAILER-DAEMON"),
    ],
)
def test_the_return_path_loses_its_brackets(written: bytes, path: str) -> None:
    assert facts(b"Return-Path: " + written + b"\n\n").return_path == path


@pytest.mark.parametrize(
    ("written", "subject"),
    [
        ("=?utf-8?Q?Gr=C3=BC=C3=9Fe_an_alle?=", "Grüße an alle"),
        ("=?UTF-8?B?R3LDvMOfZQ==?=", "Grüße"),
        ("=?UTF-8?B?R3LDvMOfZQ?=", "Grüße"),
        ("=?iso-8859-1?q?Gr=FC=DFe?= to =?us-ascii*en?q?all?=", "Grüße to all"),
        ("=?utf-8?q?Gr=C3?=\r\n =?utf-8?q?=BC=C3=9Fe?=", "Grüße"),
        ("=?utf-8?q?a?= =?iso-8859-15?q?b=A4?=", "ab€"),
        ("=?utf-8?q?a?= and =?utf-8?q?b?=", "a and b"),
        ("x=?utf-8?q?a?=y", "xay"),
        ("=?gb2312?B?xOO6ww==?=", "你好"),
        ("=?iso-2022-jp?B?GyRCJDMbKEI=?=", "こ"),
        ("=?no-such-charset?q?Gr=C3=BC=C3=9Fe?=", "Grüße"),
        ("=?no-such-charset?q?Gr=FC=DFe?=", "Grüße"),
        ("=?punycode?q?maana-pta?=", "maana-pta"),
        ("=?utf-8?b?!!!?=", ""),
        ("=?utf-8?b?A?=", "A"),
        ("=?utf-8?x?a?=", "=?utf-8?x?a?="),
        ("=?utf-8?q?open", "=?utf-8?q?open"),
        ("=?utf-8?q?a=0D=0AX:_b=00?=", "a X: b"),
    ],
)
def test_encoded_words_are_decoded(written: str, subject: str) -> None:
    assert facts(f"Subject: {written}\r\n\r\n".encode()).subject == subject


def test_every_charset_we_know_is_one_that_python_knows() -> None:
    known = (
        "utf8 utf-8 utf-7 utf-16 utf-16le iso-8859-1 iso-8859-2 iso-8859-9 iso-8859-10 iso-8859-11"
        " iso-8859-13 iso-8859-14 iso-8859-15 iso-8859-16 windows-1250 windows-1258 cp1251 cp437 cp850"
        " cp852 cp855 cp858 cp866 cp932 cp949 koi8-r koi8-u gb2312 gbk gb18030 ks_c_5601-1987 big5"
        " big5-hkscs shift_jis shift-jis iso-2022-jp iso-2022-jp-1 iso-2022-kr euc-jp euc-kr tis-620"
        " macintosh macroman us-ascii latin1"
    )
    for charset in known.split():
        codec = headers._LARGER_CHARSET.get(charset, charset)
        assert headers._CHARSET.fullmatch(codec) or codec in headers._LARGER_CHARSET.values(), charset
        assert isinstance(b"a".decode(codec, "replace"), str), charset


def test_octets_without_a_charset_are_utf_8_or_else_windows_1252() -> None:
    assert facts("Subject: Grüße\n\n".encode()).subject == "Grüße"
    assert facts("Subject: Grüße – €\n\n".encode("cp1252")).subject == "Grüße – €"


def test_encoded_text_never_reaches_the_author() -> None:
    found = facts(b"From: =?utf-8?q?<victim@example.com>?= <real@sender.example>\n\n")
    assert found.sender == "<victim@example.com> <real@sender.example>"
    assert found.author == "=?utf-8?q?<victim@example.com>?= <real@sender.example>"


def test_the_agent_is_who_sent_it_last() -> None:
    assert facts(b"Sender: a@b\nResent-From: c@d\nResent-Sender: e@f\n\n").agent == "e@f"
    assert facts(b"Resent-From: c@d\nSender: a@b\n\n").agent == "a@b"
    assert facts(b"Resent-From: c@d\n\n").agent == "c@d"


@pytest.mark.parametrize(
    ("field", "auto"),
    [
        (b"Auto-Submitted: auto-replied", True),
        (b"auto-submitted: auto-generated; x=y", True),
        (b"Auto-Submitted: No", False),
        (b"Auto-Submitted: no (a person did)", False),
        (b"Auto-Submitted: no; x=y", False),
        (b"X: y", False),
    ],
)
def test_what_a_machine_sent_is_known_by_its_field(field: bytes, auto: bool) -> None:
    assert facts(field + b"\n\n").auto_submitted is auto


@pytest.mark.parametrize(
    ("field", "listed"),
    [
        (b"List-Id: <x.example>", True),
        (b"List-ID:", True),
        (b"Precedence: list", True),
        (b"Precedence: bulk", False),
        (b"X-List-Id: y", False),
    ],
)
def test_list_traffic_is_known_by_its_field(field: bytes, listed: bool) -> None:
    assert facts(field + b"\n\n").list_id is listed


@pytest.mark.parametrize(
    ("clause", "address"),
    [
        ("mail.a.example (mail.a.example [192.0.2.1])", "192.0.2.1"),  # Postfix, sendmail
        ("[10.0.0.9] (rdns.example [192.0.2.1])", "192.0.2.1"),  # a literal as HELO
        ("[198.51.100.9] (rdns.example [192.0.2.1])", "192.0.2.1"),  # a forged one
        ("[192.0.2.1] (helo=[198.51.100.9])", "192.0.2.1"),  # Exim
        ("mail.a.example ([192.0.2.1] helo=x)", "192.0.2.1"),
        ("[192.0.2.1] (port=4711 helo=x)", "192.0.2.1"),
        ("by (rdns.example [192.0.2.1])", "192.0.2.1"),  # HELO "by"
        ("a.example (a.example [IPv6:2001:db8::25])", "2001:db8::25"),
        ("a.example (a.example [IPv6:::ffff:192.0.2.1])", "192.0.2.1"),
        ("unknown (HELO a.example) (192.0.2.1)", "192.0.2.1"),  # qmail
        ("unknown (HELO a.example) (jane@192.0.2.1)", "192.0.2.1"),
        ("a.example (192.0.2.1)", "192.0.2.1"),  # Exchange
        ("a.example (a.example [999.1.1.1])", None),
        ("a.example (a.example [fe80::1])", None),
        ("a.example", None),
    ],
)
def test_the_client_address_is_the_one_the_hop_saw(clause: str, address: str | None) -> None:
    assert facts(received_from(clause)).client_ip == address


def test_the_topmost_foreign_address_wins_over_lower_ones() -> None:
    inside = ["localhost (localhost [127.0.0.1])", "a (a [10.1.2.3])", "a (a [IPv6:fd00::1])"]
    outside = ["b (b [192.0.2.1])", "c (c [198.51.100.1])"]
    assert facts(received_from(*inside, *outside)).client_ip == "192.0.2.1"


def test_an_address_behind_by_is_not_the_client() -> None:
    assert facts(b"Received: from a by b ([192.0.2.1]); x\nReceived: by [192.0.2.2]\n\n").client_ip is None


def test_received_values_come_from_the_top_down_and_unfolded() -> None:
    assert received(b"X: y\nReceived: one\n two\nreceived : three\n\nReceived: body") == (
        b"one two",
        b"three",
    )


@given(st.one_of(st.binary(max_size=400), NEARLY_LINES))
def test_any_octets_have_facts_that_can_be_stored(octets: bytes) -> None:
    found = facts(octets)
    for text in shown(found):
        assert len(text) <= TEXT_LIMIT_CHARACTERS
        assert not any(ord(sign) < 32 or 127 <= ord(sign) < 160 for sign in text)
        assert json.loads(json.dumps(text).encode()) == text
        text.encode()  # no surrogates
    assert found.received_count == len(received(octets))


@given(NEARLY_LINES)
def test_split_covers_every_line_of_the_header(octets: bytes) -> None:
    head = section(octets)
    assert octets.startswith(head)
    white = b" \t\r\n:"
    spent = b"".join(field.name + field.value for field in split(octets))
    assert spent.translate(None, white) == head.translate(None, white)
    begun = [line for line in head.split(b"\n") if line and line[:1] not in (b" ", b"\t")]
    assert len(split(octets)) == len(begun) + (head[:1] in (b" ", b"\t"))


@given(
    st.lists(
        st.tuples(
            st.from_regex(rb"[!-9;-~]{1,20}", fullmatch=True), st.from_regex(rb"[!-~]{1,20}", fullmatch=True)
        )
    )
)
def test_written_fields_are_read_back(pairs: list[tuple[bytes, bytes]]) -> None:
    octets = b"".join(name + b": " + value + b"\r\n" for name, value in pairs) + b"\r\nbody: x"
    assert split(octets) == tuple(Field(name, value) for name, value in pairs)


@given(st.text())
def test_any_text_in_an_encoded_word_is_shown_or_left_out(text: str) -> None:
    coded = text.encode("utf-8", "surrogatepass")
    words = b"".join(b"=%02X" % octet for octet in coded)
    subject = facts(b"Subject: =?utf-8?q?" + words + b"?=\n\n").subject
    assert subject is not None
    if text.isascii() and text.isprintable():
        assert subject == text.strip()[:TEXT_LIMIT_CHARACTERS].rstrip()


def test_every_message_of_the_corpus_has_facts() -> None:
    folder = os.environ.get("MAILGATE_CORPUS")
    if not folder:
        pytest.skip("MAILGATE_CORPUS names no folder of .eml files")
    files = sorted(Path(folder).rglob("*.eml"))
    assert files, f"no .eml files in {folder}"
    with_sender = 0
    for file in files:
        octets = file.read_bytes()
        found = facts(memoryview(octets))
        fields = split(octets)
        assert found.received_count == sum(field.name.lower() == b"received" for field in fields), file
        assert (found.author is None) == (not any(field.name.lower() == b"from" for field in fields)), file
        assert all(text.isprintable() or max(text) >= "\u00a0" for text in shown(found)), file
        with_sender += found.sender is not None
    assert with_sender > len(files) // 2
