"""TLS as a client, and as a server: contexts, pinned certificates, and what to say of a connection.

Owns the rules: certificates are verified against the system's authorities and the host's name unless the
configuration says otherwise; an own file of authorities replaces the system's; a SHA-256 fingerprint
replaces both, and then exactly one certificate will do. TLS 1.2 is the oldest version (RFC 8996). Opens no
connection.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import ssl
from functools import lru_cache
from pathlib import Path
from typing import Final

CONTEXTS_LIMIT: Final = 64  # contexts kept ready: loading the system's authorities takes some 20 ms each time

NO_PEM: Final = "not PEM, or the key has a password"
_FINGERPRINT: Final = re.compile(r"(?:sha256:)?([0-9a-f]{64})")


class TlsTrouble(Exception):
    """TLS cannot be had as configured; the text says why in one line and waiting will not help."""


class ServerTrouble(TlsTrouble):
    """TLS cannot be offered to clients; `key` of [listen] names the file."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key = key


def fingerprint_of(text: str) -> bytes:
    """The digest in "sha256:<64 hex digits>", with or without colons between them. Raises ValueError."""
    lowered = text.strip().lower()
    prefix = "sha256:" if lowered.startswith("sha256:") else ""
    found = _FINGERPRINT.fullmatch(prefix + lowered[len(prefix) :].replace(":", ""))
    if found is None:
        raise ValueError("a certificate fingerprint is written sha256: and 64 hex digits")
    return bytes.fromhex(found.group(1))


def client_context(*, verify: bool, ca_file: str | None, fingerprint: str | None) -> ssl.SSLContext:
    """A context for connecting. With a fingerprint, `check_fingerprint` must follow the handshake.

    Raises TlsTrouble where the file of authorities cannot be read.
    """
    try:
        changed_at_ns = Path(ca_file).stat().st_mtime_ns if ca_file else 0
        return _context(verify and fingerprint is None, ca_file, changed_at_ns)
    except (OSError, ssl.SSLError) as error:
        raise TlsTrouble(f"cannot read certificates from {ca_file}: {reason_of(error)}") from error


@lru_cache(maxsize=CONTEXTS_LIMIT)
def _context(verify: bool, ca_file: str | None, changed_at_ns: int) -> ssl.SSLContext:
    """One context for each set of rules; a file that was changed is read again."""
    if verify:
        context = ssl.create_default_context(cafile=ca_file)
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def server_context(cert_file: str, key_file: str) -> ssl.SSLContext:
    """A context for being connected to; files that were changed are read again. Raises ServerTrouble."""
    for key, file in (("tls_cert", cert_file), ("tls_key", key_file)):
        try:
            with Path(file).open("rb"):
                pass
        except OSError as error:
            raise ServerTrouble(key, f"{file} can't be read: {reason_of(error)}") from None
    try:
        changed_at_ns = tuple(Path(file).stat().st_mtime_ns for file in (cert_file, key_file))
        return _server_context(cert_file, key_file, changed_at_ns)
    except OSError as error:
        reason = NO_PEM if isinstance(error, ssl.SSLError) and not error.reason else reason_of(error)
        text = f"{cert_file} and {key_file} are no certificate and its key: {reason}"
        raise ServerTrouble("tls_cert", text) from None


@lru_cache(maxsize=2)
def _server_context(cert_file: str, key_file: str, changed_at_ns: tuple[int, ...]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(
        cert_file, key_file, password=""
    )  # a key with a password must not ask the terminal
    return context


def check_fingerprint(transport: asyncio.BaseTransport, fingerprint: str) -> None:
    """Raise TlsTrouble unless the far side's certificate is the pinned one. Call before anything is sent."""
    shown = _ssl_object(transport).getpeercert(binary_form=True) or b""
    digest = hashlib.sha256(shown).digest()
    try:
        pinned = fingerprint_of(fingerprint)
    except ValueError as error:
        raise TlsTrouble(str(error)) from error
    if not shown or not hmac.compare_digest(digest, pinned):
        raise TlsTrouble(f"the server's certificate is sha256:{digest.hex()}, not the pinned one")


def describe(transport: asyncio.BaseTransport, *, verified: bool) -> str:
    """What protects a connection: "TLSv1.3 TLS_AES_256_GCM_SHA384 verified", "… unverified" or "none"."""
    if transport.get_extra_info("ssl_object") is None:
        return "none"
    tls = _ssl_object(transport)
    cipher = tls.cipher()
    return f"{tls.version()} {cipher[0] if cipher else '?'} {'verified' if verified else 'unverified'}"


def reason_of(error: OSError) -> str:
    """Why TLS or a file failed, in a few words; never empty."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    return error.strerror or str(error) or type(error).__name__


def _ssl_object(transport: asyncio.BaseTransport) -> ssl.SSLObject:
    tls: ssl.SSLObject = transport.get_extra_info("ssl_object")
    return tls
