"""The real servers start, do their work, and end: what the other tests build on."""

from __future__ import annotations

import base64
import contextlib
import poplib
import smtplib
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy
from sqlalchemy import exc

from tests.peers.certificates import client_context
from tests.real.dovecot import Dovecot
from tests.real.postfix import Postfix
from tests.real.postgres import Postgres
from tests.real.process import accepts_connections, accepts_connections_at, wait_until

MESSAGE = b"From: ann@example.com\r\nTo: info@example.com\r\nSubject: one\r\n\r\nhello\r\n.dot\r\n"
REPOSITORY = Path(__file__).parents[2]


@contextlib.contextmanager
def logged_in(session: poplib.POP3, user: str = "info", password: str = "secret") -> Iterator[poplib.POP3]:
    session.user(user)
    session.pass_(password)
    try:
        yield session
    finally:
        session.quit()


def read_first(session: poplib.POP3) -> bytes:
    return b"\r\n".join(session.retr(1)[1]) + b"\r\n"


def rows(url: str, statement: str) -> list[tuple[object, ...]]:
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sqlalchemy.text(statement))]


def test_a_database_url_leads_to_a_fresh_empty_database(database_url: str) -> None:
    assert rows(database_url, "select 1") == [(1,)]
    engine = sqlalchemy.create_engine(database_url, poolclass=sqlalchemy.NullPool)
    assert sqlalchemy.inspect(engine).get_table_names() == []
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("create table was_here (n integer)"))
    assert sqlalchemy.inspect(engine).get_table_names() == ["was_here"]


def test_each_database_of_a_server_is_its_own(postgres: Postgres) -> None:
    one, other = postgres.create_database(), postgres.create_database()
    with psycopg.connect(one.replace("+psycopg", "")) as connection:
        connection.execute("create table only_here (n integer)")
    assert rows(one, "select count(*) from only_here") == [(0,)]
    with pytest.raises(exc.ProgrammingError):
        rows(other, "select count(*) from only_here")
    for url in (one, other):
        postgres.drop_database(url)
    with pytest.raises(exc.OperationalError):
        rows(one, "select 1")


def test_postgres_keeps_what_was_committed_when_it_is_killed(start_postgres: Callable[..., Postgres]) -> None:
    server = start_postgres()
    url = server.create_database().replace("+psycopg", "")
    with psycopg.connect(url) as connection:
        connection.execute("create table kept as select 7 as n")
    server.kill()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)
    server.restart()
    with psycopg.connect(url) as connection:
        assert connection.execute("select n from kept").fetchall() == [(7,)]


def test_dovecot_hands_a_message_out_under_stls(dovecot: Dovecot) -> None:
    dovecot.put("info", "first", MESSAGE)
    session = poplib.POP3(dovecot.host, dovecot.port)
    session.stls(client_context())
    with logged_in(session):
        assert session.uidl()[1] == [b"1 first"]
        assert read_first(session) == MESSAGE
        session.dele(1)
    assert dovecot.messages("info") == {}


def test_dovecot_hands_a_message_out_under_implicit_tls(dovecot: Dovecot) -> None:
    dovecot.put("info", "first", MESSAGE)
    line = poplib.POP3_SSL(dovecot.host, dovecot.port_implicit, context=client_context())
    with logged_in(line) as session:
        assert read_first(session) == MESSAGE
    assert dovecot.messages("info") == {"first": MESSAGE}


def test_dovecot_refuses_a_wrong_password(dovecot: Dovecot) -> None:
    session = poplib.POP3(dovecot.host, dovecot.port)
    session.user("info")
    with pytest.raises(poplib.error_proto, match="AUTH"):
        session.pass_("wrong")
    session.quit()


def test_dovecot_does_apop_where_asked(start_dovecot: Callable[..., Dovecot]) -> None:
    dovecot = start_dovecot({"info": "secret"}, apop=True)
    session = poplib.POP3(dovecot.host, dovecot.port)
    assert session.apop("info", "secret").startswith(b"+OK")
    session.quit()


def test_dovecot_takes_a_good_token_and_no_other(start_dovecot: Callable[..., Dovecot]) -> None:
    dovecot = start_dovecot({"info": "secret"}, tokens={"good": "info"})

    def xoauth2(token: str) -> bytes:
        said = base64.b64encode(f"user=info\x01auth=Bearer {token}\x01\x01".encode()).decode()
        with (
            socket.create_connection((dovecot.host, dovecot.port), timeout=30) as line,
            line.makefile("rb") as replies,
        ):
            replies.readline()
            line.sendall(f"AUTH XOAUTH2 {said}\r\n".encode())
            reply = replies.readline()
            if reply.startswith(b"+ "):  # an error in JSON, to be acknowledged with an empty line
                line.sendall(b"\r\n")
                reply = replies.readline()
            return reply

    assert xoauth2("good").startswith(b"+OK")
    assert xoauth2("bad").startswith(b"-ERR")


def test_postfix_delivers_a_copy_for_each_recipient(postfix: Postfix) -> None:
    with smtplib.SMTP(postfix.host, postfix.port, timeout=30) as session:
        session.starttls(context=client_context())
        session.ehlo()
        session.sendmail("ann@example.com", ["info@example.com", "bob@example.org"], MESSAGE)
    copies = postfix.delivered(at_least=2)
    assert len(copies) == 2
    for copy in copies:
        assert copy.endswith(b"\n\nhello\n.dot\n")
    delivered_to = {
        line for copy in copies for line in copy.splitlines() if line.startswith(b"Delivered-To:")
    }
    assert delivered_to == {b"Delivered-To: info@example.com", b"Delivered-To: bob@example.org"}


def test_postfix_refuses_what_it_is_told_to_refuse(start_postfix: Callable[..., Postfix]) -> None:
    postfix = start_postfix(message_size_limit=20_000, refusals={"gone@example.com": "550 5.1.1 moved away"})
    with smtplib.SMTP(postfix.host, postfix.port, timeout=30) as session:
        session.ehlo()
        assert session.esmtp_features["size"] == "20000"
        refused = session.sendmail("ann@example.com", ["info@example.com", "gone@example.com"], MESSAGE)
        assert refused == {
            "gone@example.com": (550, b"5.1.1 <gone@example.com>: Recipient address rejected: moved away")
        }
        with pytest.raises(smtplib.SMTPSenderRefused, match=r"5\.3\.4"):
            session.sendmail("ann@example.com", ["info@example.com"], MESSAGE + b"x" * 20_000)
    assert len(postfix.delivered(at_least=1)) == 1


def test_no_server_outlives_a_killed_test_run(postgres: Postgres) -> None:
    program = """
import sys
from tests.real.postgres import Postgres
server = Postgres().start()
print(server.port, server.folder, flush=True)
sys.stdin.read()
"""
    run = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with run:
        assert run.stdout is not None
        port, folder = run.stdout.readline().split()
        assert accepts_connections(int(port))
        run.kill()
    wait_until(lambda: not Path(folder).exists(), "the server's folder to be removed")
    assert not accepts_connections(int(port))


def test_a_socket_that_is_bound_does_not_accept_yet(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as there:
        there.bind(str(path))
        assert path.exists()
        assert not accepts_connections_at(path)
        there.listen()
        assert accepts_connections_at(path)
    path.unlink()
    assert not accepts_connections_at(path)
