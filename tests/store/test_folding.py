"""Words and fragments are compared as people mean them, and the same on either database."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.folding import WORD_CHARACTERS, WORDS_OCTETS, asked_words, certain_words, folded, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Invoice 4711", "invoice 4711"),
        ("ÜBER uns", "uber uns"),
        ("Straße", "strasse"),
        ("Crème brûlée", "creme brulee"),
        ("İstanbul", "istanbul"),
        ("\N{FULLWIDTH LATIN CAPITAL LETTER A}\N{LATIN SMALL LIGATURE FI}", "afi"),
        ("nul \0 in it", "nul   in it"),
        ("nul \0 in ü", "nul   in u"),
        ("日本語", "日 本 語"),
        ("a日b", "a 日 b"),
        ("it\N{RIGHT SINGLE QUOTATION MARK}s", "it\N{RIGHT SINGLE QUOTATION MARK}s"),
        ("\N{EURO SIGN}100 \N{PARTY POPPER}", "\N{EURO SIGN}100 \N{PARTY POPPER}"),
        ("zero\N{ZERO WIDTH SPACE}width", "zero width"),
    ],
)
def test_case_accents_and_width_make_no_difference(text: str, expected: str) -> None:
    assert folded(text) == expected


@given(st.text(), st.text(), st.text())
def test_what_is_folded_of_a_part_is_a_part(before: str, part: str, behind: str) -> None:
    assert folded(part).strip() in folded(before + part + behind)


@given(st.text())
def test_words_are_of_letters_and_digits_in_every_database_s_eyes(text: str) -> None:
    for word in words([text]).split(" "):
        assert all(c.isalnum() if c.isascii() else not c.isspace() for c in word)
        assert "\0" not in word


@given(st.text())
def test_a_text_has_the_words_that_are_asked_for_with_it(text: str) -> None:
    asked = {word.rstrip("*") for word in asked_words(text)}
    assert asked == set(words([text]).split())


def test_each_word_stands_once_and_no_text_is_none() -> None:
    assert words(["Bob bob", None, "anna@bob.example"]) == "anna bob example"
    assert words([None, ""]) == ""


def test_there_is_an_end_to_a_word_and_to_words() -> None:
    long = "x" * 1000
    assert words([long]) == "x" * WORD_CHARACTERS == asked_words(long)[0]
    many = words(f"{number}\N{GREEK SMALL LETTER OMEGA}" for number in range(200_000))
    assert WORDS_OCTETS - 100 < len(many.encode()) <= WORDS_OCTETS
    assert all(word.endswith("\N{GREEK SMALL LETTER OMEGA}") for word in many.split(" "))


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("invoice", ("invoice",)),
        ("Invoice  4711 invoice", ("invoice", "4711")),
        ("inv*", ("inv*",)),
        ("anna.m*@customer", ("anna", "m*", "customer")),
        ("*voice", ("voice",)),
        ('"quoted" OR NOT (x)', ("quoted", "or", "not", "x")),
        ("' & | ! : \\", ()),
        ("", ()),
        ("*", ()),
    ],
)
def test_what_is_asked_for_is_words(text: str, asked: tuple[str, ...]) -> None:
    assert asked_words(text) == asked


@pytest.mark.parametrize(
    ("pattern", "certain"),
    [
        ("*@customer.example", ("customer", "example")),
        ("attic@*", ("attic",)),
        ("anna*bob@x", ("anna*", "x")),
        ("*fo@*", ()),
        ("x_*", ("x",)),
        ("*%*", ()),
    ],
)
def test_a_pattern_has_words_for_certain(pattern: str, certain: tuple[str, ...]) -> None:
    assert certain_words(pattern) == certain
