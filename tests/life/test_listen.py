"""Mail that is submitted, from EHLO to the smart host: the real gateway as a process, real clients, both databases."""

from __future__ import annotations

import os
import signal
import smtplib
import socket
import ssl
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.wire.test_smtp_data import SMUGGLED
from tests.life.house import House, house, mail
from tests.life.submitting import (
    FOREIGN,
    SENDER,
    ask,
    letter,
    listens,
    logged_in,
    port_of,
    sent,
    submit,
    submitting,
    transaction,
)
from tests.peers.certificates import client_context, write_certificate_and_key
from tests.peers.raw import RawClient
from tests.processes import children, environment

PASSWORD = "correct horse"


@pytest.fixture
def opened(tmp_path: Path, database_url: str) -> Iterator[House]:
    with house(tmp_path, database_url) as opened:
        opened.make_store()
        listens(opened)
        yield opened


@pytest.fixture
def lite(tmp_path: Path, sqlite_url: str) -> Iterator[House]:
    with house(tmp_path, sqlite_url) as opened:
        listens(opened)
        yield opened


def secure(opened: House, **keys: object) -> ssl.SSLContext:
    """Let a house offer TLS, and one user; returns the context of a client that trusts it."""
    certificate, key = write_certificate_and_key(opened.folder)
    keys = {"users": {"exchange": PASSWORD}} | keys
    listens(opened, tls_cert=str(certificate), tls_key=str(key), **keys)
    return client_context()


def test_postmaster_alone_is_the_one_of_the_configuration(lite: House) -> None:
    listens(lite, max_size=1_000)
    with submitting(lite) as (gateway, port):
        assert submit(port, letter(1), ["postmaster", "bob@customer.example"]).startswith("250 ")
        assert submit(port, letter(2), ["PostMaster"]).startswith("250 ")
        assert submit(port, letter(3, 5_000), ["postmaster"]).startswith("552 ")
        lite.home.wait_until(lambda: len(lite.home.ledger) == 2)
        assert gateway.stop() == 0
    taken = [one.recipients for one in lite.home.ledger]
    assert taken[0] == ("postmaster@example.com", "bob@customer.example")
    [refused] = lite.json("list", "--state", "rejected-oversize")
    assert [one["address"] for one in refused["recipients"]] == ["postmaster@example.com"]


def test_what_is_submitted_arrives_and_its_life_is_told(opened: House) -> None:
    with submitting(opened) as (gateway, port):
        reply = submit(port, letter(1))
        assert reply.startswith("250 2.0.0 Ok: kept as ")
        opened.home.wait_until(lambda: opened.home.ledger)
        submit(port, letter(2), ["info@example.com"], sender="")
        opened.home.wait_until(lambda: len(opened.home.ledger) == 2)
        assert gateway.stop() == 0
    assert sent(opened) == Counter([letter(1), letter(2)])
    first, second = opened.home.ledger
    assert (first.reverse_path, first.recipients) == (SENDER, (FOREIGN,))
    assert (second.reverse_path, second.recipients) == ("", ("info@example.com",))
    outbound, inbound = (opened.json("list", "--direction", way) for way in ("outbound", "inbound"))
    assert [row["id"] for row in outbound] == [reply.split()[-1]]
    assert (outbound[0]["state"], inbound[0]["state"]) == ("relayed", "delivered")
    assert outbound[0]["reverse_path"] == SENDER
    assert opened.problems() == []


def test_listening_alone_keeps_what_comes_and_another_process_works(opened: House) -> None:
    with submitting(opened, "--only", "listen") as (gateway, port):
        submit(port, letter(1))
        assert gateway.stop() == 0
    assert opened.home.sessions == []
    assert opened.run("run", "--once", "--only", "work").returncode == 0
    assert sent(opened) == Counter([letter(1)])


def test_many_messages_go_through_one_connection_and_pipelined_ones_too(lite: House) -> None:
    with submitting(lite) as (gateway, port), RawClient(port) as client:
        for number in range(20):
            assert transaction(client, letter(number), hello=number == 0).startswith(b"250 ")
        whole = b""
        for number in range(20, 25):
            whole += b"MAIL FROM:<%s>\r\nRCPT TO:<%s>\r\nDATA\r\n" % (SENDER.encode(), FOREIGN.encode())
            whole += letter(number).replace(b"\r\n.", b"\r\n..") + b".\r\n"
        client.say(whole + b"QUIT\r\n")
        replies = client.rest().split(b"\r\n")
        assert [r[:3] for r in replies] == [*[b"250", b"250", b"354", b"250"] * 5, b"221", b""]
        lite.home.wait_until(lambda: len(lite.home.ledger) == 25)
        assert gateway.stop() == 0
    assert sent(lite) == Counter(letter(number) for number in range(25))


def test_nothing_can_be_smuggled_through(lite: House) -> None:
    evil = b"MAIL FROM:<evil@example.com>\r\nRCPT TO:<victim@example.com>\r\nDATA\r\nFrom: evil\r\n"
    contents = [b"Subject: (%d)\r\n\r\nfirst" % n + variant + evil for n, variant in enumerate(SMUGGLED)]
    with submitting(lite) as (gateway, port):
        for content in contents:
            with RawClient(port) as client:
                client.reply()
                client.say(b"EHLO a.example\r\nMAIL FROM:<%s>\r\n" % SENDER.encode())
                client.say(b"RCPT TO:<%s>\r\nDATA\r\n" % FOREIGN.encode())
                client.until(b"354")
                client.line()
                client.say(content + b".\r\nQUIT\r\n")
                assert client.reply().startswith(b"250 2.0.0 Ok: kept as ")
                assert client.reply().startswith(b"221 ")
        lite.home.wait_until(lambda: len(lite.home.ledger) == len(contents))
        assert gateway.stop() == 0
    assert {taken.recipients for taken in lite.home.ledger} == {(FOREIGN,)}
    assert all(not taken.has_bare_line_endings for taken in lite.home.ledger)
    for content in contents:
        (kept,) = (taken for taken in lite.home.ledger if content.splitlines()[0] in taken.octets)
        assert b"victim@example.com" in kept.octets


def test_the_process_that_listens_has_of_the_environment_what_its_users_take(lite: House) -> None:
    lite.environment = {"USER_PASSWORD": PASSWORD, "INFO_PASSWORD": "another"}
    for source, knows in (({"env": "USER_PASSWORD"}, False), ({"command": "printenv USER_PASSWORD"}, True)):
        context = secure(lite, users={"exchange": source})
        with submitting(lite) as (gateway, port):
            with logged_in(port, "exchange", PASSWORD, context) as session:
                session.noop()
            (porter,) = children(gateway.process.pid)
            assert (b"INFO_PASSWORD" in environment(porter)) == knows
            assert gateway.stop() == 0


def test_users_log_in_under_tls_and_relay_from_anywhere(lite: House) -> None:
    context = secure(lite, allow=[])
    with submitting(lite) as (gateway, port):
        with logged_in(port, "exchange", PASSWORD, context) as session:
            session.sendmail(SENDER, FOREIGN, letter(1))
        for name, password in (("exchange", "wrong"), ("nobody", PASSWORD)):
            with (
                pytest.raises(smtplib.SMTPAuthenticationError, match=r"5\.7\.8"),
                logged_in(port, name, password, context),
            ):
                pass
        with smtplib.SMTP("127.0.0.1", port) as plain:
            plain.ehlo()
            assert "auth" not in plain.esmtp_features
            assert plain.docmd("AUTH", "PLAIN AGEAYg==")[0] == 538
            plain.mail(SENDER)
            assert plain.rcpt(FOREIGN)[0] == 550
        lite.home.wait_until(lambda: lite.home.ledger)
        assert gateway.stop() == 0
        assert PASSWORD not in gateway.log
    assert sent(lite) == Counter([letter(1)])
    assert b"with ESMTPSA id" in lite.home.ledger[0].octets.replace(b"\r\n\t", b" ")
    (message,) = lite.json("list")
    shown = lite.json("show", message["id"])[0]["events"][0]
    assert shown["personal"]["user"] == "exchange"
    assert shown["data"]["tls"].startswith("TLSv1.3 ")


def test_plaintext_injected_before_tls_is_gone(lite: House) -> None:
    context = secure(lite)
    with submitting(lite) as (gateway, port), RawClient(port) as client:
        client.reply()
        ask(client, b"EHLO before.example")
        client.say(b"STARTTLS\r\nEHLO evil.example\r\nMAIL FROM:<evil@example.com>\r\n")
        assert client.reply().startswith(b"220 2.0.0")
        client.start_tls(context)
        assert ask(client, b"MAIL FROM:<%s>" % SENDER.encode()).startswith(b"503 5.5.1")  # nobody said EHLO
        assert b"STARTTLS" not in ask(client, b"EHLO after.example")
        assert transaction(client, letter(1)).startswith(b"250 ")
        lite.home.wait_until(lambda: lite.home.ledger)
        assert gateway.stop() == 0
    assert b"from after.example" in lite.home.ledger[0].octets
    assert lite.home.ledger[0].reverse_path == SENDER


def test_wishes_for_reports_are_kept(lite: House) -> None:
    with submitting(lite) as (gateway, port), smtplib.SMTP("127.0.0.1", port) as session:
        session.ehlo()
        assert {"size", "pipelining", "8bitmime", "smtputf8", "enhancedstatuscodes", "dsn"} <= set(
            session.esmtp_features
        )
        assert "starttls" not in session.esmtp_features
        session.sendmail(
            SENDER,
            FOREIGN,
            letter(1),
            mail_options=["RET=HDRS", "ENVID=a+2Bb"],
            rcpt_options=["NOTIFY=SUCCESS,DELAY", "ORCPT=rfc822;bob+40customer.example"],
        )
        session.quit()
        assert gateway.stop() == 0
    (message,) = lite.json("list", "--direction", "outbound")
    opening = lite.json("show", message["id"])[0]["events"][0]
    assert opening["data"]["ret"] == "HDRS"
    assert opening["data"]["notify"] == ["SUCCESS,DELAY"]
    assert opening["personal"]["envid"] == "a+2Bb"
    assert opening["personal"]["orcpt"] == ["rfc822;bob+40customer.example"]


def test_below_the_floor_new_mail_is_refused_and_the_log_and_check_say_so(lite: House) -> None:
    listens(lite, free_space="1000000GB")
    with submitting(lite) as (gateway, port), RawClient(port) as client:
        client.reply()
        ask(client, b"EHLO a.example")
        for _ in range(3):
            assert ask(client, b"MAIL FROM:<>").startswith(b"452 4.3.1 ")
        assert ask(client, b"NOOP").startswith(b"250 ")
        assert gateway.stop() == 0
        assert gateway.log.count("new mail is refused") == 1
    checked = lite.run("check")
    assert checked.returncode == 1
    assert "new mail is refused" in checked.stdout


def test_an_address_that_is_taken_is_one_clear_line(lite: House) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        listens(lite, address=address)
        failed = lite.run("run")
    assert failed.returncode == 3
    assert failed.stderr.splitlines()[-1].endswith(
        f"listen.address: can't listen on {address}: address already in use"
    )


def test_where_the_process_that_listens_is_killed_at_its_start_a_service_manager_tries_again(
    lite: House,
) -> None:
    process = lite.start("run")
    porter: list[int] = []
    while process.poll() is None and not porter:
        porter = children(process.pid, doing=b"engine.porter")
    os.kill(porter[0], signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1  # 2 and 3 are final: what is wrong is wrong the next time, too
    assert err.splitlines()[-1] == "mailgate: the process that listens ended at its start"


def test_a_certificate_that_is_none_is_an_error_at_start_and_in_check(lite: House) -> None:
    secure(lite)
    (lite.folder / "peer-key.pem").write_text("nonsense")
    for command in ("run", "check"):
        failed = lite.run(command)
        assert failed.returncode == 3
        said = " ".join((failed.stdout + failed.stderr).split())
        assert "listen.tls_cert: " in said
        assert "are no certificate and its key: not PEM, or the key has a password" in said


def test_several_addresses_and_ipv6(lite: House) -> None:
    if not socket.has_ipv6:
        listens(lite, address=["127.0.0.1:0", "127.0.0.2:0"])
    else:
        listens(lite, address=["127.0.0.1:0", "[::1]:0"], allow=["::1/128"])
    with submitting(lite) as (gateway, port):
        gateway.says("listening on ", 2)
        with RawClient(port) as stranger:
            stranger.reply()
            ask(stranger, b"EHLO a.example")
            ask(stranger, b"MAIL FROM:<a@b.example>")
            assert ask(stranger, b"RCPT TO:<%s>" % FOREIGN.encode()).startswith(b"550 5.7.1 Relaying denied")
        six = int(gateway.log.partition("[::1]:")[2].split()[0])
        with smtplib.SMTP("::1", six) as session:
            session.sendmail(SENDER, FOREIGN, letter(1))
        assert gateway.stop() == 0
    (message,) = lite.json("list")
    assert lite.json("show", message["id"])[0]["events"][0]["personal"]["peer"] == "::1"


def test_going_down_lets_a_transaction_finish_and_takes_no_other(lite: House) -> None:
    with submitting(lite) as (gateway, port), RawClient(port) as busy, RawClient(port) as quiet:
        for client in (busy, quiet):
            client.reply()
            ask(client, b"EHLO a.example")
        ask(busy, b"MAIL FROM:<%s>" % SENDER.encode())
        ask(busy, b"RCPT TO:<%s>" % FOREIGN.encode())
        ask(busy, b"DATA")
        for pid in (*children(gateway.process.pid), gateway.process.pid):
            os.kill(pid, signal.SIGTERM)  # as a service manager does, to all there are
        assert quiet.reply().startswith(b"421 4.3.2 ")
        busy.say(letter(1).replace(b"\r\n.", b"\r\n..") + b".\r\n")
        assert busy.reply().startswith(b"250 2.0.0 Ok: kept as ")
        assert busy.reply().startswith(b"421 4.3.2 ")
        assert gateway.ended() == 0
    assert lite.run("run", "--once").returncode == 0
    assert sent(lite) == Counter([letter(1)])


@pytest.mark.parametrize("kept_open", [True, False])
def test_postfix_s_own_client_is_served(lite: House, smtp_source: str, kept_open: bool) -> None:
    with submitting(lite) as (gateway, port):
        command = [smtp_source, "-s", "10", "-m", "200", "-l", "4096", "-f", SENDER, "-t", FOREIGN]
        command += ["-d"] if kept_open else []
        done = subprocess.run([*command, f"127.0.0.1:{port}"], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        lite.home.wait_until(lambda: len(lite.home.ledger) == 200)
        assert gateway.stop() == 0
    assert len(lite.home.ledger) == 200
    assert lite.problems() == []


def test_a_restart_finds_the_same_port_free(lite: House) -> None:
    with submitting(lite) as (gateway, port):
        with RawClient(port) as client:
            transaction(client, letter(1), hello=True)
        gateway.kill()
    listens(lite, address=f"127.0.0.1:{port}")
    with submitting(lite) as (gateway, again):
        assert port_of(gateway) == again == port
        submit(port, letter(2))
        lite.home.wait_until(lambda: len(lite.home.ledger) == 2)
        assert gateway.stop() == 0
    assert sent(lite) == Counter([letter(1), letter(2)])


def test_what_is_too_large_to_be_taken_is_on_record_with_its_client(opened: House) -> None:
    listens(opened, max_size="20kB")
    with submitting(opened) as (gateway, port):
        assert submit(port, letter(1, 30_000)).startswith("552 5.3.4")
        with RawClient(port) as client:
            client.reply()
            ask(client, b"EHLO a.example")
            assert ask(client, b"MAIL FROM:<anna@example.com> SIZE=9000000").startswith(b"552 5.3.4")
        assert submit(port, letter(2)).startswith("250")
        opened.home.wait_until(lambda: sent(opened)[letter(2)])
        assert gateway.stop() == 0
    at_mail, at_the_end = opened.json("list", "--state", "rejected-oversize")
    assert (at_mail["size_octets"], at_mail["recipients"]) == (9_000_000, [])
    assert (at_the_end["direction"], at_the_end["subject"]) == ("outbound", "letter 1")
    assert [one["address"] for one in at_the_end["recipients"]] == [FOREIGN]
    told = " ".join(opened.run("show", at_the_end["id"]).stdout.split())
    assert "and the listener takes 20.0 kB at most; 127.0.0.1 (home.example) was told" in told
    assert "its client was told so and has it still" in told
    again = opened.run("replay", at_the_end["id"])
    assert (again.returncode, "its client was told that it is too large" in again.stdout) == (1, True)
    assert not opened.problems()
    assert opened.run("db", "rebuild").returncode == 0
    assert len(opened.json("list", "--state", "rejected-oversize")) == 2


def test_where_subjects_are_not_to_be_recorded_none_is_by_whatever_door_it_came(lite: House) -> None:
    lite.store = {"subjects": False}
    lite.mailbox = {"max_size": 2000}
    listens(lite, max_size=3000)
    lite.provider.put("info", mail(4711))
    lite.provider.put("info", mail(4712, 2500))
    lite.provider.put("info", b"From: x@y.example\r\n\r\nwithout one\r\n")
    (lite.folder / "a.eml").write_bytes(mail(4713))
    with submitting(lite) as (gateway, port):
        assert submit(port, letter(4714)).startswith("250 ")
        assert submit(port, letter(4715, 3500)).startswith("552 ")
        assert lite.run("import", "a.eml", "--recipients", "info@example.com").returncode == 0
        lite.home.wait_until(lambda: len(lite.home.ledger) == 5)  # with the notice
        gateway.stop()
    rows = lite.json("list", "--limit", "0")
    told = Counter(row["subject"] for row in rows)
    assert told == {
        "(not recorded)": 5,
        None: 1,
        "Message too large: (not recorded)": 1,
    }
    log = lite.run("events", "--limit", "0", "--json").stdout
    assert not any(f"{word} {number}" in log for word in ("number", "letter") for number in range(4711, 4716))
    assert any(b"Subject: number 4711\r\n" in taken.octets for taken in lite.home.ledger)
