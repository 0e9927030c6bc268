"""`mailgate audit`, as a process: a store that adds up and verifies, and what is said of one that does not."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from collections.abc import Callable, Iterator
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from sqlalchemy import delete

from store.bundle import sums
from store.chain import GENESIS, link
from store.database import open_store
from store.read_tables import uidls
from store.schema import microseconds
from tests.cli.command import PROGRAM, Mailgate, configure
from tests.cli.installation import Installation, installed
from tests.cli.stock import Stock, stocked
from tests.store.attack import changed, rewrite
from tests.store.build import unguarded


@pytest.fixture
def own(tmp_path: Path, database_url: str) -> Stock:
    """A store of the test's own, on either database."""
    return stocked(tmp_path, database_url)


@pytest.fixture
def house(tmp_path: Path, sqlite_url: str) -> Iterator[Installation]:
    with installed(tmp_path, sqlite_url) as house:
        house.make_store()
        yield house


def damage(stock: Stock, *statements: str) -> None:
    engine = open_store(stock.url)
    unguarded(engine, *statements)
    engine.dispose()


# -- conserve


def test_a_store_that_adds_up_is_said_to(stock: Stock) -> None:
    answer = stock.mailgate.process("audit", "conserve")
    assert (answer.code, answer.err) == (0, "")
    assert answer.lines[0].startswith("9 messages for ")
    assert answer.lines[0].endswith("each recipient has one fate on record, or its message is open")
    assert answer.lines[1].startswith("open: 5, the oldest for ")
    assert answer.lines[2].startswith("possible duplicates: 1 attempt got no answer")
    (total,) = stock.mailgate("audit", "conserve", "--json").json
    assert (total["messages"], total["open"], total["unknown_attempts"], total["problems"]) == (9, 5, 1, 0)
    assert total["oldest_open_at"].startswith("2026-03-01T13:00:04")


def test_what_does_not_add_up_is_listed(own: Stock) -> None:
    damage(own, "DELETE FROM agenda", "UPDATE messages SET state = 'held' WHERE state = 'delivered'")
    answer = own.mailgate("audit", "conserve")
    assert answer.code == 1
    assert (
        f"{own.ids['deferred']}: it is open and nobody will look at it; run: mailgate db rebuild"
        in answer.lines
    )
    *problems, total = own.mailgate("audit", "conserve", "--json").json
    assert total["problems"] == len(problems) == len(answer.lines)
    assert {"message", "mailbox", "what"} == set(problems[0])
    assert own.mailgate("db", "rebuild").code == 0
    assert own.mailgate("audit", "conserve").code == 0


def test_a_long_list_is_cut_on_the_screen_and_whole_for_programs(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cli import proof

    own = stocked(tmp_path, sqlite_url)
    monkeypatch.setattr(proof, "SHOWN", 2)
    damage(own, "DELETE FROM messages")
    answer = own.mailgate("audit", "conserve")
    assert (answer.code, len(answer.lines)) == (1, 3)
    assert answer.lines[-1] == "… and 7 more: --json prints all"
    assert len(own.mailgate("audit", "conserve", "--json").lines) == 10


def test_a_mailbox_is_compared_with_what_it_lists_now(house: Installation) -> None:
    house.configure(mailbox='remove = "never"')
    house.put(3)
    house.mailgate("run", "--once")
    said = house.mailgate("audit", "conserve", "--connect")
    assert "1 mailbox lists what is on record, and nothing else" in said
    gone = house.mailbox.mailboxes["info"].messages.pop(0).uidl
    house.put(1)
    new = house.mailbox.uidls("info")[-1]
    assert house.mailgate("audit", "conserve").count("\n") == 1
    said = house.mailgate("audit", "conserve", "--connect", code=1)
    unknown, vanished = said.splitlines()
    assert unknown.startswith(f"mailbox info: UIDL {new}, ")
    assert unknown.endswith("listed, and not on record: the next poll fetches it")
    assert vanished.startswith(f"mailbox info: UIDL {gone}, ")
    assert "on record as there, and not listed" in vanished
    house.mailgate("run", "--once")
    house.mailgate("audit", "conserve", "--connect")


def test_a_message_that_the_server_does_not_give_is_told_from_a_new_one(house: Installation) -> None:
    house.put(1)
    house.mailbox.fault("retr", "err", text="damaged", times=None)
    house.mailgate("run", "--once", code=1)
    for connect in ((), ("--connect",)):
        said = house.mailgate("audit", "conserve", *connect)
        assert "\nopen: mailbox info lists 1 message not to be had, for " in said
    assert "1 mailbox lists what is on record, and nothing else but what is not to be had" in said
    (total,) = house.rows("audit", "conserve")
    (one,) = house.rows("mailbox", "list", code=1)[0]["withheld"]
    assert (total["messages"], total["open"], total["withheld"], total["problems"]) == (0, 1, 1, 0)
    assert total["oldest_open_at"] == one["since"]
    house.put(1)
    new = house.mailbox.uidls("info")[-1]
    said = house.mailgate("audit", "conserve", "--connect", code=1)
    assert [line.partition(",")[0] for line in said.splitlines()] == [f"mailbox info: UIDL {new}"]
    assert "listed, and not on record: the next poll fetches it" in said


def test_what_a_mailbox_does_not_give_is_open_until_it_is_had(house: Installation) -> None:
    house.put(2)
    refused = house.mailbox.uidls("info")[0]
    fault = house.mailbox.fault("retr", "err", text="damaged", matching=refused, times=None)
    assert "1 message is listed and not to be had" in house.mailgate("run", "--once", code=1)
    for narrowed in ((), ("--mailbox", "info")):
        said = house.mailgate("queue", *narrowed)
        assert said.startswith("mailbox info lists 1 message not to be had, for ")
        assert "nothing is open" not in said
    for other in (("--mailbox", "sales"), ("--to", "info@example.com"), ("--at", "1h")):
        assert "not to be had" not in house.mailgate("queue", *other)
    fault.times = 0
    house.mailgate("run", "--once")
    assert house.mailgate("queue") == "nothing is open\n"


def test_a_mailbox_that_can_not_be_reached_is_one_line(house: Installation) -> None:
    house.mailbox.fault("pass", "err", text="[AUTH] no", times=None)
    said = house.mailgate("audit", "conserve", "--connect", code=1)
    (line,) = said.splitlines()
    assert line.startswith("mailbox info: can't be compared: auth: the server refused the login")
    *problems, total = house.rows("audit", "conserve", "--connect", code=1)
    assert [problem["mailbox"] for problem in problems] == ["info"]
    assert total["problems"] == 1


def test_what_was_taken_off_the_record_is_found_in_the_mailbox(house: Installation) -> None:
    """As a person would who deletes rows: the mailbox still knows."""
    house.configure(mailbox='remove = "never"')
    house.put(2)
    house.mailgate("run", "--once")
    engine = open_store(house.store_url)
    with engine.begin() as connection:
        connection.execute(delete(uidls))
    engine.dispose()
    said = house.mailgate("audit", "conserve", "--connect", code=1)
    assert said.count("listed, and not on record") == 2


def test_on_a_terminal_it_is_told_how_far_it_is_and_into_a_file_goes_the_answer_alone(own: Stock) -> None:
    damage(own, "DELETE FROM agenda")
    run, folder = own.mailgate, own.mailgate.folder
    piped = run.process("audit", "conserve")
    master, slave = pty.openpty()
    with (folder / "answer").open("wb") as answer:
        done = subprocess.run(
            [*PROGRAM, "audit", "conserve"],
            cwd=folder,
            env=run.environment,
            stdout=answer,
            stderr=slave,
            check=False,
        )
    os.close(slave)
    shown = os.read(master, 65_536).decode()
    os.close(master)
    assert (done.returncode, piped.code) == (1, 1)
    assert (folder / "answer").read_bytes() == piped.octets
    assert piped.err == ""
    assert "100%" in shown
    assert "it is open" not in shown


# -- verify and seal


def test_a_log_that_is_as_written_verifies_beside_a_gateway_that_runs(house: Installation) -> None:
    house.put(3)
    with house.running():
        house.mailgate("audit", "verify", "--contents")
        house.mailgate("audit", "seal", "--out", "one.seal")
        house.put(2)
        house.mailgate("audit", "verify", "--seal", "one.seal")
    said = house.mailgate("audit", "verify", "--contents", "--seal", "one.seal")
    assert "every chain holds, no position is missing" in said
    assert "those that arrived" in said


def test_a_store_without_a_seal_says_what_would_not_show(stock: Stock) -> None:
    answer = stock.mailgate.process("audit", "verify")
    assert answer.code == 0
    assert "no seal covers them" in answer.lines[1]
    assert stock.mailgate("audit", "verify", "--json").json[-1]["findings"] == 0


def test_the_first_bad_event_is_named_with_its_place(own: Stock) -> None:
    damage(own, "UPDATE events SET at = at + 1 WHERE position IN (3, 7)")
    answer = own.mailgate.process("audit", "verify")
    assert answer.code == 1
    assert "its trigger events_no_update is gone" in answer.out
    bad = [line for line in answer.lines if line.startswith("position")]
    assert bad[0].startswith(f"position 3 ({own.ids['delivered']}, revision 2): its hash is not that")
    *found, total = own.mailgate("audit", "verify", "--json").json
    assert total["findings"] == len(found)
    named = next(one for one in found if one["position"])
    assert (named["position"], named["stream"], named["revision"]) == (3, own.ids["delivered"], 2)


def test_a_rewritten_past_and_a_cut_off_tail_are_found_by_a_seal_that_was_kept(own: Stock) -> None:
    assert own.mailgate("audit", "seal", "--out", "kept.seal").code == 0
    engine = open_store(own.url)
    rewrite(engine, changed)
    answer = own.mailgate("audit", "verify", "--seal", "kept.seal")
    assert answer.code == 1
    assert any(line.startswith("kept.seal, of ") and "does not hold" in line for line in answer.lines)
    assert "run 'mailgate audit verify'" in own.mailgate("audit", "seal").complaint
    rewrite(engine, lambda rows: rows[:5])
    engine.dispose()
    answer = own.mailgate("audit", "verify", "--seal", "kept.seal")
    assert any(line.startswith("kept.seal, of ") and "its tail was cut off" in line for line in answer.lines)


def test_what_is_said_of_a_seal_that_was_given_comes_first_however_much_else_there_is(own: Stock) -> None:
    assert own.mailgate("audit", "seal", "--out", "kept.seal").code == 0
    damage(own, "UPDATE events SET at = at + 1")
    damage(own, "UPDATE events SET hash = digest WHERE position = 1")
    answer = own.mailgate("audit", "verify", "--seal", "kept.seal")
    assert answer.lines[0].startswith("kept.seal, of ")
    assert "its trigger events_no_delete is gone" in answer.lines[1]
    first = next(line for line in answer.lines[1:] if "trigger" not in line)
    assert first.startswith("position 1 (")
    assert len(answer.lines) == 22
    whole = own.mailgate("audit", "verify", "--seal", "kept.seal", "--json").json
    assert answer.lines[-1] == f"… and {len(whole) - 22} more: --json prints all"
    assert [one["seal"] for one in whole[:-1] if one["seal"]] == ["seal 1", "kept.seal"]


def test_one_seal_holds(own: Stock) -> None:
    assert own.mailgate("audit", "seal").code == 0
    assert own.mailgate("audit", "verify").lines[1].startswith("1 seal holds, the last up to position ")


def test_a_seal_is_printed_written_and_signed(own: Stock) -> None:
    folder, run = own.mailgate.folder, own.mailgate
    made = run("audit", "keygen", "seal.key")
    assert made.code == 0
    assert (folder / "seal.key").stat().st_mode & 0o777 == 0o600
    answer = run("audit", "seal", "--key", "seal.key", "--out", "one.seal")
    assert answer.code == 0
    seal = json.loads((folder / "one.seal").read_bytes())
    assert answer.lines[0] == seal["root"]
    assert f"stands for {seal['position']} events" in answer.lines[1]
    fingerprint = made.lines[1].rpartition(" ")[2]
    assert answer.lines[1].endswith(f"signed with {fingerprint}")
    assert run("audit", "verify", "--seal", "one.seal", "--public-key", "seal.key.pub").code == 0
    secret = (folder / "seal.key").read_text().splitlines()[1]
    assert secret not in run("events", "--json").out + answer.out + (folder / "one.seal").read_text()

    again = run("audit", "seal", "--out", "one.seal")
    assert (again.code, again.complaint) == (1, "one.seal exists already: name another file")
    assert run("audit", "seal", "--json").json[0]["signature"] is None
    answer = run("audit", "verify", "--public-key", "seal.key.pub")
    assert (answer.code, answer.lines[2:]) == (0, ["but: that key did not sign 1 seal on record"])
    assert run("audit", "verify").lines[2:] == []
    assert run("hold", own.ids["received"], "--yes").code == 0
    assert run("audit", "seal").code == 0
    answer = run("audit", "verify", "--public-key", "seal.key.pub")
    assert (answer.code, answer.lines) == (1, ["seal 3 is not signed"])
    assert run("audit", "seal", "--key", "seal.key").code == 0
    answer = run("audit", "verify", "--public-key", "seal.key.pub")
    assert (answer.code, answer.lines[2:]) == (0, ["but: that key did not sign 2 seals on record"])
    assert run("audit", "verify", "--public-key", "seal.key.pub", "--json").json[-1]["unsigned"] == 2
    (folder / "seal.key").chmod(0o644)
    answer = run("audit", "seal", "--key", "seal.key")
    assert (answer.code, "chmod 600" in answer.complaint) == (1, True)


@pytest.mark.parametrize("folder", [".", "..", "/"])
def test_a_key_has_a_file(folder: str, tmp_path: Path) -> None:
    answer = Mailgate(tmp_path)("audit", "keygen", folder)
    assert (answer.code, answer.complaint) == (1, f"{folder} is a folder: name a file")


def test_an_empty_store_has_nothing_to_seal(tmp_path: Path, sqlite_url: str) -> None:
    configure(tmp_path, sqlite_url)
    run = Mailgate(tmp_path).process
    assert run("db", "upgrade").code == 0
    assert run("audit", "verify").code == 0
    assert run("audit", "conserve").code == 0
    answer = run("audit", "seal")
    assert (answer.code, answer.complaint) == (1, "there is nothing to seal yet: the log is empty")


def test_rebuilding_leaves_the_seals(own: Stock) -> None:
    run = own.mailgate
    run("audit", "seal", "--out", "kept.seal")
    assert run("db", "rebuild").code == 0
    answer = run("audit", "verify", "--seal", "kept.seal")
    assert answer.code == 0
    assert answer.lines[1].startswith("2 seals hold, the last up to position ")


# -- export and check


def test_a_bundle_is_checked_where_there_is_no_store(
    own: Stock, tmp_path_factory: pytest.TempPathFactory
) -> None:
    run = own.mailgate
    run("audit", "seal", "--out", "kept.seal")
    answer = run("audit", "export", own.ids["mixed"], "--out", "mixed.zip")
    assert answer.code == 0
    assert answer.out.startswith("mixed.zip: ")
    elsewhere = Mailgate(tmp_path_factory.mktemp("auditor"))
    for name in ("mixed.zip", "kept.seal"):
        (elsewhere.folder / name).write_bytes((own.mailgate.folder / name).read_bytes())
    answer = elsewhere.process("audit", "check", "mixed.zip", "--seal", "kept.seal")
    assert (answer.code, answer.err, len(answer.lines)) == (0, "", 2)
    assert f"message {own.ids['mixed']}: " in answer.out
    page = elsewhere.process("audit", "check", "mixed.zip", "--seal", "kept.seal", "--page").out
    for fact in (
        "TLSv1.3 TLS_AES_256_GCM_SHA384",
        "5.1.1 no such user here",
        "Grüße – 会議",
        "anna@example.com",
    ):
        assert fact in " ".join(page.split())

    whole = (elsewhere.folder / "mixed.zip").read_bytes()
    (elsewhere.folder / "mixed.zip").write_bytes(whole[:300] + b"x" + whole[301:])
    answer = elsewhere.process("audit", "check", "mixed.zip", "--seal", "kept.seal")
    assert answer.code == 1
    assert len(answer.lines) == 1
    (found,) = elsewhere.process("audit", "check", "mixed.zip", "--json").json
    assert (found["true"], len(found["findings"])) == (False, 1)
    (elsewhere.folder / "mixed.zip").write_bytes(whole[:-100])
    answer = elsewhere.process("audit", "check", "mixed.zip")
    assert (answer.code, answer.err) == (1, "")
    assert answer.lines[0].startswith("mixed.zip: it is no bundle, or a damaged one: ")


def forged(file: Path, change: Callable[[dict[str, Any]], None]) -> str:
    """Write a bundle beside this one, without a proof, whose events are changed and whose hashes are made anew."""
    with ZipFile(file) as archive:
        held = {
            name: archive.read(name)
            for name in archive.namelist()
            if name not in ("proof.json", "message.eml")
        }
    said = json.loads(held["events.json"])
    change(said)
    mark = bytes(32)
    for revision, one in enumerate(said["events"]):
        at = datetime.fromisoformat(one["at"])
        digest = None if one["digest"] is None else bytes.fromhex(one["digest"])
        facts = (
            one["stream"],
            revision,
            one["name"],
            one["version"],
            microseconds(at),
            one["data"].encode(),
            digest,
        )
        mark = link(GENESIS if revision == 0 else mark, *facts)
        one |= {"revision": revision, "hash": mark.hex()}
    held["events.json"] = json.dumps(said).encode()
    del held["SHA256SUMS"]
    held["SHA256SUMS"] = sums({name: sha256(octets).hexdigest() for name, octets in held.items()})
    with ZipFile(file.with_name("forged.zip"), "w") as archive:
        for name, octets in held.items():
            archive.writestr(name, octets)
    return "forged.zip"


def no_opening(said: dict[str, Any]) -> None:
    del said["events"][0]


def before_all_times(said: dict[str, Any]) -> None:
    said["exported_at"] = "0001-01-01T00:00:00+14:00"


def in_no_zone(said: dict[str, Any]) -> None:
    said["exported_at"] = "2026-05-05T00:00:00"


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (no_opening, "attempted opens no stream"),
        (before_all_times, "it can't be read: OverflowError"),
        (in_no_zone, "has no zone"),
    ],
)
def test_events_that_are_no_messages_life_are_one_line(
    change: Callable[[dict[str, Any]], None], found: str, stock: Stock, tmp_path: Path
) -> None:
    file = tmp_path / "one.zip"
    assert stock.mailgate("audit", "export", stock.ids["delivered"], "--out", str(file)).code == 0
    elsewhere = Mailgate(tmp_path)
    answer = elsewhere("audit", "check", forged(file, change), "--page")
    assert (answer.code, answer.err, len(answer.lines)) == (1, "", 1)
    assert found in answer.lines[0]


def test_the_ends_of_all_time_are_told_in_any_zone(stock: Stock, tmp_path: Path) -> None:
    file = tmp_path / "one.zip"
    assert stock.mailgate("audit", "export", stock.ids["delivered"], "--out", str(file)).code == 0
    for at, zone in (("0001-01-01T00:00:00Z", "America/New_York"), ("9999-12-31T23:59:59Z", "Asia/Tokyo")):
        name = forged(file, lambda said, at=at: said["events"][-1].update(at=at))  # type: ignore[misc]
        assert Mailgate(tmp_path)("audit", "check", name, "--page", TZ=zone).code == 0


def test_each_kind_of_message_can_be_exported_and_its_bundle_is_true(own: Stock) -> None:
    run = own.mailgate
    run("audit", "seal", "--out", "kept.seal")
    for kind, stream in own.ids.items():
        assert run("audit", "export", stream).code == 0, kind
        answer = run("audit", "check", f"{stream}.zip", "--seal", "kept.seal", "--page")
        assert answer.code == 0, answer.out
        shown = run("show", stream).lines
        assert set(shown[1:-2]) <= set(answer.lines)
    again = run("audit", "export", own.ids["held"])
    assert (again.code, "exists already" in again.complaint) == (1, True)


def test_a_message_without_a_seal_says_so(stock: Stock, tmp_path: Path) -> None:
    file = str(tmp_path / "one.zip")
    answer = stock.mailgate.process("audit", "export", stock.ids["delivered"], "--out", file)
    assert (answer.code, "no seal covers them" in answer.out) == (0, True)
    answer = stock.mailgate.process("audit", "check", file)
    assert (answer.code, len(answer.lines)) == (0, 3)
    assert answer.lines[1].startswith("but: no seal covers it")
    assert answer.lines[2].startswith("but: it tells what happened up to its last event, and not what came")


def test_a_store_whose_event_was_changed_says_so_when_it_exports(own: Stock) -> None:
    damage(own, "UPDATE events SET at = at + 1 WHERE position = 3")
    answer = own.mailgate("audit", "export", own.ids["delivered"], "--out", "bad.zip")
    assert answer.code == 1
    assert answer.lines[0].startswith("event 2 (delivered): its hash is not that")


def test_seals_are_checked_one_after_the_other_without_a_store(own: Stock) -> None:
    run, folder = own.mailgate, own.mailgate.folder
    for number in range(1, 4):
        run("audit", "seal", "--out", f"{number}.seal")
        order = "release" if number == 2 else "hold"
        assert run(order, own.ids["received"], "--yes").code == 0
    (folder / "mailgate.toml").unlink()
    answer = run("audit", "check", "3.seal", "--seal", "1.seal", "--seal", "2.seal")
    assert answer.code == 0
    assert answer.out.startswith("3.seal: seal over ")
    assert "give the seal before it" in run("audit", "check", "3.seal").out
    answer = run("audit", "check", "3.seal", "--seal", "1.seal")
    assert (answer.code, "give those between" in answer.out) == (1, True)
    forged = json.loads((folder / "3.seal").read_bytes())
    forged["root"] = "00" * 32
    (folder / "3.seal").write_text(json.dumps(forged))
    answer = run("audit", "check", "3.seal", "--seal", "2.seal")
    assert (answer.code, "does not go on from" in answer.out) == (1, True)
    answer = run("audit", "check", "1.seal", "--seal", "2.seal")
    assert (answer.code, "is later" in answer.out) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("check", "nothing.zip"), 2, "does not exist"),
        (("check", "mailgate.toml"), 1, "it is no seal"),
        (("verify", "--seal", "mailgate.toml"), 1, "it is no seal"),
        (("verify", "--seal", "nothing.seal"), 1, "No such file"),
        (("verify", "--public-key", "mailgate.toml"), 1, "no public key"),
        (("seal", "--key", "nothing"), 1, "No such file"),
        (("export", "zzzz"), 1, "no message has an id"),
    ],
)
def test_what_can_not_be_done_is_one_line(
    arguments: tuple[str, ...], code: int, said: str, stock: Stock
) -> None:
    answer = stock.mailgate("audit", *arguments)
    assert answer.code == code, answer
    assert said in answer.complaint
