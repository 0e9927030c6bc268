"""What is legal but doubtful is said, and what is sound is not."""

from pathlib import Path

import pytest

from engine import settings
from tests.engine.settings.configurations import GATEWAY, HOME, WHOLE, loaded


@pytest.mark.parametrize(
    ("old", "new", "doubts"),
    [
        ("", "", []),
        ("gate.example.com", "gate", ["gateway.hostname: gate is no full name"]),
        ("recipients", 'tls = "none"\nrecipients', ["mailbox 'info': tls = \"none\""]),
        ("recipients", "tls_verify = false\nrecipients", ["mailbox 'info': tls_verify = false"]),
        ("recipients", 'remove = "never"\nrecipients', ["mailbox 'info': remove = \"never\""]),
        ("recipients", 'remove = "downloaded"\nrecipients', ["mailbox 'info': remove = \"downloaded\""]),
        ("recipients", 'remove = "4d"\nrecipients', ["mailbox 'info': remove: may delete before"]),
        ("recipients", 'remove = "5d"\nrecipients', []),
        ("recipients", 'poll_every = "9s"\nrecipients', ["mailbox 'info': poll_every: many providers lock"]),
        ("info@example.com", "info@other.example", ["mailbox 'info': info@other.example: no route"]),
        (
            "recipients",
            'fallback = "a@other.example"\nrecipients',
            ["mailbox 'info': a@other.example: no rou"],
        ),
        ("recipients", 'tls_ca = "absent.pem"\nrecipients', ["mailbox 'info': tls_ca: no such file"]),
        ('"hunter2"', '{ file = "absent" }', ["mailbox 'info': password: no such file"]),
        (
            '"hunter2"',
            '{ env = "ABSENT" }',
            ["mailbox 'info': password: the environment variable ABSENT is not set here"],
        ),
        ('"hunter2"', '{ env = "S" }', []),
        ("[next_hop.home]", '[next_hop.home]\ntls = "none"', ['next_hop.home: tls = "none"']),
        (
            "[next_hop.home]",
            '[next_hop.home]\ntls = "required"\ntls_verify = false',
            ["next_hop.home: tls_verify = false"],
        ),
        (
            "[next_hop.home]",
            '[next_hop.home]\nusername = "u"\npassword = { env = "P" }',
            ['next_hop.home: tls = "opportunistic" with a password: any certificate is accepted'],
        ),
        (
            "[next_hop.home]",
            '[next_hop.home]\ntls_verify = true\nusername = "u"\npassword = { env = "P" }',
            [],
        ),
        (
            "[next_hop.home]",
            "[listen]\nmax_recipients = 99\n[next_hop.home]",
            ["listen.max_recipients: clients"],
        ),
        ("[next_hop.home]", "[listen]\nmax_recipients = 100\n[next_hop.home]", []),
        ("[next_hop.home]", '[next_hop.home]\non_unknown = "hold"', ["next_hop.home: on_unknown ="]),
        (
            "[next_hop",
            '[[scanner]]\nkind = "clamd"\naddress = "h:1"\non_found = "tag"\non_error = "pass"\n[next_hop',
            ["scanner[1]: on_error", "scanner[1]: on_found"],
        ),
        (
            "[next_hop",
            '[[scanner]]\nkind = "attachments"\nnames = ["*.exe"]\non_found = "tag"\n[next_hop',
            ['scanner[1]: on_found = "tag": what is found is delivered'],
        ),
        ("[next_hop", '[[scanner]]\nkind = "attachments"\nnames = ["*.exe"]\n[next_hop', []),
        (
            "[next_hop",
            '[[scanner]]\nkind = "spamd"\naddress = "h:1"\non_found = "pass"\n[next_hop',
            ['scanner[1]: on_found = "pass": nothing follows from what it says, and yet mail waits for it'],
        ),
        (
            "[next_hop",
            '[[scanner]]\nkind = "clamd"\naddress = "h:1"\non_found = "pass"\non_error = "pass"\n[next_hop',
            ["scanner[1]: on_error", 'scanner[1]: on_found = "pass": infected mail is delivered'],
        ),
        (
            'domains = ["example.com"]',
            'domains = ["other.example"]\n[[route]]\nrecipients = ["*@x.example"]\nnext_hop = "home"',
            ["mailbox 'info': info@example.com: no route"],
        ),
        (
            'domains = ["example.com"]',
            'domains = ["other.example"]\n[[route]]\nusers = ["a"]\nnext_hop = "home"',
            ["mailbox 'info': info@example.com: no route"],
        ),
        ("[next_hop", '[[route]]\nusers = ["a"]\nnext_hop = "home"\n[next_hop', []),
        ("[next_hop", '[[route]]\nrecipients = ["*"]\nnext_hop = "mx"\n[next_hop', []),
        (
            "[next_hop",
            '[[route]]\nrecipients = ["*"]\nnext_hop = "out"\n[next_hop.out]\nhost = "a.example"\n[next_hop',
            [
                "route[1]: takes mail for our own example.com too: where that should go home, put one before it"
            ],
        ),
        (
            "[next_hop",
            '[[route]]\nrecipients = ["*@example.com"]\nnext_hop = "home"\n[[route]]\nrecipients = ["*"]\n'
            'next_hop = "out"\n[next_hop.out]\nhost = "a.example"\n[next_hop',
            [],
        ),
        ("[next_hop", '[[route]]\nsenders = ["*"]\nnext_hop = "home"\n[next_hop', []),
        ("[next_hop", '[[webhook]]\nurl = "https://a.example"\nsecret = { env = "S" }\n[next_hop', []),
        ("[next_hop", '[[webhook]]\nurl = "http://[::1]:8080"\nsecret = { env = "S" }\n[next_hop', []),
        (
            "[next_hop",
            '[[webhook]]\nurl = "http://a.example"\nsecret = "short"\n[next_hop',
            ["webhook 'webhook': url: addresses and subjects", "webhook 'webhook': secret: is short enough"],
        ),
        (
            "[next_hop",
            '[[webhook]]\nurl = "https://a.example"\nsecret = { file = "absent" }\ntls_ca = "gone.pem"\n[next_hop',
            ["webhook 'webhook': tls_ca: no such file", "webhook 'webhook': secret: no such file"],
        ),
    ],
)
def test_what_is_legal_but_doubtful_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, doubts: list[str]
) -> None:
    for name in ("P", "S"):
        monkeypatch.setenv(name, "hunter2")
    monkeypatch.delenv("ABSENT", raising=False)
    found = loaded(tmp_path, WHOLE.replace(old, new, 1))
    found.path.chmod(0o600)
    warned = settings.warnings(found)
    assert len(warned) == len(doubts), warned
    for warning, doubt in zip(warned, doubts, strict=True):
        assert warning.startswith(doubt)
        assert "\n" not in warning


def test_a_password_in_a_file_that_all_may_read_is_warned_of(tmp_path: Path) -> None:
    found = loaded(tmp_path, WHOLE)
    found.path.chmod(0o644)
    assert [text.split(",")[0] for text in settings.warnings(found)] == ["a password is written in this file"]


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("postgresql://u:hunter2@h/d", 1),
        ("postgresql://h/d?user=u&password=hunter2", 1),
        ("postgresql://u@h/d?sslpassword=hunter2", 1),
        ("postgresql://u@h/d?passfile=pgpass", 0),
        ("sqlite:///mailgate.db", 0),
    ],
)
def test_so_is_one_in_the_url_of_the_store(tmp_path: Path, url: str, warned: int) -> None:
    text = WHOLE.replace('"hunter2"', '{ env = "HOME" }') + f'[store]\nurl = "{url}"\n'
    found = loaded(tmp_path, text)
    found.path.chmod(0o644)
    assert [text.split(",")[0] for text in settings.warnings(found)] == warned * [
        "store.url: holds a password"
    ]
    found.path.chmod(0o600)
    assert settings.warnings(found) == ()


def test_a_store_that_all_may_read_is_warned_of(tmp_path: Path) -> None:
    found = loaded(tmp_path, WHOLE)
    found.path.chmod(0o600)
    file = tmp_path / "mailgate.db"
    file.touch()
    file.chmod(0o640)  # a group's members, whom an administrator chose
    assert settings.warnings(found) == ()
    file.chmod(0o644)
    assert settings.warnings(found) == (
        f"store.url: every user may read {file}, and all mail in it: chmod o-r {file}*",
    )


def test_a_secret_s_file_that_all_may_read_or_that_is_a_folder_is_warned_of(tmp_path: Path) -> None:
    found = loaded(tmp_path, WHOLE.replace('"hunter2"', '{ file = "secret" }'))
    (tmp_path / "secret").touch()
    (tmp_path / "secret").chmod(0o644)
    who = "mailbox 'info': password"
    assert settings.warnings(found) == (f"{who}: every user may read {tmp_path}/secret: chmod o-r",)
    (tmp_path / "secret").chmod(0o640)
    assert settings.warnings(found) == ()
    (tmp_path / "secret").unlink()
    (tmp_path / "secret").mkdir(0o700)
    assert settings.warnings(found) == (f"{who}: is a folder, no file: {tmp_path}/secret",)


def test_nothing_to_do_is_warned_of(tmp_path: Path) -> None:
    assert settings.warnings(loaded(tmp_path, GATEWAY + HOME)) == (
        "there is no [[mailbox]] and no [listen]: no mail will come in",
    )


def test_a_server_on_this_machine_needs_no_tls(tmp_path: Path) -> None:
    text = WHOLE.replace("pop.provider.example", "localhost").replace("exchange.example.local", "127.0.0.1")
    text = text.replace("recipients", 'tls = "none"\nrecipients') + 'tls = "none"\n'
    found = loaded(tmp_path, text)
    found.path.chmod(0o600)
    assert settings.warnings(found) == ()
