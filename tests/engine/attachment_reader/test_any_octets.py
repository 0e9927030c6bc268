"""Whatever comes is answered, and never with an exception: octets at random, and sound messages that were damaged."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.attachment_reader import fields, uu, zips
from engine.attachment_reader.frames import Answer
from engine.attachment_reader.reading import read
from engine.core.attachments import Rules
from tests.engine.attachment_reader.samples import attached, mixed, zip_of, zipped
from tests.engine.attachment_reader.test_evasion import CONTENTS, NAMES, STRUCTURES

RULES = Rules(("*.exe",), ("application/x-msdownload",))
WORDS = [
    *(
        b"Content-Type:",
        b"Content-Disposition:",
        b"Content-Transfer-Encoding:",
        b"multipart/mixed",
        b"message/rfc822",
    ),
    *(
        b"message/delivery-status",
        b"multipart/digest",
        b"text/plain",
        b" ",
        b";",
        b"\r\n",
        b"\n",
        b"\r",
        b"\r\n\r\n",
    ),
    *(
        b"boundary=",
        b"b",
        b"--b",
        b"--b--",
        b"--",
        b"filename",
        b"name",
        b"*",
        b"*0",
        b"*1*",
        b"=",
        b'"',
        b"'",
        b"\\",
    ),
    *(
        b"=?utf-8?",
        b"q?",
        b"b?",
        b"?=",
        b"%",
        b"%2e",
        b"a.exe",
        b"(",
        b")",
        b"base64",
        b"uu",
        b"\0",
        b"\xff",
        b"charset=",
    ),
    *(
        b"begin 644 a",
        b"begin-base64 644 a",
        b"end",
        b"=ybegin x name=a",
        b"TVqQ",
        b"PK\3\4",
        b"PK\1\2",
        b"PK\5\6",
    ),
]
damaged = st.lists(st.sampled_from(WORDS) | st.binary(max_size=4), max_size=60).map(b"".join)


def checked(octets: bytes) -> Answer:
    answer = read(octets, RULES, archives=True)
    assert (answer.rule is None) == (not answer.files)
    return answer


@given(st.binary(max_size=2000))
def test_any_octets_are_answered(octets: bytes) -> None:
    checked(octets)


@given(damaged)
def test_any_words_of_mime_are_answered(octets: bytes) -> None:
    checked(octets)
    checked(mixed(octets))


@given(damaged)
def test_whatever_stands_beside_it_the_file_is_found(octets: bytes) -> None:
    answer = checked(mixed(octets).rstrip(b"-") + b"\r\n\r\n--b\r\nContent-Type: a/b; name=x.exe\r\n\r\n")
    assert answer.rule == "name *.exe"


@pytest.mark.parametrize("seed", range(20))
def test_damaged_messages_are_answered(seed: int) -> None:
    chance = random.Random(seed)
    for octets in (*NAMES.values(), *list(STRUCTURES.values())[:40], *CONTENTS.values()):
        if len(octets) > 20_000:
            continue
        broken = bytearray(octets)
        for _ in range(chance.randrange(1, 20)):
            broken[chance.randrange(len(broken))] = chance.randrange(256)
        checked(bytes(broken[: chance.randrange(len(broken))]))


@pytest.mark.parametrize("seed", range(20))
def test_damaged_archives_are_answered(seed: int) -> None:
    chance = random.Random(seed)
    archive = zip_of([("b.zip", zipped("evil.exe", "x")), ("c.txt", b"x" * 100)])
    for _ in range(50):
        broken = bytearray(archive)
        for _ in range(chance.randrange(1, 6)):
            broken[chance.randrange(len(broken))] = chance.randrange(256)
        checked(attached("a.zip", bytes(broken[: chance.randrange(len(broken))])))


@given(st.binary(max_size=500))
def test_any_archive_and_any_text_can_be_read(octets: bytes) -> None:
    for marked in (octets, b"PK\3\4" + octets, b"PK\1\2" + octets, octets + b"PK\5\6" + octets):
        zips.listing(marked)
    list(uu.files(b"begin 644 a\n" + octets))
    list(uu.files(b"begin-base64 644 a\n" + octets))
    fields.base64(octets)


@given(st.binary(max_size=300))
def test_base64_is_decoded_in_spite_of_rubbish(octets: bytes) -> None:
    import base64

    coded = base64.b64encode(octets)
    assert fields.base64(coded) == octets
    assert fields.base64(coded.rstrip(b"=")) == octets
    assert fields.base64(b"*\r\n".join(coded[n : n + 5] for n in range(0, len(coded), 5))) == octets
    assert fields.base64(coded + b"=" + coded) == octets * 2
