"""Many messages in one transaction: every statement that is given a block of rows at once does what it does for each."""

from __future__ import annotations

from sqlalchemy import Engine

from store.database import writing
from store.events import Held, Kept, KeptNoLonger, RedeliveryRequested, Released, RemovedFromSource
from store.log import Append
from store.mailbox_events import Adopted, Adoption, mailbox_stream
from store.read_tables import exempt
from store.rebuild import rebuild
from store.statement import BLOCKS
from tests.store.build import NOW, POLICY, append, attempted, delivered, opening, oversize, rows, then
from tests.store.test_rebuild import derived

MANY = sum(BLOCKS) + 1  # one block of each size, and one row by itself


def as_rebuilt(engine: Engine) -> None:
    live = derived(engine)
    with writing(engine) as connection:
        rebuild(connection)
    assert derived(engine) == live


def test_many_messages_are_kept_and_left_to_retention_at_once(store: Engine) -> None:
    opened = [opening(f"m{n:03}", uidl=f"u{n}") for n in range(MANY)]
    append(store, *opened)
    kept = [then(one, Kept(operator="anna", policy=POLICY)) for one in opened]
    append(store, *kept)
    assert len(rows(store, exempt)) == MANY
    append(store, *(then(one, KeptNoLonger(operator="anna", policy=POLICY)) for one in kept[:-1]))
    assert len(rows(store, exempt)) == 1
    as_rebuilt(store)


def test_many_messages_get_recipients_and_are_delivered_and_removed_at_once(store: Engine) -> None:
    unroutable = Held(why="unroutable", rule="nobody", policy=POLICY)
    opened = [opening(f"m{n:03}", unroutable, uidl=f"u{n}", recipients=()) for n in range(MANY)]
    append(store, *opened)
    released = [
        then(
            one,
            Released(
                numbers=(0, 1),
                operator="anna",
                policy=POLICY,
                recipients=(f"a{n}@example.com", f"b{n}@example.com"),
                routed_by=("a rule", "a rule"),
            ),
        )
        for n, one in enumerate(opened)
    ]
    append(store, *released)
    as_rebuilt(store)
    taken = [then(one, attempted(0, 1), delivered(0, 1)) for one in released]
    append(store, *taken)
    gone = (RemovedFromSource(mailbox="info", uidl=f"u{n}", confirmed_by="quit") for n in range(MANY))
    append(store, *(then(one, event) for one, event in zip(taken, gone, strict=True)))
    as_rebuilt(store)


def test_many_oversize_messages_are_asked_for_again_at_once(store: Engine) -> None:
    opened = [Append(f"o{n:03}", None, (oversize(uidl=f"o{n}"),), NOW) for n in range(MANY)]
    append(store, *opened)
    append(store, *(then(one, RedeliveryRequested(policy=POLICY, replay="again")) for one in opened))
    as_rebuilt(store)


def test_many_adopted_uidls_go_at_once(store: Engine) -> None:
    uidls = tuple(Adoption(uidl=f"u{n}", size_octets=1) for n in range(MANY))
    adopted = Adopted(mailbox="info", uidls=uidls, operator="anna", reason="old")
    one = Append(mailbox_stream("info"), None, (adopted,), NOW)
    append(store, one)
    gone = (RemovedFromSource(mailbox="info", uidl=f"u{n}", confirmed_by="listing") for n in range(MANY - 1))
    append(store, then(one, *gone))
    as_rebuilt(store)
