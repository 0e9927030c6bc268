"""A bundle is checked without the store; whoever changes a fact in it is found out, also who makes its sums anew."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from zipfile import ZIP_BZIP2, ZIP_DEFLATED, ZipFile

import pytest
from sqlalchemy import Engine

from cli.bundle_readme import readme
from store import bundle, inspection, log, signing
from store.database import reading, writing
from store.errors import StoreError
from store.inspection import Inspected
from store.log import Append
from store.seal import Seal
from tests.store.attack import sealed
from tests.store.build import NOW, append, attempted, delivered, opening, removed, scanned, then

OCTETS = b"Subject: x\r\n\r\nGr\xfc\xdfe\r\n"
NO_FACTS = {"exported_at", "program"}  # of events.json: nobody vouches for them
UNSEALED = ("events", 3, "position")  # of the event that came after the seal: the notes say so


@dataclass(frozen=True, slots=True)
class Made:
    """A bundle whose events are under a signed seal, all but the last; and what its reader has of his own."""

    engine: Engine
    file: Path
    seal: Seal
    key: Path

    @property
    def public_key(self) -> bytes:
        return signing.public_key(self.key.with_name("key.pub"))

    def write(self, name: str, **facts: Any) -> Path:
        """Write another one."""
        file = self.file.with_name(name)
        with reading(self.engine) as connection:
            made = bundle.gather(connection, "m1", NOW, "mailgate 0", **facts)
        bundle.write(made, file, readme("m1", "today", "mailgate 0"), "its life", OCTETS)
        return file


@pytest.fixture
def made(sqlite_store: Engine, tmp_path: Path) -> Made:
    return filled(sqlite_store, tmp_path)


def filled(store: Engine, tmp_path: Path) -> Made:
    signing.make(tmp_path / "key")
    append(store, *(opening(f"a{number}") for number in range(9)))
    one = opening("m1", octets=OCTETS, subject="Grüße 会議")
    two = then(one, attempted(recipients=("info@example.com",)), delivered(reply='2.0.0 "Ok"'))
    append(store, one, opening("b1"), two)
    seal = sealed(store, lambda seal: signing.sign(seal, tmp_path / "key"))
    append(store, then(two, removed()))
    made = Made(store, tmp_path / "m1.zip", seal, tmp_path / "key")
    made.write("m1.zip")
    return made


def look(made: Made, file: Path | None = None) -> Inspected:
    return inspection.inspect(file or made.file, made.seal, made.public_key)


def members(file: Path) -> dict[str, bytes]:
    with ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def forged(file: Path, held: dict[str, bytes], *, sums: bool = True) -> Path:
    """Write a bundle of these members, with the sums that fit."""
    other = file.with_name("forged.zip")
    if sums:
        digests = {name: sha256(octets).hexdigest() for name, octets in held.items() if name != bundle.SUMS}
        held = held | {bundle.SUMS: bundle.sums(digests)}
    with ZipFile(other, "w") as archive:
        for name, octets in held.items():
            archive.writestr(name, octets)
    return other


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each value in JSON that holds no other."""
    if isinstance(value, dict | list) and value:
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from leaves(value[key], (*path, key))
    else:
        yield path


def flipped(value: Any) -> Any:
    """Another value of the kind that may stand there."""
    match value:
        case None:
            return "00" * 32
        case int():
            return value + 1
        case str() if value.startswith("{"):
            return value.replace(":", ": ", 1) if ":" in value else "{ }"
        case str() if value[-1:] == "Z":
            return value.replace("2026", "2025")
        case str():
            return value[:-1] + ("0" if value[-1] != "0" else "1")
        case _:
            return [bytes(32).hex()]


def test_what_was_written_is_true(store: Engine, tmp_path: Path) -> None:
    made = filled(store, tmp_path)
    seen = look(made)
    assert seen.findings == ()
    late = "1 of 4 events came after the seal: nothing shows where they come from"
    assert seen.notes == (late, inspection.UP_TO_THE_LAST)
    assert seen.bundle is not None
    assert [fact.name for fact in seen.bundle.facts] == [
        "downloaded",
        "attempted",
        "delivered",
        "removed-from-source",
    ]
    assert len(seen.bundle.inclusion) == 3
    assert made.file.stat().st_mode & 0o777 == 0o600
    assert members(made.file)[bundle.OCTETS] == OCTETS


def test_each_value_that_is_changed_is_found_also_by_its_sums(made: Made) -> None:
    held = members(made.file)
    for name in (bundle.EVENTS, bundle.PROOF):
        whole = json.loads(held[name])
        for path in leaves(whole):
            if path[0] in NO_FACTS or path == UNSEALED:
                continue
            changed = json.loads(held[name])
            place = changed
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = flipped(place[path[-1]])
            assert changed != whole, path
            file = forged(made.file, held | {name: json.dumps(changed).encode()})
            assert look(made, file).findings, (name, path)


@pytest.mark.parametrize("which", range(4))
def test_an_event_that_is_left_out_is_found(which: int, made: Made) -> None:
    held = members(made.file)
    changed = json.loads(held[bundle.EVENTS])
    del changed["events"][which]
    found = look(made, forged(made.file, held | {bundle.EVENTS: json.dumps(changed).encode()})).findings
    # The last one came after the seal: that it was there once nobody can know.
    assert bool(found) == (which != 3)


OTHERS = (None, 7, 1.5, True, "x", [], {}, "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00")


@pytest.mark.parametrize("name", [bundle.EVENTS, bundle.PROOF])
def test_a_value_of_another_kind_is_found_and_breaks_nothing(name: str, made: Made) -> None:
    held = members(made.file)
    whole = json.loads(held[name])
    for path in leaves(whole):
        if path[0] == "program" or "path" in path:
            continue
        for other in OTHERS:
            changed = json.loads(held[name])
            place = changed
            for key in path[:-1]:
                place = place[key]
            if place[path[-1]] == other:
                continue
            place[path[-1]] = other
            file = forged(made.file, held | {name: json.dumps(changed).encode()})
            assert look(made, file).findings or path == UNSEALED, (path, other)


def test_a_proof_that_is_left_out_is_found(made: Made) -> None:
    held = members(made.file)
    changed = json.loads(held[bundle.PROOF])
    del changed["inclusion"][1]
    found = look(made, forged(made.file, held | {bundle.PROOF: json.dumps(changed).encode()})).findings
    assert found == ("event 1 (attempted): nothing shows that it is under the seal",)
    del held[bundle.PROOF]
    assert look(made, forged(made.file, held)).findings == ("no seal covers it",)


@pytest.mark.parametrize("name", [bundle.README, bundle.EVENTS, bundle.PROOF, bundle.SUMMARY, bundle.OCTETS])
def test_a_bit_that_fell_over_anywhere_is_found_by_the_sums(name: str, made: Made) -> None:
    held = members(made.file)
    for at in range(0, len(held[name]), max(1, len(held[name]) // 40)):
        octets = bytearray(held[name])
        octets[at] ^= 1
        assert look(made, forged(made.file, held | {name: bytes(octets)}, sums=False)).findings


def test_no_damage_to_the_file_goes_unnoticed_or_breaks_the_check(made: Made) -> None:
    whole, before = made.file.read_bytes(), members(made.file)
    damaged = made.file.with_name("damaged.zip")
    for at in range(0, len(whole), 11):
        for octets in (
            whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :],
            whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :],
            whole[:at],
        ):
            damaged.write_bytes(octets)
            assert look(made, damaged).findings or members(damaged) == before


def test_octets_that_are_not_the_messages_are_found(made: Made) -> None:
    held = members(made.file)
    found = look(made, forged(made.file, held | {bundle.OCTETS: b"another"})).findings
    assert found == ("message.eml: the octets are not those that arrived",)
    del held[bundle.OCTETS]
    seen = look(made, forged(made.file, held))
    assert seen.findings == ()
    assert "the message's octets are not in it" in seen.notes


@pytest.mark.parametrize("name", ["notes.txt", "../escape"])
def test_what_does_not_belong_there_is_named(name: str, made: Made) -> None:
    file = forged(made.file, members(made.file) | {name: b"x"})
    assert look(made, file).findings == (f"{name} does not belong there",)


def test_what_is_no_bundle_s_is_not_unpacked(made: Made) -> None:
    held = members(made.file)
    other = made.file.with_name("other.zip")
    with ZipFile(other, "w") as archive:
        for name, octets in held.items():
            archive.writestr(name, octets, ZIP_BZIP2 if name == bundle.README else ZIP_DEFLATED)
    assert look(made, other).findings == ("README.txt is compressed in a way that no bundle is",)
    with ZipFile(other, "w", ZIP_DEFLATED) as archive:
        archive.writestr(bundle.SUMMARY, bytes(bundle.JSON_OCTETS_LIMIT + 1))
    (found,) = look(made, other).findings
    assert found.startswith("summary.txt is too large")


def test_very_many_nothings_are_no_events(made: Made) -> None:
    for nothing in (b"[]", b"{}", b"0"):
        held = members(made.file) | {bundle.EVENTS: b'{"events":[' + b",".join([nothing] * 1_000) + b"]}"}
        tracemalloc.start()
        try:
            (found,) = look(made, forged(made.file, held)).findings
            _, most_octets = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert found.startswith("it can't be read")
        assert most_octets < 1 << 20


def test_brackets_in_brackets_are_no_seal(made: Made) -> None:
    deep = b'{"seal":{"format":' + b"[" * 100_000 + b"]" * 100_000 + b'},"inclusion":[]}'
    (found,) = look(made, forged(made.file, members(made.file) | {bundle.PROOF: deep})).findings
    assert found.startswith("it can't be read")


def test_what_is_there_many_times_is_read_once(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []
    opens = ZipFile.open
    with ZipFile(made.file, "a") as archive:
        archive.filelist += [archive.getinfo(bundle.OCTETS)] * 1_000
        archive._didModify = True  # type: ignore[attr-defined]
    monkeypatch.setattr(
        ZipFile, "open", lambda self, name, *more: opened.append(name) or opens(self, name, *more)
    )
    assert look(made).findings == ("message.eml does not belong there",)
    assert opened.count(bundle.OCTETS) == 1


def test_what_came_after_the_last_event_it_does_not_tell_and_says_so(made: Made) -> None:
    held = members(made.file)
    cut = json.loads(held[bundle.EVENTS])
    proof = json.loads(held[bundle.PROOF])
    last = cut["events"][-3]["position"]
    cut["events"] = cut["events"][:-2]
    proof["inclusion"] = [one for one in proof["inclusion"] if one["position"] <= last]
    files = {bundle.EVENTS: json.dumps(cut).encode(), bundle.PROOF: json.dumps(proof).encode()}
    seen = look(made, forged(made.file, held | files))
    assert (seen.findings, seen.notes[-1]) == ((), inspection.UP_TO_THE_LAST)


def test_personal_facts_that_were_erased_are_told_and_not_wrong(made: Made) -> None:
    with writing(made.engine) as connection:
        connection.exec_driver_sql("UPDATE events SET personal = NULL, salt = NULL WHERE stream = 'm1'")
    seen = look(made, made.write("erased.zip"))
    assert seen.findings == ()
    assert seen.notes[0] == "the personal facts of 3 events are not in it: erased, or left out"


def test_a_history_that_was_made_up_whole_is_not_under_the_kept_seal(made: Made, tmp_path: Path) -> None:
    """The forger has mailgate, a store and a key of his own."""
    signing.make(tmp_path / "other")
    other = sealed(made.engine, lambda seal: signing.sign(seal, tmp_path / "other"))
    file = made.write("forged.zip")
    assert inspection.inspect(file).findings == ()
    assert "--seal" in inspection.inspect(file).notes[0]
    (found,) = inspection.inspect(file, made.seal).findings
    assert found.startswith(
        f"it is under a seal at position {other.position}, not under the one that was kept"
    )
    (found,) = inspection.inspect(file, None, made.public_key).findings
    assert found.startswith("its seal is signed with another key")


def test_the_time_of_a_seal_that_nobody_signed_is_that_of_the_kept_one(made: Made) -> None:
    kept = sealed(made.engine)
    file = made.write("later.zip", wanted=kept)
    assert inspection.inspect(file, kept).findings == ()
    held = members(file)
    proof = json.loads(held[bundle.PROOF])
    said, proof["seal"]["at"] = proof["seal"]["at"], "2019-01-01T00:00:00.000000Z"
    older = forged(file, held | {bundle.PROOF: json.dumps(proof).encode()})
    assert inspection.inspect(older, kept).findings == (
        f"its seal says that it was made at 2019-01-01T00:00:00.000000Z, and the one that was kept at {said}:"
        " have it exported with that (--seal)",
    )


def test_the_seal_to_prove_it_by_can_be_chosen(made: Made) -> None:
    later = sealed(made.engine)
    assert (
        len((look(made, made.write("old.zip", wanted=made.seal)).bundle or pytest.fail("none")).inclusion)
        == 3
    )
    assert inspection.inspect(made.write("new.zip"), later).findings == ()
    with pytest.raises(StoreError, match="not on record"):
        made.write("none.zip", wanted=replace(later, root=bytes(32)))
    assert not made.file.with_name("none.zip").exists()


def test_it_is_under_a_signed_seal_where_one_covers_it_all(made: Made) -> None:
    def covering(name: str) -> Seal | None:
        seen = inspection.inspect(made.write(name))
        assert seen.bundle is not None
        return seen.bundle.seal

    signed = sealed(made.engine, lambda seal: signing.sign(seal, made.key))
    sealed(made.engine)
    assert covering("signed.zip") == signed.alone
    with reading(made.engine) as connection:
        before = log.message(connection, "m1")
    append(made.engine, Append("m1", before, (scanned("clean"),), NOW))
    last = sealed(made.engine)
    assert covering("last.zip") == last.alone


def test_without_a_seal_it_is_said_that_nothing_shows_where_it_comes_from(
    sqlite_store: Engine, tmp_path: Path
) -> None:
    append(sqlite_store, opening("m1"))
    with reading(sqlite_store) as connection:
        alone = bundle.gather(connection, "m1", NOW, "mailgate 0")
    bundle.write(alone, tmp_path / "alone.zip", "", "", None)
    seen = inspection.inspect(tmp_path / "alone.zip")
    assert seen.findings == ()
    assert "nothing shows where they come from" in seen.notes[-2]


def test_nothing_is_overwritten(made: Made) -> None:
    before = made.file.read_bytes()
    with pytest.raises(FileExistsError):
        made.write("m1.zip")
    assert made.file.read_bytes() == before


@pytest.fixture
def by_hand(made: Made, tmp_path: Path) -> Callable[[dict[str, bytes]], subprocess.CompletedProcess[str]]:
    """Does what README.txt says, with nothing but Python's standard library."""
    said = members(made.file)[bundle.README].decode()
    script = said.partition("<<'END'\n")[2].partition("END\n")[0]
    folder = tmp_path / "unpacked"
    folder.mkdir()

    def run(held: dict[str, bytes]) -> subprocess.CompletedProcess[str]:
        for name, octets in held.items():
            (folder / name).write_bytes(octets)
        command = [sys.executable, "-I", "-c", script]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)

    return run


def test_by_hand_it_comes_to_the_same(
    made: Made, by_hand: Callable[[dict[str, bytes]], subprocess.CompletedProcess[str]]
) -> None:
    held = members(made.file)
    done = by_hand(held)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"4 events: the chain holds\n3 of them are under the root {made.seal.root.hex()}\n"
    assert b"Ok" in held[bundle.EVENTS]
    assert (
        "AssertionError" in by_hand(held | {bundle.EVENTS: held[bundle.EVENTS].replace(b"Ok", b"OK")}).stderr
    )
    root = made.seal.root.hex().encode()
    by_hand(held)
    assert (
        "AssertionError"
        in by_hand(held | {bundle.PROOF: held[bundle.PROOF].replace(root, b"00" * 32)}).stderr
    )
