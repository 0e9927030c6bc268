"""What a [[webhook]] may say, and what is wrong with one that can't work."""

from pathlib import Path

import pytest

from engine.settings import WebhookSettings
from tests.engine.settings.configurations import WHOLE, error, loaded

URL = 'url = "https://hooks.example.com/mail?token=t0ken"\n'
SECRET = 'secret = "hunter2"\n'


def table(*lines: str) -> str:
    return WHOLE + "[[webhook]]\n" + "".join(lines)


def one(folder: Path, *lines: str) -> WebhookSettings:
    (found,) = loaded(folder, table(*lines)).webhooks
    return found


def test_url_and_secret_are_enough(tmp_path: Path) -> None:
    found = one(tmp_path, URL, SECRET)
    assert (found.name, found.events, found.timeout_seconds, found.connections) == ("webhook", (), 10.0, 1)
    assert (found.url.tls, found.url.host, found.url.port) == (True, "hooks.example.com", 443)
    assert (found.secret.source, found.tls_ca) == ("hunter2", None)
    assert "hunter2" not in repr(found)


@pytest.mark.parametrize(
    ("written", "where", "header", "target", "shown"),
    [
        ("https://a.example", "a.example:443", "a.example", "/", "https://a.example"),
        ("http://a.example/x", "a.example:80", "a.example", "/x", "http://a.example"),
        (
            "http://A.example:8080?q=1",
            "a.example:8080",
            "a.example:8080",
            "/?q=1",
            "http://a.example:8080",
        ),
        (
            "https://[2001:db8::1]/h/?t=1&u=2",
            "[2001:db8::1]:443",
            "[2001:db8::1]",
            "/h/?t=1&u=2",
            "https://[2001:db8::1]",
        ),
    ],
)
def test_where_it_goes_and_what_is_shown_of_it(
    tmp_path: Path, written: str, where: str, header: str, target: str, shown: str
) -> None:
    url = one(tmp_path, f'url = "{written}"\n', SECRET).url
    assert (url.where, url.host_header, url.target, url.text) == (where, header, target, shown)
    assert target == "/" or target not in repr(url)


def test_several_have_names_and_their_own_events(tmp_path: Path) -> None:
    text = table('name = "crm"\n', URL, SECRET, 'events = ["delivered", "poll-failed"]\n')
    text += (
        '[[webhook]]\nname = "erp"\nconnections = 8\ntimeout = "30s"\n' + URL + 'secret = { file = "s" }\n'
    )
    crm, erp = loaded(tmp_path, text).webhooks
    assert (crm.name, crm.events) == ("crm", ("delivered", "poll-failed"))
    assert (erp.name, erp.connections, erp.timeout_seconds) == ("erp", 8, 30.0)
    assert erp.secret.source == str(tmp_path / "s")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([URL], "line 13: webhook[1].secret: is missing"),
        ([SECRET], "line 13: webhook[1].url: is missing"),
        (
            [URL, SECRET, 'event = ["failed"]'],
            "line 16: webhook[1].event: unknown key; did you mean 'events'?",
        ),
        (
            [URL, SECRET, 'events = ["failed", "deliverd"]'],
            "line 16: webhook[1].events[2]: there is no event 'deliverd'; did you mean 'delivered'?",
        ),
        ([URL, SECRET, 'timeout = "31s"'], 'line 16: webhook[1].timeout: expected "1s" to "30s"'),
        ([URL, SECRET, 'timeout = "0s"'], 'line 16: webhook[1].timeout: expected "1s" to "30s"'),
        ([URL, SECRET, "connections = 0"], "line 16: webhook[1].connections: expected at least 1"),
        ([URL, SECRET, "connections = 33"], "line 16: webhook[1].connections: expected at most 32"),
        (
            ['url = "http://a.example"\n', SECRET, 'tls_ca = "ca.pem"'],
            "line 16: webhook[1].tls_ca: has no meaning with http://",
        ),
        (
            [URL, SECRET, "[[webhook]]\n", URL, SECRET],
            "line 16: webhook[2].name: is 'webhook' like that of another webhook",
        ),
        (['url = "ftp://a.example"\n', SECRET], "line 14: webhook[1].url: must be written as in"),
        (['url = "https:///x"\n', SECRET], "line 14: webhook[1].url: must be written as in"),
        (['url = "https://a.example:0"\n', SECRET], "line 14: webhook[1].url: must be written as in"),
        (['url = "https://a.example:x"\n', SECRET], "line 14: webhook[1].url: must be written as in"),
        (['url = "https://a.example/a b"\n', SECRET], "line 14: webhook[1].url: must be written as in"),
        (
            ['url = "https://me:hunter2@a.example"\n', SECRET],
            "line 14: webhook[1].url: holds a user name: requests are signed",
        ),
        (['url = "https://a.example/#x"\n', SECRET], "line 14: webhook[1].url: holds a '#'"),
        (
            ['url = "https://-a.example/"\n', SECRET],
            "line 14: webhook[1].url: '-a.example' is not a host name",
        ),
    ],
)
def test_what_cannot_work_is_refused(tmp_path: Path, lines: list[str], said: str) -> None:
    assert error(tmp_path, table(*lines)).startswith(said)


def test_one_alone_is_still_a_list(tmp_path: Path) -> None:
    text = WHOLE + "[webhook]\n" + URL + SECRET
    assert "write [[webhook]]" in error(tmp_path, text)
