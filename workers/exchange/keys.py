"""workers room: API keys of the venue's protocol, and how requests are signed with them.

A request is signed over its parameters, sorted by name and written `name=value` joined by `&`. An
HMAC key signs with SHA-256 and writes hexadecimal; an Ed25519 key writes base64. The same helpers
serve the exchange, which checks, and the execution worker, which signs. Nothing here prints or
logs a secret, and the records that hold one keep it out of their representation.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PEM_MARK = "-----BEGIN"
KEY_FILE_MODE = 0o600


def payload(params: Mapping[str, str]) -> str:
    """Writes the text that a signature covers: every parameter but `signature`, sorted by name."""
    return "&".join(f"{name}={params[name]}" for name in sorted(params) if name != "signature")


def sign_hmac(secret: str, text: str) -> str:
    """Signs with an HMAC secret; answers lower-case hexadecimal."""
    return hmac.digest(secret.encode(), text.encode(), "sha256").hex()


def sign_ed25519(private_key: Ed25519PrivateKey, text: str) -> str:
    """Signs with an Ed25519 key; answers base64."""
    return base64.b64encode(private_key.sign(text.encode())).decode()


@lru_cache(maxsize=8)
def load_private_key(pem: str) -> Ed25519PrivateKey:
    """Reads an unencrypted Ed25519 private key.

    Raises:
        ValueError: the text is no such key. The message never repeats the text.
    """
    try:
        key = serialization.load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError) as error:
        raise ValueError("a secret in PEM form must be an unencrypted private key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"a private key must be Ed25519: type={type(key).__name__}")  # noqa: TRY004 - the text is wrong, not its type
    return key


class Checker(Protocol):
    """Checks signatures of one key."""

    def is_valid(self, text: str, signature: str) -> bool:
        """Says whether `signature` was made over `text` with this key."""


@dataclass(frozen=True)
class HmacChecker:
    """Checks HMAC-SHA256 signatures; hexadecimal of either case is accepted, as the venue does."""

    secret: bytes = field(repr=False)

    def is_valid(self, text: str, signature: str) -> bool:
        """Says whether `signature` was made over `text` with this secret."""
        expected = hmac.digest(self.secret, text.encode(), hashlib.sha256).hex()
        return hmac.compare_digest(expected.encode(), signature.lower().encode())


@dataclass(frozen=True)
class Ed25519Checker:
    """Checks Ed25519 signatures in base64."""

    public_key: Ed25519PublicKey

    def is_valid(self, text: str, signature: str) -> bool:
        """Says whether `signature` was made over `text` with this key's private half."""
        try:
            self.public_key.verify(base64.b64decode(signature, validate=True), text.encode())
        except (InvalidSignature, binascii.Error, ValueError):
            return False
        return True


@dataclass(frozen=True)
class Credential:
    """What the exchange knows about one API key: who it is and how its signatures are checked.

    Attributes:
        api_key: the public name that requests carry.
        checker: made from an HMAC secret or an Ed25519 public key.
        is_session: the key may log a connection on; only Ed25519 keys may.
    """

    api_key: str
    checker: Checker
    is_session: bool

    @staticmethod
    def from_hmac(api_key: str, secret: str) -> Credential:
        """Makes the credential of an HMAC key."""
        return Credential(api_key, HmacChecker(secret.encode()), is_session=False)

    @staticmethod
    def from_ed25519(api_key: str, public_pem: str) -> Credential:
        """Makes the credential of an Ed25519 key.

        Raises:
            ValueError: the text is no Ed25519 public key in PEM form.
        """
        try:
            key = serialization.load_pem_public_key(public_pem.encode())
        except ValueError as error:
            raise ValueError("a public key must be in PEM form") from error
        if not isinstance(key, Ed25519PublicKey):
            raise ValueError(f"a public key must be Ed25519: type={type(key).__name__}")  # noqa: TRY004 - the text is wrong, not its type
        return Credential(api_key, Ed25519Checker(key), is_session=True)


@dataclass(frozen=True)
class KeyPair:
    """An API key with its secret half, as a client holds it.

    Attributes:
        api_key: the public name.
        secret: an HMAC secret, or an Ed25519 private key in PEM form.
    """

    api_key: str
    secret: str = field(repr=False)

    def credential(self) -> Credential:
        """Answers the exchange's half of this pair."""
        if not self.secret.lstrip().startswith(PEM_MARK):
            return Credential.from_hmac(self.api_key, self.secret)
        public = load_private_key(self.secret).public_key()
        return Credential(self.api_key, Ed25519Checker(public), is_session=True)

    def sign(self, text: str) -> str:
        """Signs `text` with whichever kind of secret this is."""
        if self.secret.lstrip().startswith(PEM_MARK):
            return sign_ed25519(load_private_key(self.secret), text)
        return sign_hmac(self.secret, text)


def make_ed25519_pair() -> KeyPair:
    """Makes a fresh Ed25519 pair for a demonstration account, in memory only."""
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return KeyPair(secrets.token_hex(32), pem.decode())


def make_hmac_pair() -> KeyPair:
    """Makes a fresh HMAC pair for a demonstration account, in memory only."""
    return KeyPair(secrets.token_hex(32), secrets.token_hex(32))


def write_pair(path: Path, pair: KeyPair) -> None:
    """Writes a pair as a file that only its owner can read: first line the key, then the secret.

    Raises:
        FileExistsError: the file is there already; a secret is never overwritten.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, KEY_FILE_MODE)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(f"{pair.api_key}\n{pair.secret}\n")


def read_pair(path: Path) -> KeyPair:
    """Reads a pair that `write_pair` wrote.

    Raises:
        PermissionError: somebody else may read or write the file.
        ValueError: the file has no key or no secret.
    """
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise PermissionError(
            f"a key file must be its owner's alone: file={path} mode={mode:04o}; "
            f"run `chmod 600 {path}`"
        )
    api_key, _, secret = path.read_text(encoding="ascii").partition("\n")
    if not api_key.strip() or not secret.strip():
        raise ValueError(f"a key file must hold a key, then a secret: file={path}")
    return KeyPair(api_key.strip(), secret.strip())
