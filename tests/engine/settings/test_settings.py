"""A configuration is found, read as a whole with every default, or refused in one line."""

import socket
from ipaddress import ip_network
from pathlib import Path

import pytest

from engine import settings
from engine.core.verdict import WHATEVER_IS_SPAM
from engine.settings import LOCAL_FILE, SYSTEM_FILE, SettingsError
from engine.settings.next_hop import SPAM_REFUSALS
from tests.engine.settings.configurations import GATEWAY, HOME, MAILBOX, RECIPIENTS, WHOLE, error, loaded


def test_the_given_file_is_taken_before_all_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("given.toml", "environment.toml", "mailgate.toml"):
        (tmp_path / name).touch()
    environ = {"MAILGATE_CONFIG": "environment.toml"}
    assert settings.find("given.toml", environ) == Path("given.toml")
    assert settings.find(None, environ) == Path("environment.toml")
    assert settings.find(None, {"MAILGATE_CONFIG": ""}) == Path("mailgate.toml")


def test_the_system_file_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    system = tmp_path / "etc.toml"
    system.touch()
    monkeypatch.setattr(settings, "SYSTEM_FILE", system)
    assert settings.find(None, {}) == system


def test_a_named_file_that_is_not_there_is_an_error_and_no_other_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mailgate.toml").touch()
    with pytest.raises(SettingsError, match=r"^absent.toml: no such file \(named by --config\)$"):
        settings.find("absent.toml", {})
    with pytest.raises(SettingsError, match=r"^absent.toml: no such file \(named by MAILGATE_CONFIG\)$"):
        settings.find(None, {"MAILGATE_CONFIG": "absent.toml"})


@pytest.mark.parametrize("name", [LOCAL_FILE, SYSTEM_FILE])
def test_a_file_that_is_not_for_us_to_see_is_not_passed_over(
    name: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stat(path: Path) -> None:
        raise PermissionError(13, "Permission denied") if path == name else FileNotFoundError

    monkeypatch.setattr(Path, "stat", stat)
    with pytest.raises(SettingsError, match=f"^{name}: can't be read: Permission denied$"):
        settings.find(None, {})


@pytest.mark.parametrize(("name", "said"), [("x" * 5000, "File name too long"), ("a\0b", "holds a NUL")])
def test_a_name_that_no_file_can_have_is_an_error_of_one_line(name: str, said: str) -> None:
    with pytest.raises(SettingsError, match=f"can't be read: {said}$") as caught:
        settings.find(name, {})
    assert len(str(caught.value)) < 300


def test_without_any_file_the_error_names_the_places_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(settings, "SYSTEM_FILE", tmp_path / "etc.toml")
    with pytest.raises(SettingsError) as caught:
        settings.find(None, {})
    for place in ("--config", "$MAILGATE_CONFIG", "./mailgate.toml", str(tmp_path / "etc.toml")):
        assert place in str(caught.value)


@pytest.mark.parametrize(
    ("written", "scl"),
    [
        ('{ "10.0" = 7, "5" = 5, "-1e1" = -1 }', ((-10.0, -1), (5.0, 5), (10.0, 7))),
        ("6", ((WHATEVER_IS_SPAM, 6),)),
        ("6\nthreshold = 3.0", ((WHATEVER_IS_SPAM, 6),)),
        ("{}", ()),
    ],
)
def test_spam_confidence_levels_go_up_with_the_score_or_are_for_all_spam(
    tmp_path: Path, written: str, scl: tuple[tuple[float, int], ...]
) -> None:
    found = loaded(tmp_path, WHOLE + f'[[scanner]]\nkind = "spamd"\naddress = "h:1"\nscl = {written}\n')
    assert found.scanners[0].scl == scl


@pytest.mark.parametrize(
    ("keys", "scl"),
    [
        ('kind = "spamd"\non_found = "tag"', ((WHATEVER_IS_SPAM, 5),)),
        ('kind = "rspamd"\non_found = "redirect:spam@example.com"', ((WHATEVER_IS_SPAM, 5),)),
        ('kind = "spamd"\non_found = "quarantine"', ()),
        ('kind = "clamd"\non_found = "tag"', ()),
    ],
)
def test_spam_that_goes_on_has_a_confidence_level_unless_told_otherwise(
    tmp_path: Path, keys: str, scl: tuple[tuple[float, int], ...]
) -> None:
    found = loaded(tmp_path, WHOLE + f'[[scanner]]\naddress = "h:1"\n{keys}\n')
    assert found.scanners[0].scl == scl


def test_refusals_as_spam_have_defaults_and_may_be_none(tmp_path: Path) -> None:
    assert loaded(tmp_path, WHOLE).next_hops["home"].spam_refusals == SPAM_REFUSALS
    assert loaded(tmp_path, WHOLE + "spam_refusals = []\n").next_hops["home"].spam_refusals == ()


def test_a_short_file_gets_every_default(tmp_path: Path) -> None:
    found = loaded(tmp_path, WHOLE)
    mailbox, hop = found.mailboxes[0], found.next_hops["home"]
    assert found.path == tmp_path / "mailgate.toml"
    assert found.store.url == f"sqlite:///{tmp_path}/mailgate.db"
    assert found.store.in_flight == 256 << 20
    assert found.gateway.connections_per_host == 10
    assert (mailbox.port, mailbox.tls, mailbox.tls_verify) == (995, "implicit", True)
    assert (mailbox.auth, mailbox.poll_every, mailbox.oversize) == ("auto", 60.0, "notify")
    assert mailbox.remove == settings.Remove(when="delivered")
    assert (hop.name, hop.port, hop.tls, hop.tls_verify) == ("home", 25, "opportunistic", False)
    assert (hop.connections, hop.messages_per_connection, hop.on_unknown) == (4, 100, "retry")
    assert found.listen is None
    assert found.scanners == ()
    assert found.retry == settings.Retry()
    assert found.retry.give_up_after_seconds == 432000.0
    assert found.retention.contents_seconds == 2592000.0


def test_everything_that_is_written_arrives(tmp_path: Path) -> None:
    found = loaded(
        tmp_path,
        GATEWAY
        + MAILBOX
        + """
        port = 1100
        tls = "starttls"
        tls_fingerprint = "SHA256:AB:cd%s"
        poll_every = "5m"
        multidrop = { headers = ["X-Envelope-To", "Delivered-To"], strip_prefix = "mbox-", occurrence = -1 }
        fallback = "Office@EXAMPLE.com"
        remove = "14d"
        oversize = "remove"
        max_size = "35 MB"
        """
        % ("00" * 30)
        + """
        [next_hop.home]
        host = "::1"
        tls = "implicit"
        username = "gate"
        password = { env = "HOME_PASSWORD" }
        max_size = "10MiB"
        on_unknown = "hold"
        [[route]]
        recipients = ["*@Example.com"]
        senders = ["<>"]
        users = ["Alice*"]
        next_hop = "home"
        [listen]
        address = ["127.0.0.1:2500", "[::1]:2500"]
        allow = ["192.168.1.0/24", "10.0.0.7"]
        inbound = ["192.0.2.0/24"]
        users = { alice = { env = "ALICE" }, bob = "hunter2" }
        senders = { alice = ["Alice@Example.com"], "192.168.1.128/25" = ["*@example.com", "<>"] }
        connections_per_address = 20
        free_space = "5 %"
        tls_cert = "cert.pem"
        tls_key = "/etc/key.pem"
        [[scanner]]
        kind = "clamd"
        address = "unix:clamd.ctl"
        [[scanner]]
        kind = "rspamd"
        address = "scan.example.com:11333"
        threshold = 5
        on_error = "pass"
        [retry]
        first = "90s"
        [retention]
        contents = "0s"
        """,
    )
    mailbox, hop, route = found.mailboxes[0], found.next_hops["home"], found.routes[0]
    assert (mailbox.port, mailbox.poll_every, mailbox.max_size) == (1100, 300.0, 35_000_000)
    assert mailbox.tls_fingerprint == "sha256:abcd" + "00" * 30
    assert mailbox.multidrop == settings.Multidrop(
        headers=("X-Envelope-To", "Delivered-To"),
        domains=("example.com",),
        strip_prefix="mbox-",
        occurrence=-1,
    )
    assert mailbox.fallback == "Office@example.com"
    assert mailbox.remove == settings.Remove(when="after", after_seconds=14 * 86400.0)
    assert (hop.host, hop.port, hop.tls_verify, hop.max_size) == ("::1", 465, True, 10 << 20)
    assert (route.recipients, route.senders, route.users) == (("*@example.com",), ("<>",), ("alice*",))
    assert found.listen is not None
    assert found.listen.addresses == (
        settings.TcpAddress(host="127.0.0.1", port=2500),
        settings.TcpAddress(host="::1", port=2500),
    )
    assert found.listen.allow == (ip_network("192.168.1.0/24"), ip_network("10.0.0.7"))
    assert found.listen.inbound == (ip_network("192.0.2.0/24"),)
    assert found.listen.senders == {
        "alice": ("alice@example.com",),
        ip_network("192.168.1.128/25"): ("*@example.com", "<>"),
    }
    assert found.listen.connections_per_address == 20
    assert found.listen.free_space.octets_of(1_000) == 50
    assert list(found.listen.users) == ["alice", "bob"]
    assert (found.listen.tls_cert, found.listen.tls_key) == (tmp_path / "cert.pem", Path("/etc/key.pem"))
    assert found.scanners[0].address == settings.UnixAddress(socket_path=tmp_path / "clamd.ctl")
    assert [scanner.on_found for scanner in found.scanners] == ["quarantine", "tag"]
    assert found.scanners[1].threshold == 5.0
    assert found.retry.first_seconds == 90.0
    assert found.retention.contents_seconds == 0.0


@pytest.mark.parametrize(("tls", "port"), [("implicit", 995), ("starttls", 110), ("none", 110)])
def test_a_mailbox_port_follows_from_its_tls(tmp_path: Path, tls: str, port: int) -> None:
    found = loaded(tmp_path, GATEWAY + MAILBOX + RECIPIENTS + f'tls = "{tls}"\n' + HOME)
    assert found.mailboxes[0].port == port


@pytest.mark.parametrize(
    ("keys", "verified"),
    [
        ('tls = "required"', True),
        ('tls = "implicit"', True),
        ('tls = "opportunistic"', False),
        ('tls = "opportunistic"\ntls_ca = "ca.pem"', True),
        ('tls = "opportunistic"\ntls_verify = true', True),
        (f'tls = "opportunistic"\ntls_fingerprint = "sha256:{"0" * 64}"', True),
        ('tls = "required"\ntls_verify = false', False),
    ],
)
def test_a_next_hop_is_verified_unless_tls_is_opportunistic(
    tmp_path: Path, keys: str, verified: bool
) -> None:
    assert loaded(tmp_path, WHOLE + keys + "\n").next_hops["home"].tls_verify is verified


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("sqlite:///mail.db", "sqlite:///{folder}/mail.db"),
        ("sqlite:///../mail.db", "sqlite:///{parent}/mail.db"),
        ("sqlite+pysqlite:///mail.db", "sqlite:///{folder}/mail.db"),
        ("sqlite:////var/lib/mail.db", "sqlite:////var/lib/mail.db"),
        ("postgresql://u@h/d", "postgresql+psycopg://u@h/d"),
        ("postgres:///d?host=/run", "postgresql+psycopg:///d?host=/run"),
        ("postgres://u@[::1]:5433/d?sslmode=require", "postgresql+psycopg://u@[::1]:5433/d?sslmode=require"),
        ("postgresql+psycopg://u:hunter2@h/d", "postgresql+psycopg://u:hunter2@h/d"),
    ],
)
def test_a_store_url_is_made_ready_for_use(tmp_path: Path, written: str, url: str) -> None:
    found = loaded(tmp_path, WHOLE + f'[store]\nurl = "{written}"\n')
    assert found.store.url == url.format(folder=tmp_path, parent=tmp_path.parent)
    assert "hunter2" not in repr(found)


def test_the_folder_is_that_of_the_file_and_not_the_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "mailgate.toml").write_text(WHOLE)
    monkeypatch.chdir(tmp_path)
    found = settings.load(Path("etc/mailgate.toml"))
    assert found.path == tmp_path / "etc" / "mailgate.toml"
    assert found.store.url == f"sqlite:///{tmp_path}/etc/mailgate.db"


def test_without_a_host_name_the_machine_s_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "Gate7.example.net")
    text = WHOLE.replace('hostname = "gate.example.com"\n', "")
    assert loaded(tmp_path, text).gateway.hostname == "gate7.example.net"
    monkeypatch.setattr(socket, "gethostname", lambda: "my_box.example.net")
    assert error(tmp_path, text) == (
        "line 1: gateway.hostname: is missing, and the machine's name 'my_box.example.net' is no domain"
    )


def test_the_postmaster_of_the_first_domain_is_the_default(tmp_path: Path) -> None:
    text = WHOLE.replace('postmaster = "postmaster@example.com"\n', "")
    assert loaded(tmp_path, text).gateway.postmaster == "postmaster@example.com"


def test_a_file_with_a_byte_order_mark_and_crlf_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mailgate.toml"
    path.write_bytes(b"\xef\xbb\xbf" + WHOLE.replace("\n", "\r\n").encode())
    assert settings.load(path).mailboxes[0].name == "info"


@pytest.mark.parametrize(
    ("octets", "said"),
    [
        (b"a = 1\nb = = 2\n", "line 2: not valid TOML: Invalid value (column 5)"),
        (b'a = 1\nb = ["x"', "not valid TOML: Unclosed array, at the end of the file"),
        (b"a = 1\nb = 2\na = 3\n", "line 3: not valid TOML: a is given already (column 6)"),
        (b'a = 1\nb = "\xff"\n', "line 2: is not UTF-8 text"),
        (
            b"[mailbox]\n[mailbox]\n",
            "line 2: not valid TOML: [mailbox] is given already: write [[mailbox]] each",
        ),
        (
            b"[mailbox]\n[[mailbox]]\n",
            "line 2: not valid TOML: [[mailbox]] is given already: write [[mailbox]] each",
        ),
        (b"[store]\n[store] # again\n", "line 2: not valid TOML: [store] is given already (column 7)"),
        (b"a = { b = 1, b = 2 }", "line 1: not valid TOML: b is given already"),
        (b"a = " + b"9" * 5000, "not valid TOML: an integer has too many digits"),
        (b"a = " + b"[" * 100_000, "not valid TOML: lists or tables are nested too deeply"),
        (b"#" * (4 << 20) + b"#", "is longer than 4194304 octets: is it a configuration?"),
    ],
)
def test_what_is_no_toml_is_refused_with_its_line(tmp_path: Path, octets: bytes, said: str) -> None:
    path = tmp_path / "mailgate.toml"
    path.write_bytes(octets)
    with pytest.raises(SettingsError) as caught:
        settings.load(path)
    assert str(caught.value).startswith(f"{path}: {said}")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="can't be read: Is a directory"):
        settings.load(tmp_path)


def test_a_route_to_mx_needs_no_table_and_takes_its_defaults(tmp_path: Path) -> None:
    hop = loaded(tmp_path, WHOLE + '[[route]]\nrecipients = ["*"]\nnext_hop = "mx"\n').next_hops["mx"]
    assert (hop.host, hop.port, hop.tls, hop.tls_verify) == ("", 25, "opportunistic", False)
    assert hop.nameservers == ()


def test_without_a_route_to_mx_there_is_no_direct_delivery(tmp_path: Path) -> None:
    assert "mx" not in loaded(tmp_path, WHOLE).next_hops


def test_direct_delivery_has_its_own_settings(tmp_path: Path) -> None:
    table = '[next_hop.mx]\nport = 2525\ntls = "required"\nconnections = 2\nnameservers = ["192.0.2.53", "[::1]:5353"]\n'
    hop = loaded(tmp_path, WHOLE + table).next_hops["mx"]
    assert (hop.port, hop.tls, hop.tls_verify, hop.connections) == (2525, "required", True, 2)
    assert [(one.host, one.port) for one in hop.nameservers] == [("192.0.2.53", 53), ("::1", 5353)]


def test_which_name_servers_are_asked_is_no_policy(tmp_path: Path) -> None:
    table = "[next_hop.mx]\n"
    one = loaded(tmp_path, WHOLE + table).policy_version
    assert loaded(tmp_path, WHOLE + table + 'nameservers = ["192.0.2.53"]\n').policy_version == one
