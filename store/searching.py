"""How the two databases are asked for words and for fragments: one expression, written as each understands it.

SQLite searches words with FTS5 (`MATCH`), Postgres with a tsvector (`@@`). Words come folded and split (`folding`), so they are
letters and digits alone and need no escaping in either language.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import BindParameter, Dialect, Text, literal
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import NullType, TypeDecorator


class _Query(TypeDecorator[Sequence[str]]):
    """Words that must all be there, in the language of the database; one with `*` behind it may go on."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Sequence[str] | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        if dialect.name == "postgresql":
            return " & ".join(f"'{word.rstrip('*')}'{':*' if word.endswith('*') else ''}" for word in value)
        return " ".join(f'"{word.rstrip("*")}"{"*" if word.endswith("*") else ""}' for word in value)

    def process_literal_param(self, value: Sequence[str] | None, dialect: Dialect) -> str:
        return str(self.process_bind_param(value, dialect))


def wanted_words(words: Sequence[str]) -> BindParameter[Any]:
    """Return the parameter that asks for all of these words."""
    return literal(tuple(words), _Query())


class has_words(FunctionElement[Any]):
    """Whether a column of words has those asked for."""

    type = NullType()  # of a Boolean SQLite's dialect would ask whether it is 1, which MATCH can't be asked
    inherit_cache = True


class has_fragment(FunctionElement[Any]):
    """Whether a text has another in it, octet by octet."""

    type = NullType()
    inherit_cache = True


class also(FunctionElement[Any]):
    """A condition that another one implies, said for Postgres alone: it plans by it, and SQLite by it in place of the other."""

    type = NullType()
    inherit_cache = True


def _both(element: FunctionElement[Any], compiler: SQLCompiler, given: Any) -> tuple[str, str]:
    left, right = element.clauses
    return compiler.process(left, **given), compiler.process(right, **given)


@compiles(has_words)
def _match(element: has_words, compiler: SQLCompiler, **given: Any) -> str:
    # The table's name: that of a column would be taken for one of several to look in.
    column, query = element.clauses
    return f"{column.table.name} MATCH {compiler.process(query, **given)}"


@compiles(has_words, "postgresql")
def _matches(element: has_words, compiler: SQLCompiler, **given: Any) -> str:
    return "{} @@ CAST({} AS tsquery)".format(*_both(element, compiler, given))


@compiles(has_fragment)
def _instr(element: has_fragment, compiler: SQLCompiler, **given: Any) -> str:
    return "instr({}, {}) > 0".format(*_both(element, compiler, given))


@compiles(has_fragment, "postgresql")
def _strpos(element: has_fragment, compiler: SQLCompiler, **given: Any) -> str:
    return "strpos({}, {}) > 0".format(*_both(element, compiler, given))


@compiles(also)
def _unsaid(element: also, compiler: SQLCompiler, **given: Any) -> str:
    return "1 = 1"


@compiles(also, "postgresql")
def _said(element: also, compiler: SQLCompiler, **given: Any) -> str:
    return compiler.process(*element.clauses, **given)
