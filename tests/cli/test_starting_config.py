"""The starting configuration is valid, says everything, and what is optional works once uncommented."""

import re
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

from cli.starting_config import starting_config
from engine import settings
from engine.settings import tables

OPTIONAL = re.compile(r"^#(?=[\w\[])", re.MULTILINE)
# Of each pair only one may be given at a time.
EITHER = {"recipients": "multidrop", "tls_ca": "tls_fingerprint"}


def loaded(text: str, folder: Path) -> settings.Settings:
    path = folder / "mailgate.toml"
    path.write_text(text)
    return settings.load(path)


def uncommented(leave_out: set[str]) -> str:
    text = OPTIONAL.sub("", starting_config("gate.example.org"))
    for key in leave_out:
        anywhere = key != "recipients"
        text = re.sub(rf"^{key} = .*\n", "", text, count=0 if anywhere else 1, flags=re.MULTILINE)
    return text


def test_it_loads_as_it_stands_without_a_doubt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFO_PASSWORD", "hunter2")
    found = loaded(starting_config("gate.example.org"), tmp_path)
    assert found.gateway.hostname == "gate.example.org"
    assert [mailbox.name for mailbox in found.mailboxes] == ["info"]
    assert list(found.next_hops) == ["home"]
    (tmp_path / "mailgate.toml").chmod(0o644)
    assert settings.warnings(found) == ()


@pytest.mark.parametrize("leave_out", [set(EITHER), set(EITHER.values())])
def test_everything_optional_works_once_uncommented(tmp_path: Path, leave_out: set[str]) -> None:
    text = uncommented(leave_out)
    assert tomllib.loads(text).keys() == set(tables.FileTable.__struct_fields__)
    found = loaded(text, tmp_path)
    assert [route.next_hop for route in found.routes] == ["home", "provider"]
    assert [scanner.kind for scanner in found.scanners] == ["clamd", "spamd", "attachments"]
    assert found.listen is not None
    assert list(found.listen.users) == ["exchange"]


def test_commented_defaults_are_the_defaults(tmp_path: Path) -> None:
    plain = loaded(starting_config("gate.example.org"), tmp_path)
    full = loaded(uncommented({"tls_ca", "tls_fingerprint", "multidrop"}), tmp_path)
    assert full.gateway == plain.gateway
    assert full.store == plain.store
    assert full.retry == plain.retry
    assert full.retention == plain.retention
    assert full.mailboxes[0].port == plain.mailboxes[0].port
    assert full.mailboxes[0].auth == plain.mailboxes[0].auth
    assert full.next_hops["home"].connections == plain.next_hops["home"].connections


@pytest.mark.parametrize(
    "table",
    [kind for kind in tables.Table.__subclasses__() if kind is not tables.SecretTable],
)
def test_every_key_is_there(table: type[tables.Table]) -> None:
    text = starting_config("gate.example.org")
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("# "))
    missing = [key for key in table.__struct_fields__ if not re.search(rf"\b{key} = |\[\[?{key}[\].]", lines)]
    assert missing == []


def test_every_setting_has_its_explanation_on_the_line_above_where_it_first_appears() -> None:
    lines = starting_config("gate.example.org").splitlines()
    explained: set[str] = set()
    table = ""
    for above, line in pairwise(lines):
        if header := re.match(r"#?\[+(\w+)", line):
            table = header[1]
        if (key := re.match(r"#?(\w+) = ", line)) and f"{table}.{key[1]}" not in explained:
            assert above.startswith("# "), line
            explained.add(f"{table}.{key[1]}")
    assert len(explained) > 50


@pytest.mark.parametrize("hostname", ["localhost", "my_box.example", 'a"b.example', "a.b\nc = 1", "", "-a.b"])
def test_a_host_name_that_no_server_would_accept_gives_the_example(tmp_path: Path, hostname: str) -> None:
    assert loaded(starting_config(hostname), tmp_path).gateway.hostname == "gate.example.com"
