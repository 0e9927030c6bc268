"""`mailgate check` says what it understood, what servers offered, and which setting would help."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from engine import clock
from tests.cli.installation import PASSWORD, Installation, installed
from tests.peers.certificates import server_context, until, write_certificate, write_certificate_and_key
from tests.peers.pop3d import Pop3Peer
from tests.peers.smtpd import HomePeer

NOW = clock.now()


@pytest.fixture
def house(tmp_path: Path, sqlite_url: str) -> Iterator[Installation]:
    with installed(tmp_path, sqlite_url) as house:
        yield house


@pytest.fixture
def context() -> ssl.SSLContext:
    return server_context()


@contextmanager
def meeting(folder: Path, mailbox: Pop3Peer, home: HomePeer) -> Iterator[Installation]:
    with installed(folder, f"sqlite:///{folder}/mailgate.db", mailbox=mailbox, home=home) as house:
        yield house


def by_kind(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["kind"]: row for row in rows}


def advice(house: Installation, code: int = 1) -> tuple[str, str]:
    """What is said about the mailbox and about the next hop."""
    parts = by_kind(house.rows("check", "--connect", code=code))
    first, second = ("\n".join(parts[kind]["connect"]["advice"]) for kind in ("mailbox", "next-hop"))
    return first, second


def test_it_says_what_it_understood_and_asks_nobody(house: Installation) -> None:
    rules = '[[route]]\nsenders = ["<>"]\nnext_hop = "home"\n[[hold]]\nsenders = ["a@*"]\n'
    house.configure(mailbox='remove = "14d"', more=rules)
    said = house.mailgate("check")
    assert f"info: info at 127.0.0.1:{house.mailbox_port}, no TLS, every 1m" in said
    assert "for info@example.com; deleted there 14d after download" in said
    assert "1: from <> to next hop home" in said
    assert said.index("where no route fits") < said.index(
        "hold        1: from a@*, until a person lets it go on"
    )
    assert house.mailbox.sessions == []
    assert house.home.sessions == []
    assert not (house.folder / "mailgate.db").exists()


def test_it_says_how_long_what_is_kept_and_who_hears_of_it(house: Installation) -> None:
    house.configure()
    said = " ".join(house.mailgate("check").split())
    never = "recipients do not hear of infected mail; no digest of held spam"
    assert f"quarantine kept for 30d, then discarded; {never}" in said
    assert "retention octets of closed messages are kept for 30d, events for ever" in said
    house.configure(
        more='[quarantine]\nnotify_recipients = true\ndigest = "06:05"\n'
        '[retention]\nquarantined = "14d"\ncontents = "36h"\n'
    )
    said = " ".join(house.mailgate("check").split())
    told = "recipients hear of infected mail; a digest of held spam at 06:05 UTC"
    assert f"quarantine kept for 14d, then discarded; {told}" in said
    assert "kept for 1d 12h, events for ever" in said
    parts = by_kind(house.rows("check"))
    assert parts["retention"]["contents_seconds"] == 36 * 3600
    assert parts["quarantine"] == {
        "kind": "quarantine",
        "name": "quarantine",
        "quarantined_seconds": 14 * 86_400,
        "notify_recipients": True,
        "digest_utc": "06:05",
    }


def test_connect_says_what_each_server_offers(house: Installation) -> None:
    house.put(3)
    parts = by_kind(house.rows("check", "--connect"))
    mailbox, hop, store = (parts[kind]["connect"] for kind in ("mailbox", "next-hop", "store"))
    assert {name: mailbox[name] for name in ("ok", "messages", "tls", "uidl", "top", "pipelining")} == {
        "ok": True,
        "messages": 3,
        "tls": "none",
        "uidl": True,
        "top": True,
        "pipelining": True,
    }
    assert mailbox["octets"] == sum(len(m.octets) for m in house.mailbox.mailboxes["info"].messages)
    assert hop["size_octets"] == 36_000_000
    assert hop["pipelining"]
    assert hop["eightbitmime"]
    assert hop["smtputf8"]
    assert hop["banner"]
    assert store["ok"]
    assert mailbox["advice"] == hop["advice"] == []
    assert house.mailbox.said("RETR") == house.mailbox.said("DELE") == []
    assert "valid, everything answered" in house.mailgate("check", "--connect")


def test_what_servers_lack_is_said_with_what_follows(tmp_path: Path) -> None:
    poor = Pop3Peer(without=("UIDL", "TOP", "PIPELINING"), extra=("LOGIN-DELAY 900", "EXPIRE 0"))
    with meeting(tmp_path, poor, HomePeer(extensions=(), size_octets=None)) as house:
        house.put()
        mailbox, hop = advice(house)
        for words in (
            'no UIDL: .*remove = "downloaded"',
            "no TOP",
            "no PIPELINING",
            'poll_every = "900s"',
            "EXPIRE 0",
        ):
            assert re.search(words, mailbox)
        for words in ("max_size", "no 8BITMIME", "no SMTPUTF8", "no PIPELINING"):
            assert words in hop
        house.configure(mailbox='remove = "downloaded"')
        mailbox, _ = advice(house, code=0)
        assert "no UIDL" not in mailbox
        assert "EXPIRE" not in mailbox


@pytest.mark.parametrize("mode", ["implicit", "starttls"])
def test_a_certificate_nobody_vouches_for_is_shown_and_can_be_pinned(
    mode: Any, tmp_path: Path, context: ssl.SSLContext
) -> None:
    peers = Pop3Peer(tls=mode, tls_context=context), HomePeer(tls=mode, tls_context=context)
    hop_mode = "implicit" if mode == "implicit" else "required"
    with meeting(tmp_path, *peers) as house:
        house.configure(mailbox=f'tls = "{mode}"', next_hop=f'tls = "{hop_mode}"\ntls_verify = true')
        for said in advice(house):
            assert "tls_ca" in said
            (pin,) = re.findall(r'tls_fingerprint="sha256:[0-9a-f]{64}"', said)
        assert house.mailbox.said("PASS") == house.mailbox.said("AUTH") == []
        house.configure(mailbox=f'tls = "{mode}"\n{pin}', next_hop=f'tls = "{hop_mode}"\n{pin}')
        advice(house, code=0)
        ca = f'tls_ca = "{write_certificate(tmp_path)}"'
        house.configure(mailbox=f'tls = "{mode}"\n{ca}', next_hop=f'tls = "{hop_mode}"\n{ca}')
        parts = by_kind(house.rows("check", "--connect"))
        for kind in ("mailbox", "next-hop"):
            assert re.fullmatch(r"TLSv1\.\d \S+ verified", parts[kind]["connect"]["tls"])


def test_a_certificate_that_has_expired_is_for_its_owner_to_renew(tmp_path: Path) -> None:
    expired = until(NOW - timedelta(days=3))
    peers = (
        Pop3Peer(tls="implicit", tls_context=server_context(expired)),
        HomePeer(tls="implicit", tls_context=server_context(expired)),
    )
    (tmp_path / "old.pem").write_text(expired)
    with meeting(tmp_path, *peers) as house:
        tls = 'tls = "implicit"\ntls_ca = "old.pem"'
        house.configure(mailbox=tls, next_hop=tls)
        for said in advice(house):
            assert said.startswith("whoever runs the server has to renew its certificate\nuntil then, ")
            assert "tls_ca" not in said
            (pin,) = re.findall(r'tls_fingerprint="sha256:[0-9a-f]{64}"', said)
        house.mailgate("mailbox", "poll", "info", code=1)
        listed = house.mailgate("mailbox", "list", code=1)
        assert "certificate has expired; whoever runs the server has to renew its certificate" in listed
        assert "waiting won't help" not in listed
        pinned = f'tls = "implicit"\n{pin}'
        house.configure(mailbox=pinned, next_hop=pinned)
        advice(house, code=0)


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (timedelta(days=-3), r"expired 3d( \dh)? ago, on \S+: clients that check it can't submit\. Renew it"),
        (timedelta(days=13), r"expires in 1[23]d( \d+h)?, on \S+: clients that check it can't submit then"),
        (timedelta(days=40), None),
        (timedelta(days=365 * 40), None),  # behind 2050 the year has four digits
    ],
)
def test_our_own_certificate_is_said_to_expire_before_it_does(
    end: timedelta, said: str | None, house: Installation
) -> None:
    certificate, key = write_certificate_and_key(house.folder)
    certificate.write_text("a remark before it\n" + until(NOW + end) + until(NOW - timedelta(days=9)))
    listening = f'[listen]\naddress = "127.0.0.1:0"\ntls_cert = "{certificate}"\ntls_key = "{key}"\n'
    house.configure(more=listening)
    printed = " ".join(house.mailgate("check").split())
    assert printed.count("listen.tls_cert: ") == (said is not None)
    if said is not None:
        assert re.search(f"warning: listen.tls_cert: {certificate} {said}", printed)
        assert f"on {NOW + end:%Y-%m-%d}" in printed


def test_tls_from_the_start_where_the_server_begins_in_the_clear(
    tmp_path: Path, context: ssl.SSLContext
) -> None:
    with meeting(tmp_path, Pop3Peer(tls="starttls", tls_context=context), HomePeer()) as house:
        house.configure(mailbox='tls = "implicit"', next_hop='tls = "implicit"')
        mailbox, hop = advice(house)
        assert 'set tls = "starttls"' in mailbox
        assert 'set tls = "required"' in hop
        house.configure(mailbox='tls = "starttls"\ntls_verify = false', next_hop='tls = "required"')
        _, hop = advice(house)
        assert 'tls = "opportunistic"' in hop


def test_in_the_clear_where_the_server_wants_tls_from_the_start(
    tmp_path: Path, context: ssl.SSLContext
) -> None:
    peers = (
        Pop3Peer(tls="implicit", tls_context=context),
        HomePeer(tls="implicit", tls_context=context),
    )
    with meeting(tmp_path, *peers) as house:
        assert ['set tls = "implicit"' in said for said in advice(house)] == [True, True]


def test_a_next_hop_is_shown_with_its_tls_its_login_and_its_size(
    tmp_path: Path, context: ssl.SSLContext
) -> None:
    peer = HomePeer(
        tls="starttls",
        tls_context=context,
        users={"gate": "right"},
        size_octets=36_700_160,
        extensions=("PIPELINING", "DSN"),
    )
    with meeting(tmp_path, Pop3Peer(), peer) as house:
        login = 'tls = "required"\ntls_verify = false\nusername = "gate"\npassword = "right"'
        house.configure(next_hop=login)
        said = " ".join(house.mailgate("check", "--connect").split())
        assert ", logged in as gate " in said
        assert ", takes up to 36.7 MB " in said
        assert "offers SIZE, PIPELINING, DSN, AUTH PLAIN LOGIN; lacks 8BITMIME, SMTPUTF8" in said
        hop = by_kind(house.rows("check", "--connect"))["next-hop"]["connect"]
        assert hop["tls"].startswith("TLSv1.")
        assert (hop["size_octets"], hop["auth"], hop["dsn"]) == (36_700_160, ["PLAIN", "LOGIN"], True)
        house.configure(next_hop='tls = "none"')
        _, hop_advice = advice(house, code=0)
        assert "it offers STARTTLS" in hop_advice


def test_a_wrong_password_and_a_wrong_port_are_told_apart(tmp_path: Path) -> None:
    with meeting(tmp_path, Pop3Peer(), HomePeer(users={"gate": "right"})) as house:
        house.mailbox.mailboxes["info"].password = "another"
        login = 'tls = "none"\nusername = "gate"\npassword = "wrong"'
        house.configure(next_hop=login)
        parts = by_kind(house.rows("check", "--connect", code=1))
        assert parts["mailbox"]["connect"]["trouble"] == "auth"
        for kind in ("mailbox", "next-hop"):
            assert "check username and password" in parts[kind]["connect"]["advice"][0]
        house.mailbox_port = house.home_port = 1
        house.configure()
        assert ["check host and port" in said for said in advice(house)] == [True, True]


def test_a_next_hop_that_takes_no_mail_from_such_a_session_fails(
    tmp_path: Path, context: ssl.SSLContext
) -> None:
    with meeting(tmp_path, Pop3Peer(), HomePeer(users={"gate": "right"}, login_needed=True)) as house:
        assert "it wants a login: set username and password" in advice(house)[1]
        assert "530 5.7.0" in house.mailgate("check", "--connect", code=1)
        house.configure(next_hop='tls = "none"\nusername = "gate"\npassword = "right"')
        assert advice(house, code=0) == ("", "")
    first = HomePeer(tls="starttls", tls_context=context, tls_needed=True)
    with meeting(tmp_path, Pop3Peer(), first) as house:
        assert advice(house)[1] == 'it wants TLS first: set tls = "required"'
        house.home.fault("mail", "reply", code=550, text="5.7.1 the null reverse-path is refused")
        house.configure(next_hop='tls = "required"\ntls_verify = false')
        assert advice(house, code=0)[1] == ""
        assert house.home.ledger == []


def test_a_secret_that_can_t_be_had_is_named_by_its_source(house: Installation) -> None:
    text = house.file.read_text().replace(
        f'password = "{PASSWORD}"', 'password = { env = "NOT_SET_ANYWHERE" }'
    )
    house.file.write_text(text)
    said = house.mailgate("check", "--connect", code=1)
    assert "the environment variable NOT_SET_ANYWHERE is not set" in said


def test_a_store_that_can_t_be_opened_is_bad_news(house: Installation) -> None:
    (house.folder / "mailgate.db").write_text("this is a letter, not a database, " * 99)
    parts = by_kind(house.rows("check", "--connect", code=1))
    assert not parts["store"]["connect"]["ok"]
    assert parts["mailbox"]["connect"]["ok"]


def test_a_database_without_a_store_names_the_command_that_makes_it(
    postgres_url: str, tmp_path: Path
) -> None:
    with installed(tmp_path, postgres_url) as house:
        assert "'mailgate db upgrade' makes one" in house.mailgate("check", "--connect", code=1)
        house.mailgate("db", "upgrade")
        house.mailgate("check", "--connect")


def test_a_configuration_that_can_t_be_used_exits_3(house: Installation) -> None:
    house.configure(more='[[scanner]]\nkind = "clamd"\naddress = "127.0.0.1:3310"\nscl = 5\n')
    assert "scl" in house.mailgate("check", code=3)
    house.configure(mailbox='rmove = "never"')
    assert "remove" in house.mailgate("check", code=3)


def test_no_password_of_the_store_is_printed(house: Installation) -> None:
    for place in (f"gate:{PASSWORD}@127.0.0.1:1/mail?", f"127.0.0.1:1/mail?user=gate&password={PASSWORD}&"):
        house.store_url = f"postgresql://{place}sslpassword={PASSWORD}&sslmode=disable"
        house.configure()
        for words, code in ((("check",), 0), (("check", "--connect"), 1), (("db", "status"), 4)):
            house.mailgate(*words, code=code)  # which looks for it
        (store,) = (row for row in house.rows("check") if row["kind"] == "store")
        assert "sslmode=disable" in store["url"]
        assert "127.0.0.1:1/mail" in store["url"]
    house.store_url = f"postgresql://gate:{PASSWORD}/mail"  # without its host
    house.configure()
    assert "store.url: can't be read" in house.mailgate("db", "status", code=3)


def test_warnings_are_printed_and_do_not_fail(house: Installation) -> None:
    house.configure(mailbox='remove = "never"')
    assert "valid, 1 warning" in house.mailgate("check")
    assert "never" in by_kind(house.rows("check"))["warning"]["text"]


def test_attachment_rules_are_named(house: Installation) -> None:
    rules = 'names = ["*.EXE", "*.js"]\ntypes = ["application/hta"]\n'
    house.configure(more=f'[[scanner]]\nkind = "attachments"\n{rules}')
    assert "names *.exe, *.js, also in zip archives; types application/hta" in house.mailgate("check")
    part = by_kind(house.rows("check"))["scanner"]
    assert (part["names"], part["types"]) == (["*.exe", "*.js"], ["application/hta"])
    house.configure(more=f'[[scanner]]\nkind = "attachments"\narchives = false\n{rules}')
    assert "names *.exe, *.js; types application/hta" in house.mailgate("check")


def test_what_it_cant_run_with_is_one_line_on_stderr(house: Installation) -> None:
    certificate, key = write_certificate_and_key(house.folder)
    key.write_text("nonsense")
    house.configure(more=f'[listen]\ntls_cert = "{certificate}"\ntls_key = "{key}"\n')
    for form in ((), ("--json",)):
        done = subprocess.run(
            house.command("check", *form), capture_output=True, text=True, env=house.environment, check=False
        )
        assert done.returncode == 3
        assert re.fullmatch(r"mailgate: .+: listen\.tls_cert: .+\n", done.stderr)
    assert json.loads(done.stdout.splitlines()[-1])["kind"] == "error"


def test_a_key_that_is_not_there_is_not_taken_for_the_certificate(house: Installation) -> None:
    certificate, _ = write_certificate_and_key(house.folder)
    house.configure(more=f'[listen]\ntls_cert = "{certificate}"\ntls_key = "gone.pem"\n')
    for words in (("check",), ("run",)):
        said = " ".join(house.mailgate(*words, code=3).split())
        assert f"listen.tls_key: {house.folder}/gone.pem can't be read: No such file or directory" in said


def test_listening_is_said_in_words(house: Installation) -> None:
    certificate, key = write_certificate_and_key(house.folder)
    house.configure(
        more=f"""
        [listen]
        address = ["127.0.0.1:2500", "[::1]:2500"]
        inbound = ["192.0.2.0/24"]
        tls_cert = "{certificate}"
        tls_key = "{key}"
        users = {{ exchange = "{PASSWORD}" }}
        """
    )
    said = house.mailgate("check")
    assert "127.0.0.1:2500, [::1]:2500, STARTTLS offered, at most 36.7 MB" in said
    assert "127.0.0.0/8, ::1/128, user exchange may relay" in said
    assert "192.0.2.0/24 may send to our domains" in said
    part = by_kind(house.rows("check"))["listen"]
    assert (part["users"], part["tls"], part["free_space"]) == (["exchange"], True, "10%")


def test_a_gateway_with_another_configuration_is_warned_of(house: Installation) -> None:
    with house.running():
        assert "warning" not in house.mailgate("check")
        house.configure(mailbox='poll_every = "2h"')
        warnings = [row["text"] for row in house.rows("check") if row["kind"] == "warning"]
        assert warnings == ["the gateway that runs was started with another configuration: restart it"]
    assert "warning" not in house.mailgate("check")
