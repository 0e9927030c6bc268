"""A seal that was kept elsewhere finds a tail that was cut off and a past that was rewritten, whatever else was made to fit."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import Engine

from store import log, merkle, seals, signing
from store.copying import quiet
from store.database import reading, writing
from store.errors import Damaged
from store.merkle import Tree
from store.rebuild import rebuild
from store.schema import events
from store.seal import NoSeal, Seal, read
from store.signing import KeyTrouble
from tests.store.attack import Row, changed, findings, forget_seals, rewrite, sealed
from tests.store.build import NOW, append, opening, rows, unguarded
from tests.store.history import History, write

BLOCK = merkle.BLOCK_LEAVES


@pytest.fixture
def history(store: Engine) -> History:
    made = History(Random(3))
    write(store, made, 60)
    return made


def root(engine: Engine, size: int) -> bytes:
    tree = Tree()
    tree.extend([row["hash"] for row in rows(engine, events)[:size]])
    return tree.root()


def many(engine: Engine, count: int, first: int = 1) -> None:
    """Append so many messages of one event."""
    append(engine, *(opening(f"m{number:06}", octets=b"x") for number in range(first, first + count)))


def test_a_seal_stands_for_the_whole_log_and_the_next_goes_on_from_it(store: Engine) -> None:
    sizes = (1, BLOCK - 1, BLOCK, BLOCK + 1, BLOCK + 1, 3 * BLOCK + 7)
    made: list[Seal] = []
    size = 0
    for wanted in sizes:
        if wanted > size:
            many(store, wanted - size, size + 1)
        size = wanted
        made.append(sealed(store))
        assert (made[-1].position, made[-1].root) == (size, root(store, size))
        assert made[-1].continues()
    for old, new in itertools.pairwise(made):
        assert new.extends is not None
        assert (new.extends.position, new.extends.root) == (old.position, old.root)
        assert not replace(new, extends=replace(new.extends, root=bytes(32))).continues()
    assert findings(store, *made) == []
    with reading(store) as connection:
        entries = seals.every(connection)
        assert [entry.number for entry in entries] == list(range(1, len(sizes) + 1))
        assert sum(len(entry.blocks) for entry in entries) == 3
        marks = [row["hash"] for row in rows(store, events)]
        for seal in (made[-1], made[3], made[0]):
            prover = seals.prover(connection, entries, seal)
            for position in {1, 2, BLOCK, BLOCK + 1, 3 * BLOCK, seal.position}:
                if position <= seal.position:
                    proof = prover.inclusion(position)
                    leaf = merkle.leaf(marks[position - 1])
                    assert merkle.climb(leaf, position - 1, seal.position, proof) == seal.root
            for old in made:
                if old.position <= seal.position:
                    assert merkle.extends(
                        old.position, seal.position, old.root, seal.root, prover.consistency(old.position)
                    )


def test_an_empty_log_has_no_seal(store: Engine) -> None:
    with reading(store) as connection:
        assert seals.make(connection, NOW, lambda seal: seal, quiet) is None


def test_of_two_who_seal_at_once_one_is_told(store: Engine, history: History) -> None:
    with reading(store) as connection:
        late = seals.make(connection, NOW, lambda seal: seal, quiet)
    assert late is not None
    sealed(store)
    with writing(store) as connection:
        assert not seals.put(connection, late)


def test_rebuilding_the_read_tables_leaves_the_seals(store: Engine, history: History) -> None:
    seal = sealed(store)
    with writing(store) as connection:
        rebuild(connection)
    assert findings(store, seal) == []
    with reading(store) as connection:
        assert len(seals.every(connection)) == 1


# -- attacks


def without_one(rows: list[Row]) -> list[Row]:
    """A whole message was never there."""
    stream = next(row["stream"] for row in rows[5:] if row["revision"] == 0)
    return [row for row in rows if row["stream"] != stream]


def without_the_tail(rows: list[Row]) -> list[Row]:
    return rows[:-4]


def with_another(rows: list[Row]) -> list[Row]:
    """A message was there all the time."""
    return [*rows[:5], rows[0] | {"stream": "m9"}, *rows[5:]]


def in_another_order(rows: list[Row]) -> list[Row]:
    openings = [n for n, row in enumerate(rows) if row["revision"] == 0][:2]
    rows[openings[0]], rows[openings[1]] = rows[openings[1]], rows[openings[0]]
    return rows


ATTACKS = (changed, without_one, with_another, in_another_order)


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_past_that_was_made_anew_with_all_its_hashes_is_found_by_a_seal(
    attack: Callable[[list[Row]], list[Row]], store: Engine, history: History
) -> None:
    kept = sealed(store)
    write(store, history, 20)
    rewrite(store, attack)
    (on_record, elsewhere) = findings(store, kept)
    assert on_record.startswith("seal 1, of 2026-05-04 03:02:01 UTC,")
    assert elsewhere.startswith("kept, of 2026-05-04 03:02:01 UTC,")
    forget_seals(store)
    assert findings(store) == []  # the chain alone can't tell
    sealed(store)
    assert findings(store) == []  # nor can seals that the attacker made
    (elsewhere,) = findings(store, kept)
    assert f"the log up to position {kept.position} is not what it covers" in elsewhere


def test_a_tail_that_was_cut_off_with_its_seal_is_found_by_the_kept_one(
    store: Engine, history: History
) -> None:
    first = sealed(store)
    write(store, history, 20)
    kept = sealed(store)
    rewrite(store, lambda rows: rows[: first.position])
    unguarded(store, "DELETE FROM seals WHERE number = 2")
    assert findings(store) == []
    (found,) = findings(store, first, kept)
    assert f"covers {kept.position} events, and the log ends at position {first.position}" in found


def test_where_the_past_was_rewritten_is_said_as_far_as_seals_tell(store: Engine, history: History) -> None:
    first = sealed(store)
    write(store, history, 20)
    second = sealed(store)
    write(store, history, 20)
    third = sealed(store)

    def late(rows: list[Row]) -> list[Row]:
        rows[first.position] = rows[first.position] | {"at": 0}
        return rows

    rewrite(store, late)
    found = findings(store, first, second, third)
    assert len(found) == 3  # the first one on record that does not hold, and both that were kept
    assert all(f"up to position {first.position} it is" in line for line in found)


def test_a_block_that_was_rewritten_is_named(store: Engine) -> None:
    many(store, 3 * BLOCK)
    kept = sealed(store)

    def middle(rows: list[Row]) -> list[Row]:
        rows[BLOCK] = rows[BLOCK] | {"at": 0}
        return rows

    rewrite(store, middle)
    block, elsewhere = findings(store, kept)
    assert block == f"the events {BLOCK + 1} to {2 * BLOCK} are not those sealed"
    assert elsewhere.startswith("kept, of ")


def test_a_seal_taken_off_the_record_is_missed(store: Engine, history: History) -> None:
    for _ in range(3):
        sealed(store)
    unguarded(store, "DELETE FROM seals WHERE number = 2")
    assert findings(store) == ["seal 2 is not on record, and seal 3 is"]


@pytest.mark.parametrize(("number", "blocks", "has", "wanted"), [(1, 32, 1, 0), (2, 64, 2, 1), (2, 0, 0, 1)])
def test_blocks_that_can_not_be_are_named(
    number: int, blocks: int, has: int, wanted: int, sqlite_store: Engine
) -> None:
    many(sqlite_store, 1)
    sealed(sqlite_store)
    many(sqlite_store, BLOCK, 2)
    sealed(sqlite_store)
    unguarded(sqlite_store, f"UPDATE seals SET blocks = zeroblob({blocks}) WHERE number = {number}")
    assert findings(sqlite_store) == [
        f"seal {number} has the roots of {has} whole blocks of events on record,"
        f" and {wanted} became whole since the seal before"
    ]


def test_what_verify_names_of_a_seal_is_why_none_is_made_on_top_of_it(sqlite_store: Engine) -> None:
    many(sqlite_store, 1)
    sealed(sqlite_store)
    unguarded(sqlite_store, "UPDATE seals SET blocks = zeroblob(32)")
    with pytest.raises(Damaged, match="run 'mailgate audit verify'"):
        sealed(sqlite_store)
    assert len(findings(sqlite_store)) == 1


@pytest.mark.parametrize("column", ["at", "root", "blocks"])
def test_a_seal_of_another_kind_is_damage(column: str, sqlite_store: Engine) -> None:
    append(sqlite_store, opening("m1"))
    sealed(sqlite_store)
    unguarded(sqlite_store, f"UPDATE seals SET {column} = 'text'")
    with pytest.raises(Damaged, match="seal 1 on record can't be read"):
        findings(sqlite_store)


@pytest.mark.parametrize("attack", [changed, without_the_tail, without_one])
def test_nothing_is_sealed_on_top_of_a_past_that_is_not_what_was_sealed(
    attack: Callable[[list[Row]], list[Row]], store: Engine, history: History
) -> None:
    sealed(store)
    rewrite(store, attack)
    with pytest.raises(Damaged, match="run 'mailgate audit verify'"):
        sealed(store)


def test_nothing_is_sealed_over_a_gap(store: Engine, history: History) -> None:
    with reading(store) as connection:
        last = log.last_position(connection)
    unguarded(store, f"DELETE FROM events WHERE position = {last - 1}")
    with pytest.raises(Damaged, match="positions are missing"):
        sealed(store)


# -- files and signatures


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("keys") / "seal.key"
    signing.make(file)
    return file


def a_seal() -> Seal:
    return Seal(position=4711, root=bytes(range(32)), at=NOW)


def test_a_key_is_its_owners_alone_and_overwrites_nothing(tmp_path: Path) -> None:
    file = tmp_path / "seal.key"
    beside, public = signing.make(file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert signing.public_key(beside) == public
    before = file.read_bytes()
    with pytest.raises(KeyTrouble, match="exists already"):
        signing.make(file)
    beside.unlink()
    with pytest.raises(KeyTrouble, match="exists already"):
        signing.make(file)
    assert file.read_bytes() == before


def test_a_signature_holds_for_its_seal_and_for_no_other(key: Path) -> None:
    signed = signing.sign(a_seal(), key)
    public = signing.public_key(key.with_name("seal.key.pub"))
    assert read(signed.file()) == signed
    assert signed.public_key == public
    assert signing.trouble(signed, public) is signing.trouble(signed, None) is None
    for other in (
        replace(signed, position=4712),
        replace(signed, root=bytes(32)),
        replace(signed, at=NOW.replace(microsecond=0)),
        replace(signed, signature=bytes(64)),
        replace(signed, signature=b""),
        replace(signed, signature=None),
        replace(signed, public_key=bytes(32)),
        replace(signed, public_key=None),
    ):
        assert signing.trouble(other, None) == "has a signature that is not its key's"


def test_a_seal_by_another_key_or_by_none_is_not_what_was_asked_for(key: Path, tmp_path: Path) -> None:
    public = signing.public_key(key.with_name("seal.key.pub"))
    signing.make(tmp_path / "other")
    other = signing.sign(a_seal(), tmp_path / "other")
    assert signing.trouble(other, None) is None
    assert str(signing.trouble(other, public)).startswith("is signed with another key")
    assert signing.trouble(a_seal(), public) == "is not signed"
    assert signing.trouble(a_seal(), None) is None


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_private_key_that_others_may_read_is_refused(mode: int, key: Path) -> None:
    key.chmod(mode)
    try:
        with pytest.raises(KeyTrouble, match="chmod 600"):
            signing.sign(a_seal(), key)
    finally:
        key.chmod(0o600)


def test_what_is_no_key_is_said(key: Path, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("no key")
    text.chmod(0o600)
    with pytest.raises(KeyTrouble, match="no private key"):
        signing.sign(a_seal(), text)
    with pytest.raises(KeyTrouble, match="no public key"):
        signing.public_key(key)
    with pytest.raises(KeyTrouble, match="No such file"):
        signing.public_key(tmp_path / "nothing")


def test_without_the_package_it_is_said_what_to_install(key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signed = signing.sign(a_seal(), key)
    monkeypatch.setattr(signing, "available", lambda: False)
    for call in (lambda: signing.sign(a_seal(), key), lambda: signing.trouble(signed, None)):
        with pytest.raises(KeyTrouble, match=r"pip install 'mailgate\[sign\]'"):
            call()
    assert signing.trouble(a_seal(), None) is None


def test_a_seal_on_record_keeps_its_signature(store: Engine, history: History, key: Path) -> None:
    made = sealed(store, lambda seal: signing.sign(seal, key))
    with reading(store) as connection:
        (entry,) = seals.every(connection)
    assert entry.seal == made.alone
    assert signing.trouble(entry.seal, signing.public_key(key.with_name("seal.key.pub"))) is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"position": 4711', b'"position": "4711"'),
        (b'"position": 4711', b'"position": 4711.5'),
        (b'"position": 4711,', b""),
        (b'"position": 4711', b'"position": 0'),
        (b'"root": "0001', b'"root": "01'),
        (b"mailgate seal 1", b"mailgate seal 2"),
        (b'"root": "00', b'"root": "0x'),
        (b"2026-05-04", b"2026-99-04"),
        (b"2026-05-04T03:02:01.987654Z", b"0001-01-01T00:00:00+14:00"),
        (b"2026-05-04T03:02:01.987654Z", b"9999-12-31T23:59:59-14:00"),
        (b'"public_key": null', b'"public_key": 7'),
        (b'"extends": null', b'"extends": null, "more": 1'),
        (b'"extends": null', b'"extends": {}'),
        (b"{", b"["),
    ],
)
def test_what_is_no_seal_is_refused(old: bytes, new: bytes) -> None:
    octets = a_seal().file()
    assert old in octets
    with pytest.raises(NoSeal, match="no seal"):
        read(octets.replace(old, new, 1))
