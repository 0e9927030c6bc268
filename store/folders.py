"""Who folds the streams of a long log while the read tables are written: this process, or several beside it.

Folding is most of the work and needs only to read, so other processors can do it: each process opens the store for itself and
returns the rows of a range of streams. They see what is committed; the append lock that the caller holds keeps that still.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import cache
from itertools import islice
from typing import Protocol

from msgspec import msgpack
from sqlalchemy import Connection, Engine

from store import next_hop_rows, pages
from store.database import open_store, reading
from store.errors import StoreError
from store.refolded import Part, refold
from store.rows import Row

FROM_EVENTS = 100_000  # from here on it is worth to start processes (a second or so)
RANGE_EVENTS = 4_000  # what a process is given at a time
AHEAD = 4  # ranges for each process, of a megabyte or so
PROCESSES = 3  # at most: they fold as fast as one can write, and each takes some 60 MB
# To put a part into octets takes pickle or marshal four times as long.
_OCTETS, _PARTS = msgpack.Encoder(), msgpack.Decoder(Part)


class Folding(Protocol):
    """What a rebuild asks for, once each."""

    def parts(self) -> Iterator[Part]:
        """Yield what all streams add up to."""

    def next_hops(self) -> dict[str, Row]:
        """Return the rows of next hops (`next_hop_rows.refolded`)."""


class Here:
    """This process does it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def parts(self) -> Iterator[Part]:
        """Yield what all streams add up to."""
        return refold(self._connection)

    def next_hops(self) -> dict[str, Row]:
        """Return the rows of next hops."""
        return next_hop_rows.refolded(self._connection)


class Beside:
    """Other processes do it."""

    def __init__(self, connection: Connection, pool: ProcessPoolExecutor, size: int) -> None:
        self._pool = pool
        self._ahead = AHEAD * size
        self._url = connection.engine.url.render_as_string(hide_password=False)  # it goes through a pipe
        self._next_hops = pool.submit(_next_hops, self._url)
        self._ranges = _ranges(connection)
        self._begun: deque[Future[list[bytes]]] = deque()
        self._begin()  # they need a while to start

    def parts(self) -> Iterator[Part]:
        """Yield what all streams add up to, in the order of the streams: rows go in faster in order."""
        while self._begun:
            done = self._begun.popleft().result()
            self._begin()
            yield from map(_PARTS.decode, done)

    def next_hops(self) -> dict[str, Row]:
        """Return the rows of next hops."""
        return self._next_hops.result()

    def _begin(self) -> None:
        for after, until in islice(self._ranges, self._ahead - len(self._begun)):
            self._begun.append(self._pool.submit(_refold, self._url, after, until))


@contextmanager
def here(connection: Connection) -> Iterator[Folding]:
    """Yield this process as who folds."""
    yield Here(connection)


@contextmanager
def beside(connection: Connection) -> Iterator[Folding]:
    """Yield processes that fold, no more than there are processors; they end with the block.

    Raises StoreError where one is killed.
    """
    size = min(PROCESSES, len(os.sched_getaffinity(0)))
    pool = ProcessPoolExecutor(
        size,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_prepare,
    )
    try:
        yield Beside(connection, pool, size)
    except BrokenProcessPool as error:
        raise StoreError("a process that helps to make the read tables was killed: run it again") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _ranges(connection: Connection) -> Iterator[tuple[str, str | None]]:
    """Yield the names of streams between which there are about so many events; the last range has no end."""
    after = ""
    while (until := pages.stream_after(connection, after, RANGE_EVENTS)) is not None:
        yield after, until
        after = until
    yield after, None


# -- in the other processes


def _prepare() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal tells all; who started them says when to end
    gc.disable()  # rows and events hold nothing that holds them, and to look for it is a tenth of the time


@cache
def _store(url: str) -> Engine:
    return open_store(url)


@contextmanager
def _reading(url: str) -> Iterator[Connection]:
    try:
        with reading(_store(url)) as connection:
            yield connection
    except StoreError as error:
        raise StoreError(str(error)) from None  # of another class it would not find its way to who asked


def _refold(url: str, after: str, until: str | None) -> list[bytes]:
    with _reading(url) as connection:
        return [_OCTETS.encode(part) for part in refold(connection, after, until)]


def _next_hops(url: str) -> dict[str, Row]:
    with _reading(url) as connection:
        return next_hop_rows.refolded(connection)
