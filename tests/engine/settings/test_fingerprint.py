"""A configuration is told from another by what is written; of its secrets next to nothing is told."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest

from engine.settings.fingerprint import fingerprint
from tests.engine.settings.configurations import WHOLE, loaded

FULL = (
    WHOLE
    + """\
username = "gate"
password = "open sesame"
[[route]]
users = ["newsletter"]
next_hop = "home"
[listen]
users = { newsletter = "swordfish", shop = { env = "SHOP" } }
tls_cert = "cert.pem"
tls_key = "key.pem"
[[webhook]]
name = "crm"
url = "https://crm.example.com/hook?token=abracadabra"
secret = { command = "echo xyzzy" }
[store]
url = "postgresql://gate:plugh@db/mailgate"
in_flight = "128MiB"
"""
)
SECRETS = ("hunter2", "open sesame", "swordfish", "SHOP", "abracadabra", "xyzzy")


def of(text: str) -> str:
    return fingerprint(tomllib.loads(text))


@pytest.mark.parametrize("old", [*SECRETS, "exchange.example.local", "128MiB", '["newsletter"]', "cert.pem"])
def test_whatever_is_written_counts(old: str) -> None:
    assert FULL.count(old) == 1
    assert of(FULL.replace(old, old.replace("e", "E", 1) if "e" in old else old[:-1] + "9")) != of(FULL)


def test_how_it_is_written_and_where_the_store_is_count_for_nothing() -> None:
    assert of("# a remark\n\n" + FULL.replace("gate:plugh@db", "gate:else@10.0.0.1")) == of(FULL)
    assert of(WHOLE + '[store]\nurl = "sqlite:///mail.db"\n') == of(WHOLE)


def test_of_secrets_it_has_two_octets(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[bytes] = []
    module = sys.modules[fingerprint.__module__]
    real = module._octets
    monkeypatch.setattr(module, "_octets", lambda value: hashed.append(real(value)) or hashed[-1])
    of(FULL)
    hidden, rest = hashed
    assert all(secret.encode() in hidden for secret in SECRETS)
    assert not any(secret.encode() in rest for secret in (*SECRETS, "plugh"))
    tried = 3000  # of as many, two share 16 bits for certain, and 32 bits in one of a thousand tries
    assert len({of(FULL.replace("hunter2", f"{n}")) for n in range(tried)}) < tried


def test_a_file_that_was_read_has_one_and_it_decides_nothing(tmp_path: Path) -> None:
    one, other = loaded(tmp_path, WHOLE), loaded(tmp_path, WHOLE.replace("hunter2", "hunter3"))
    assert (len(one.fingerprint), one.fingerprint == other.fingerprint) == (8, False)
    assert one.policy_version == other.policy_version
