"""A configuration's text as TOML; what is wrong with it in the words of who wrote it, not of the parser."""

from __future__ import annotations

import re
import tomllib

from engine.settings.lines import defined

ARRAYS = ("mailbox", "route", "hold", "scanner", "webhook")

_AT = re.compile(r" \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)$")
_TWICE = re.compile(r"Cannot declare .+ twice")
_INLINE = re.compile(r"Duplicate inline table key '(.+)'")
_OVER = "Cannot overwrite a value"


class NotToml(Exception):
    """The text is no TOML. One line: where, and what is wrong."""


def parsed(source: str) -> dict[str, object]:
    """Return the tables of a TOML text. Raises NotToml."""
    try:
        return tomllib.loads(source)
    except tomllib.TOMLDecodeError as trouble:
        raise NotToml(_said(str(trouble), source.split("\n"))) from None
    except RecursionError:
        raise NotToml("not valid TOML: lists or tables are nested too deeply") from None
    except ValueError:  # of Python's int: thousands of digits
        raise NotToml("not valid TOML: an integer has too many digits") from None


def _said(text: str, lines: list[str]) -> str:
    at = _AT.search(text)
    if at is None or at["line"] is None:
        return f"not valid TOML: {text[: at.start()] if at else text}, at the end of the file"
    what = _meant(text[: at.start()], lines[int(at["line"]) - 1])
    return f"line {at['line']}: not valid TOML: {what} (column {at['column']})"


def _meant(said: str, line: str) -> str:
    """What the parser said, the key or table named that is there twice."""
    if found := _INLINE.fullmatch(said):
        return f"{found[1]} is given already"
    header, names = defined(line)
    if not names or not (said == _OVER or _TWICE.fullmatch(said)):
        return said
    key = ".".join(names)
    hint = f": write [[{key}]] each time" if header and key in ARRAYS else ""
    return f"{header}{key}{']' * len(header)} is given already{hint}"
