"""Ed25519 keys and signatures (RFC 8032), for seals. Needs the package `cryptography`, which is optional.

Keys are files in PEM, as OpenSSL reads and writes them; the private one is its owner's alone, and never goes on record.
"""

from __future__ import annotations

import os
from dataclasses import replace
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from store.errors import ProofError
from store.seal import Seal

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PRIVATE_MODE = 0o600
PUBLIC_SUFFIX = ".pub"


class KeyTrouble(ProofError):
    """A key can't be had, or nothing here can use it; the text says what to do."""


def available() -> bool:
    """Whether signatures can be made and checked here."""
    return find_spec("cryptography") is not None


def make(file: Path) -> tuple[Path, bytes]:
    """Write a new private key to `file`, and the public one beside it; returns that file and the key.

    Raises KeyTrouble; nothing is ever overwritten.
    """
    _required()
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    public = key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    if not file.name or file.is_dir():
        raise KeyTrouble(f"{file} is a folder: name a file")
    beside = file.with_name(file.name + PUBLIC_SUFFIX)
    if beside.exists():
        raise KeyTrouble(f"{beside} exists already: name another file")
    _write(file, private, PRIVATE_MODE)
    _write(beside, public, 0o644)
    return beside, key.public_key().public_bytes_raw()


def sign(seal: Seal, file: Path) -> Seal:
    """Return the seal with a signature by the private key in a file. Raises KeyTrouble."""
    key = _private(file)
    public = key.public_key().public_bytes_raw()
    return replace(seal, public_key=public, signature=key.sign(seal.statement))


def holds(seal: Seal) -> bool:
    """Whether a seal's signature is that of the public key that it names. Raises KeyTrouble where that can't be said."""
    _required()
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        key = Ed25519PublicKey.from_public_bytes(seal.public_key or b"")
        key.verify(seal.signature or b"", seal.statement)
    except (InvalidSignature, ValueError):
        return False
    return True


def trouble(seal: Seal, wanted: bytes | None) -> str | None:
    """Return what is wrong with a seal's signature, None for nothing; with `wanted`, that key must have made it.

    Raises KeyTrouble where there is one and nothing here can check it.
    """
    if seal.signature is None and seal.public_key is None:
        return None if wanted is None else "is not signed"
    if not holds(seal):
        return "has a signature that is not its key's"
    if wanted is not None and seal.public_key != wanted:
        return f"is signed with another key than the one named: {fingerprint(seal.public_key or b'')}"
    return None


def public_key(file: Path) -> bytes:
    """Return the public key in a file (PEM). Raises KeyTrouble."""
    _required()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(_octets(file))
    except ValueError as error:
        raise KeyTrouble(f"{file}: it is no public key in PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise KeyTrouble(f"{file}: it is no Ed25519 key")
    return key.public_bytes_raw()


def fingerprint(public_key: bytes) -> str:
    """Return a short name of a public key, to compare by eye."""
    return "sha256:" + sha256(public_key).hexdigest()[:32]


def _private(file: Path) -> Ed25519PrivateKey:
    _required()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    octets = _octets(file)
    if file.stat().st_mode & 0o077:
        raise KeyTrouble(f"{file}: others may read this key: chmod 600 {file}")
    try:
        key = load_pem_private_key(octets, None)
    except (ValueError, TypeError) as error:  # TypeError: it wants a password
        raise KeyTrouble(f"{file}: it is no private key in PEM without a password") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyTrouble(f"{file}: it is no Ed25519 key: 'mailgate audit keygen' makes one")
    return key


def _octets(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise KeyTrouble(f"{file}: {error.strerror}") from error


def _write(file: Path, octets: bytes, mode: int) -> None:
    try:
        number = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        raise KeyTrouble(f"{file} exists already: name another file") from None
    except OSError as error:
        raise KeyTrouble(f"{file}: {error.strerror}") from error
    with open(number, "wb") as stream:
        stream.write(octets)


def _required() -> None:
    if not available():
        raise KeyTrouble(
            "signatures need the package 'cryptography', which is not installed: pip install 'mailgate[sign]'"
        )
