"""The configuration: a TOML file, found, read and turned into frozen `Settings`.

Owns where the file is looked for, and errors of one line that name file, line and key. All of a file is right
or nothing of it is used. Never reveals a secret: that is `engine.secrets`, at the moment of use. The shapes
are in `engine.settings.shapes`, and offered here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from engine.secrets import Secret, SecretError
from engine.settings.addresses import HttpUrl, TcpAddress, UnixAddress
from engine.settings.fingerprint import fingerprint
from engine.settings.lines import Place, line_of
from engine.settings.reading import Fault
from engine.settings.rules import settings_from
from engine.settings.shapes import (
    Gateway,
    Listen,
    Mailbox,
    MetricsSettings,
    Multidrop,
    NextHopSettings,
    Quarantine,
    Remove,
    Retention,
    Retry,
    Route,
    ScannerSettings,
    Settings,
    Store,
    WebhookSettings,
)
from engine.settings.syntax import NotToml, parsed
from engine.settings.values import shown
from engine.settings.warnings import warnings

__all__ = [
    "Gateway",
    "HttpUrl",
    "Listen",
    "Mailbox",
    "MetricsSettings",
    "Multidrop",
    "NextHopSettings",
    "Quarantine",
    "Remove",
    "Retention",
    "Retry",
    "Route",
    "ScannerSettings",
    "Secret",
    "SecretError",
    "Settings",
    "SettingsError",
    "Store",
    "TcpAddress",
    "UnixAddress",
    "WebhookSettings",
    "find",
    "load",
    "warnings",
]

ENVIRONMENT_VARIABLE = "MAILGATE_CONFIG"
LOCAL_FILE = Path("mailgate.toml")
SYSTEM_FILE = Path("/etc/mailgate/mailgate.toml")
PATH_CHARACTERS = 255
FILE_OCTETS = 4 << 20  # thousands of mailboxes fit; more is the wrong file


class SettingsError(Exception):
    """The configuration can't be used. One line: file, line, key, what is wrong. Never a secret."""


def find(explicit: str | None, environ: Mapping[str, str]) -> Path:
    """The configuration file: the one given, `$MAILGATE_CONFIG`, ./mailgate.toml, or that of the system.

    One that is named but isn't there is an error, and no other is taken in its place. Raises SettingsError.
    """
    named, by = (
        (explicit, "--config") if explicit else (environ.get(ENVIRONMENT_VARIABLE), ENVIRONMENT_VARIABLE)
    )
    if named:
        if not _is_there(Path(named)):
            raise SettingsError(f"{named}: no such file (named by {by})")
        return Path(named)
    for path in (LOCAL_FILE, SYSTEM_FILE):
        if _is_there(path):
            return path
    looked = f"--config, ${ENVIRONMENT_VARIABLE}, ./{LOCAL_FILE}, {SYSTEM_FILE}"
    raise SettingsError(
        f"no configuration found (looked at {looked}): 'mailgate init' writes one to start from"
    )


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as trouble:  # it may be there, and isn't for us to see
        reason = trouble.strerror if isinstance(trouble, OSError) else "holds a NUL"
        raise SettingsError(f"{_short(path)}: can't be read: {reason}") from None
    return True


def _short(path: Path) -> str:
    """A path for a line: nobody reads thousands of characters."""
    text = str(path)
    return text if len(text) <= PATH_CHARACTERS else f"{text[:PATH_CHARACTERS]}…"


def load(path: Path) -> Settings:
    """Read and check the file. Raises SettingsError."""
    source = _source(path)
    written = _parsed(path, source)
    try:
        return replace(settings_from(written, path.absolute()), fingerprint=fingerprint(written))
    except Fault as fault:
        line = line_of(source, fault.place)
        at = "" if line is None else f" line {line}:"
        raise SettingsError(f"{path}:{at} {_named(fault.place, written)}: {fault}") from None


def _source(path: Path) -> str:
    try:
        with path.open("rb") as file:
            octets = file.read(FILE_OCTETS + 1)
    except OSError as trouble:
        raise SettingsError(f"{path}: can't be read: {trouble.strerror}") from None
    if len(octets) > FILE_OCTETS:
        raise SettingsError(f"{path}: is longer than {FILE_OCTETS} octets: is it a configuration?")
    try:
        return octets.decode("utf-8-sig")
    except UnicodeDecodeError as trouble:
        line = octets.count(b"\n", 0, trouble.start) + 1
        raise SettingsError(f"{path}: line {line}: is not UTF-8 text") from None


def _parsed(path: Path, source: str) -> dict[str, object]:
    try:
        return parsed(source)
    except NotToml as trouble:
        raise SettingsError(f"{path}: {trouble}") from None


def _named(place: Place, written: Mapping[str, object]) -> str:
    """A place as people say it: indexes from 1, a mailbox by its name."""
    text, rest = "", place
    if place[:1] == ("mailbox",) and len(place) > 2 and (name := _mailbox_name(written, place[1])):
        text, rest = f"mailbox {shown(name)}: ", place[2:]
    for number, part in enumerate(rest):
        if isinstance(part, int):
            text += f"[{part + 1}]"
        else:
            text += ("." if number else "") + (part if re.fullmatch(r"[\w-]+", part) else shown(part))
    return text


def _mailbox_name(written: Mapping[str, object], index: str | int) -> str | None:
    tables = written["mailbox"]
    if not isinstance(tables, list) or not isinstance(index, int):
        return None
    name = tables[index].get("name") if isinstance(tables[index], dict) else None
    return name if isinstance(name, str) else None
