"""Group commit: many coroutines, one transaction.

One thread with one connection writes. While a commit runs, the next batch gathers; there is no timer, so a
lone unit waits for nothing. What messages in hand wait for goes before new arrivals, so that delivering does not wait
until a whole mailbox is on record; each kind keeps its order. A unit refused by the store, or one that breaks, fails
alone; the others commit.
When the database itself fails, all of the batch fail with StoreError and nothing of it happened.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from engine import seams
from store import log
from store.database import unreachable, write_transaction
from store.errors import StoreError, StoreUnreachable
from store.log import Unit

T = TypeVar("T")

BATCH_UNITS = 256  # more gains nothing measurable and makes the last one wait
BATCH_OCTETS = 4 << 20  # contents of a batch are held once more by the driver
ARRIVALS_BESIDE = 32  # new arrivals in a batch that others wait for: some milliseconds


@dataclass(slots=True)
class _Entry:
    """A unit to append, or a call to make in the transaction; and who waits for it.

    `appends`: the call says beside its result what it appended, which is in `units` then.
    """

    unit: Unit | None
    call: Callable[[Connection], Any] | None
    waiter: asyncio.Future[Any]
    appends: bool = False
    units: Sequence[Unit] = ()
    result: Any = None
    error: Exception | None = None

    @property
    def octets(self) -> int:
        """How much content it carries."""
        return self.unit.octets if self.unit is not None else 0

    @property
    def arrival(self) -> bool:
        """Whether it goes on with no message that is in somebody's hands: nobody waits for it yet."""
        if self.unit is None:
            return False
        lease = self.unit.lease
        return lease is None or all(append.stream != lease.stream for append in self.unit.appends)


class Journal:
    """The one writer of this process. Start and close it on the event loop that uses it."""

    def __init__(
        self,
        engine: Engine,
        watch: Callable[[Sequence[Unit], float], None] | None = None,
        ended: Callable[[StoreUnreachable | None], None] | None = None,
    ) -> None:
        self._engine = engine
        self._watch = watch  # told what was committed, and in how many seconds; in the journal's thread
        self._ended = ended  # told how commits end that are to change something; on the event loop
        self._entries: SimpleQueue[_Entry | None] = SimpleQueue()
        # Taken from the queue by the thread: what messages in hand wait for, and what is new.
        self._steps: deque[_Entry] = deque()
        self._arrivals: deque[_Entry] = deque()
        self._closing = False
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._connection: Connection | None = None
        self._thread.start()

    def append(self, unit: Unit) -> asyncio.Future[None]:
        """Append a unit; the future is done when it is durable, or has its Conflict, LeaseLost or StoreError."""
        return self._submit(_Entry(unit, None, self._loop.create_future()))

    def call(self, function: Callable[[Connection], T]) -> asyncio.Future[T]:
        """Run a function in a write transaction, behind the steps that were submitted before it."""
        return self._submit(_Entry(None, function, self._loop.create_future()))

    def append_by(self, function: Callable[[Connection], tuple[T, Sequence[Unit]]]) -> asyncio.Future[T]:
        """As `call`, for a function that appends what follows from what it reads: it returns its result, and the units."""
        return self._submit(_Entry(None, function, self._loop.create_future(), appends=True))

    async def close(self) -> None:
        """Write what is queued, then end the thread."""
        self._entries.put(None)
        await asyncio.to_thread(self._thread.join)

    def _submit(self, entry: _Entry) -> asyncio.Future[Any]:
        self._entries.put(entry)
        return entry.waiter

    def _run(self) -> None:
        while batch := self._gather():
            self._write(batch)
            self._loop.call_soon_threadsafe(_resolve, batch)
        self._disconnect()

    def _gather(self) -> list[_Entry]:
        """Wait for the first entry, then take what else is there; empty means the end."""
        self._drain()
        batch: list[_Entry] = []
        octets = 0
        for waiting, most in ((self._steps, BATCH_UNITS), (self._arrivals, self._room_for_arrivals())):
            taken = 0
            while waiting and taken < most and (not taken or octets + waiting[0].octets <= BATCH_OCTETS):
                octets += waiting[0].octets
                batch.append(waiting.popleft())
                taken += 1
        return batch

    def _room_for_arrivals(self) -> int:
        return ARRIVALS_BESIDE if self._steps else BATCH_UNITS

    def _drain(self) -> None:
        """Sort what was submitted; wait for something where there is nothing to do."""
        with suppress(Empty):
            while True:
                idle = not (self._steps or self._arrivals or self._closing)
                entry = self._entries.get(block=idle)
                if entry is None:
                    self._closing = True
                else:
                    (self._arrivals if entry.arrival else self._steps).append(entry)

    def _write(self, batch: list[_Entry]) -> None:
        try:
            self._commit(batch)
        except StoreUnreachable as error:
            self._tell(error)
            _fail(batch, error)
        except Exception as error:  # noqa: BLE001 - whatever one entry breaks, the others must still commit
            if len(batch) == 1:
                _fail(batch, error)
            else:
                for entry in batch:
                    self._write([entry])

    def _commit(self, batch: list[_Entry]) -> None:
        names = _events(batch)
        began = time.monotonic()
        try:
            connection = self._connected()
            before = _changes(connection)
            with write_transaction(connection):
                for _, run in groupby(batch, key=lambda entry: entry.unit is None):
                    _perform(connection, list(run))
                _reached("before-commit", names)
            if before is None or _changes(connection) != before:
                self._tell(None)
            _reached("after-commit", names)
            if self._watch is not None:
                self._watch(_appended(batch), time.monotonic() - began)
        except Exception as error:
            if trouble := unreachable(self._engine, error):
                self._disconnect()
                raise trouble from error
            raise

    def _tell(self, trouble: StoreUnreachable | None) -> None:
        if self._ended is not None:
            self._loop.call_soon_threadsafe(self._ended, trouble)

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = self._engine.connect()
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            try:
                self._connection.invalidate()
                self._connection.close()
            except SQLAlchemyError:
                pass  # it was broken already
            self._connection = None


def _perform(connection: Connection, run: Sequence[_Entry]) -> None:
    """Append a run of units together, or make a run of calls."""
    units = [entry.unit for entry in run if entry.unit is not None]
    if units:
        for entry, refusal in zip(run, log.append(connection, units), strict=True):
            entry.error = refusal
    for entry in run:
        if entry.call is not None and entry.appends:
            entry.result, entry.units = entry.call(connection)
        elif entry.call is not None:
            entry.result = entry.call(connection)


def _changes(connection: Connection) -> int | None:
    """Return how many rows a connection to SQLite has changed: on a full disk a commit of nothing goes through."""
    changes: int | None = getattr(connection.connection.driver_connection, "total_changes", None)
    return changes


def _appended(batch: Sequence[_Entry]) -> list[Unit]:
    """Return what of a batch went into the log."""
    those = [entry for entry in batch if entry.error is None]
    return [unit for entry in those for unit in (entry.units if entry.unit is None else (entry.unit,))]


def _events(batch: Sequence[_Entry]) -> set[str]:
    """Return the names of the events in a batch, for the seams."""
    units = (entry.unit for entry in batch if entry.unit is not None)
    return {event.NAME for unit in units for append in unit.appends for event in append.events}


def _reached(place: str, names: set[str]) -> None:
    for name in names:
        seams.reached(f"{place} {name}")


def _fail(batch: Sequence[_Entry], error: Exception) -> None:
    for entry in batch:
        entry.error = error if isinstance(error, StoreError) else StoreError(f"can't be stored: {error}")
        if not isinstance(error, StoreError):
            entry.error.__cause__ = error


def _resolve(batch: Sequence[_Entry]) -> None:
    for entry in batch:
        if entry.waiter.done():
            continue  # nobody waits any more
        if entry.error is not None:
            entry.waiter.set_exception(entry.error)
        else:
            entry.waiter.set_result(entry.result)
