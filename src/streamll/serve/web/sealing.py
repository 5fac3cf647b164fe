"""What a server keeps for whoever knows an id, in a log that others read as well. No I/O.

A conversation has to be in the log, so that any process can go on with it, and inputs are in no log
unless somebody asks for that. So it is encrypted, with a key that is in the response's id and
nowhere else: who reads the log without the id learns nothing of it.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

KEY_BYTES = 16


def new_key() -> str:
    """A key that cannot be guessed, as 32 hexadecimal digits."""
    return secrets.token_hex(KEY_BYTES)


def seal(value: Any, key: str) -> str:
    """A JSON value as text that says nothing without the key."""
    return _cipher(key).encrypt(msgspec.json.encode(value)).decode()


def unseal(sealed: Any, key: str) -> Any:
    """The value; ``ValueError`` if the key is another one, or the text was changed."""
    from cryptography.fernet import InvalidToken

    try:
        return msgspec.json.decode(_cipher(key).decrypt(str(sealed)))
    except InvalidToken:
        raise ValueError("this is not its key") from None


def _cipher(key: str) -> Fernet:
    from cryptography.fernet import Fernet

    digest = hashlib.sha256(b"streamll-response\0" + key.encode()).digest()
    return Fernet(base64.urlsafe_b64encode(digest))
