"""What may lead a question: each filter that has an index, or rows made to be gone through; and the bounds of a page.

Each has its condition twice: so that its index serves it, where it leads, and so that none does, where another leads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from sqlalchemy import ColumnElement, and_, exists, func, literal, true

from store.read_tables import exempt, messages, recipients, subjects, texts
from store.searching import also, has_fragment, has_words, wanted_words


class Span(NamedTuple):
    """Between which positions to look, both included."""

    first: int
    last: int


class Bounds(NamedTuple):
    """Where a page may be: of any time or in a span, from below a position or from the newest, or from above one."""

    span: Span | None = None
    before: int | None = None
    after: int | None = None

    def beside(self, place: ColumnElement[int]) -> Iterator[ColumnElement[Any]]:
        """Yield the conditions on a column that is the position of a message in hand, which are implied then."""
        return (also(condition) for condition in self.on(place))

    def on(self, place: ColumnElement[int]) -> Iterator[ColumnElement[bool]]:
        """Yield the conditions on a column that is the message's position.

        Every table asked gets them, for Postgres concludes no bound of one from that of another, and may merge them
        from the newest message down. One bound above: SQLite begins at the first of two, however far from the other.
        """
        last = None if self.before is None else self.before - 1
        first = None if self.after is None else self.after + 1
        if self.span is not None:
            last = self.span.last if last is None else min(last, self.span.last)
            first = self.span.first if first is None else max(first, self.span.first)
        if first is not None:
            yield place >= first
        if last is not None:
            yield place <= last


class Lead(Protocol):
    """A filter that may lead: with an index, or with rows made to be gone through."""

    @property
    def place(self) -> ColumnElement[int]:
        """The column that is the message's position, in the table that is asked."""

    @property
    def countable(self) -> bool:
        """Whether it has an index."""

    def served(self) -> ColumnElement[Any]:
        """Return the condition so that its index serves it."""

    def checked(self, bounds: Bounds) -> ColumnElement[bool]:
        """Return the condition on a message in hand, so that its index does not serve it."""


class Indexed(NamedTuple):
    """What is asked of a column with an index, and which column beside it is the message's position."""

    column: ColumnElement[str]
    values: tuple[str, ...]
    place: ColumnElement[int] = messages.c.position
    countable: bool = True

    def served(self) -> ColumnElement[Any]:
        """Return the condition so that its index serves it."""
        return self.column == self.values[0] if len(self.values) == 1 else self.column.in_(self.values)

    def checked(self, bounds: Bounds) -> ColumnElement[bool]:
        """Return the condition on a message in hand, so that its index does not serve it."""
        if self.place is not messages.c.position:
            its = exists().where(self.place == messages.c.position, self.served(), *bounds.beside(self.place))
            return its.correlate(messages)  # another filter may lead with the same table
        return func.coalesce(self.column, "").in_(self.values)


class Addressed(NamedTuple):
    """One of its recipients has this address, as a key; it may have several that differ in case alone."""

    address: str
    column: ColumnElement[str] = recipients.c.address_key
    place: ColumnElement[int] = recipients.c.message
    countable: bool = True

    def served(self) -> ColumnElement[Any]:
        """Return the condition so that its index serves it: of those of one message the first."""
        sooner = recipients.alias()
        return and_(
            self.column == self.address,
            ~exists().where(
                sooner.c.message == self.place,
                sooner.c.number < recipients.c.number,
                func.coalesce(sooner.c.address_key, "") == self.address,
            ),
        )

    def checked(self, bounds: Bounds) -> ColumnElement[bool]:
        """Return the condition on a message in hand, so that its index does not serve it."""
        its = self.place == messages.c.position, self.column == self.address
        return exists().where(*its, *bounds.beside(self.place))


class Worded(NamedTuple):
    """All of these words are in the subject or in an address.

    `few`: they are known to be in few messages. Postgres can't know how rare a rare word is, and would rather walk all messages
    from the newest than sort what its index finds.
    """

    words: tuple[str, ...]
    few: bool = False
    column: ColumnElement[str] = texts.c.words
    place: ColumnElement[int] = texts.c.rowid
    countable: bool = True

    def served(self) -> ColumnElement[Any]:
        """Return the condition so that its index serves it."""
        return has_words(self.column, wanted_words(self.words))

    def checked(self, bounds: Bounds) -> ColumnElement[bool]:
        """Return the condition on a message in hand: asked of its one row."""
        return exists().where(self.place == messages.c.position, self.served(), *bounds.beside(self.place))


class Fragment(NamedTuple):
    """This is somewhere in the subject, also inside a word."""

    fragment: str
    column: ColumnElement[str] = subjects.c.folded
    place: ColumnElement[int] = subjects.c.position
    countable: bool = False

    def served(self) -> ColumnElement[Any]:
        """Return the condition on a row of the subjects."""
        return has_fragment(self.column, literal(self.fragment))

    def checked(self, bounds: Bounds) -> ColumnElement[bool]:
        """Return the condition on a message in hand."""
        return exists().where(self.place == messages.c.position, self.served(), *bounds.beside(self.place))


class Exempt(NamedTuple):
    """A person said that it is to be kept, whatever its age."""

    column: ColumnElement[int] = exempt.c.message
    place: ColumnElement[int] = exempt.c.message
    countable: bool = True

    def served(self) -> ColumnElement[Any]:
        """Return the condition on a row of those: it is one."""
        return true()

    def checked(self, bounds: Bounds) -> ColumnElement[bool]:
        """Return the condition on a message in hand."""
        return exists().where(self.place == messages.c.position, *bounds.beside(self.place))
