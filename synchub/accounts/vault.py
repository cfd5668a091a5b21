"""Keeps credentials readable for this hub only: AES-256-GCM, bound to the place they belong to.

Merchant, account and credential name are authenticated with the text, so that a
ciphertext copied to another account does not open there. Whoever has the key
file and the store has every credential; whoever has only one of them has none.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import os
import secrets
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from synchub.errors import Misconfigured

if TYPE_CHECKING:
    from synchub.accounts.model import Place
    from synchub.settings import SecretsSettings

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_FORM: Final = "v1."


class Vault:
    """Seals and unseals credentials under one key."""

    __slots__ = ("_cipher", "_derived", "_key", "fingerprint")

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._derived: dict[tuple[str, str], bytes] = {}
        self._cipher = AESGCM(key)
        self.fingerprint = hashlib.sha256(b"synchub vault key\x00" + key).hexdigest()[:16]
        """Tells two keys apart and says nothing about either."""

    def __repr__(self) -> str:
        """Name the key, never show it."""
        return f"<Vault {self.fingerprint}>"

    @classmethod
    def open(cls, settings: SecretsSettings) -> Vault:
        """Take the key from the settings, otherwise from the key file, which is created when missing.

        Reads and writes a file: call it before the event loop runs, or in a thread.

        Raises:
            Misconfigured: no usable key; the sentence says where it was looked for.
        """
        given = settings.key.get_secret_value()
        if given:
            return cls(_key_of(given, "secrets.key"))
        return cls(_key_of(_read_or_create(settings.key_file), str(settings.key_file)))

    def seal(self, value: str, place: Place) -> str:
        """Return the ciphertext of a credential; sealing the same value twice gives two texts."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, value.encode(), _authenticated(place))
        return _FORM + base64.b64encode(nonce + sealed).decode()

    def unseal(self, ciphertext: str, place: Place) -> str:
        """Return the credential.

        Raises:
            Misconfigured: sealed with another key or for another place, or altered since.
        """
        try:
            raw = base64.b64decode(ciphertext.removeprefix(_FORM), validate=True)
            opened = self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], _authenticated(place))
            return opened.decode()
        except (InvalidTag, ValueError):
            msg = (
                f"Credential {place.credential} of account {place.account} does not open: it was encrypted "
                "with another key or for another account. Use that key, or enter the credential again."
            )
        raise Misconfigured(msg)

    def merchant_key(self, merchant: str, purpose: str = "checksum") -> bytes:
        """Return the 32 bytes under which this merchant's answers get their checksums.

        Each other purpose has a key of its own, so that what proves one thing never proves another.
        Derived (HKDF-SHA256, RFC 5869), not stored: every process has it without asking, nothing can
        lose it but the loss of the hub's key, and it tells nothing about that one.
        """
        known = self._derived.get((merchant, purpose))
        if known is None:
            info = f"synchub {purpose} 1\n{merchant}".encode()
            known = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(self._key)
            self._derived[merchant, purpose] = known
        return known


def _authenticated(place: Place) -> bytes:
    # The separator occurs in none of the three names.
    return f"synchub credential\x1f{place.merchant}\x1f{place.account}\x1f{place.credential}".encode()


def _key_of(text: str, where: str) -> bytes:
    try:
        key = base64.b64decode(text.strip().replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        msg = (
            f"{where} does not hold a key: {KEY_BYTES} bytes in base64 are needed (openssl rand -base64 32)."
        )
        raise Misconfigured(msg)
    return key


def _read_or_create(path: Path) -> str:
    try:
        if not path.exists():
            _create(path)
        return path.read_text(encoding="ascii")
    except OSError as problem:
        msg = f"The key file {path} cannot be used: {problem.strerror}. Set secrets.key or secrets.key_file."
        raise Misconfigured(msg) from problem
    except UnicodeDecodeError:
        return ""


def _create(path: Path) -> None:
    """Write a new key beside its place and link it there, so that no process ever reads half of one.

    Linking never replaces: of several processes that start together all use the key of the first.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode() + "\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        Path(draft).unlink()
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
