"""How text is compared when a person searches: case, accents and width of letters make no difference. Pure.

Both databases get words and fragments as they come out of here, and split or fold nothing by themselves: what one finds, the
other finds. Chinese and Japanese put no space between words, so each of their characters is a word.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

WORD_CHARACTERS = 64  # a longer word is cut, here and where it is looked up
# Postgres takes a megabyte of words for a row. A message with more must be taken in all the same.
WORDS_OCTETS = 500_000

_ALONE = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_BESIDE = re.compile(f"(?<=[{_ALONE}])(?=\\S)|(?<=\\S)(?=[{_ALONE}])")
_WORD = re.compile(r"[^\W_]+")
# The same for ASCII, in a fraction of the time: a letter or digit as it is compared, a space for all else.
_ASCII = bytes(ord(chr(code).lower()) if chr(code).isalnum() and code < 128 else 32 for code in range(256))
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Mn", "Me", "Zs", "Zl", "Zp"})
_PARTS = re.compile(r"(\*?)([^\W_]+)(?=(\*?))")


def folded(text: str) -> str:
    """Return a text as it is compared; what is folded of a part of it is a part of what this returns."""
    if text.isascii():
        return text.replace("\0", " ").lower()
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    kept = (c if c.isascii() or _seen(c) else " " for c in plain if not unicodedata.combining(c))
    return _BESIDE.sub(" ", "".join(kept).replace("\0", " "))


def _seen(character: str) -> bool:
    """Whether it is more than white space, a mark of direction or the like: a letter, but also a currency or a picture."""
    return character.isalnum() or unicodedata.category(character) not in _UNSEEN


def words(texts: Iterable[str | None]) -> str:
    """Return the words of some texts, each once and sorted, with a space between; should there be too many, the first."""
    found = _split("\n".join([text for text in texts if text]))
    if found and max(map(len, found)) > WORD_CHARACTERS:
        found = [word[:WORD_CHARACTERS] for word in found]
    each = dict.fromkeys(found)
    if len(found) * WORD_CHARACTERS * 4 > WORDS_OCTETS:
        kept = " ".join(each).encode(errors="ignore")[:WORDS_OCTETS].decode(errors="ignore")
        each = dict.fromkeys(kept.split(" ")[:-1])
    return " ".join(sorted(each))


def _split(text: str) -> list[str]:
    if text.isascii():
        return text.encode().translate(_ASCII).decode().split()
    return _WORD.findall(folded(text))


def asked_words(text: str) -> tuple[str, ...]:
    """Return the words that a person asks for, each once; one that may go on ends with `*`."""
    found = _PARTS.findall(folded(text))
    return tuple(dict.fromkeys(word[:WORD_CHARACTERS] + more for _, word, more in found))


def certain_words(pattern: str) -> tuple[str, ...]:
    """Return the words that whatever fits a pattern with `*` has for certain, as `asked_words` has them."""
    found = _PARTS.findall(folded(pattern))
    return tuple(dict.fromkeys(word[:WORD_CHARACTERS] + more for less, word, more in found if not less))
