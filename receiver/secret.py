"""
Secrets as they are written in a file: themselves, or where they are.

    "hex:00112233..."      the bytes in hexadecimal
    "ascii:correct horse"  the characters' bytes
    "credential:NAME"      the file NAME in systemd's credentials folder, else beside the configuration with mode 0600;
                           in it hex:... or ascii:... as above, else the bytes themselves

A secret is never repeated in a message.
"""

import os
import re
from pathlib import Path
from typing import Annotated, Final

from msgspec import Meta

SECRET_BYTES_MAX: Final = 1024

_FORM: Final = re.compile("hex:([0-9A-Fa-f]{2})+|ascii:[ -~]+|credential:[A-Za-z0-9_][A-Za-z0-9_.-]*")
SECRET_FORM: Final = '"hex:" and pairs of hexadecimal digits, "ascii:" and characters, or "credential:" and the name of a file'
"""What people are told where it is written otherwise."""
Secret = Annotated[
    str,
    Meta(
        pattern=rf"\A({_FORM.pattern})\Z",
        description=SECRET_FORM,
    ),
]


class SecretError(Exception):
    """It cannot be had; the message says why, and what to do."""


def is_secret(text: str) -> bool:
    """Say whether a text has the form of a `Secret`, where its type alone does not say so."""
    return _FORM.fullmatch(text) is not None


def reveal(secret: Secret, folder: Path) -> bytes:
    """
    Return the bytes of a secret.

    folder: that of the file in which it is written. Raises SecretError where its file cannot be read, or others may read it.
    """
    kind, _, value = secret.partition(":")
    if kind == "hex":
        return bytes.fromhex(value)
    if kind == "ascii":
        return value.encode()
    given = os.environ.get("CREDENTIALS_DIRECTORY")
    try:
        path = Path(given, value) if given and Path(given, value).exists() else folder / value
        if path.parent == folder and path.stat().st_mode & 0o077:
            raise SecretError(f"{path}: others may read it: chmod 600")
        content = path.read_bytes().strip(b"\r\n")
    except OSError as error:
        raise SecretError(f"{error.filename}: {error.strerror}: put the secret there, with mode 0600") from error
    if content.startswith((b"hex:", b"ascii:")):
        if not is_secret(text := content.decode("latin-1")):
            raise SecretError(f"{path}: must hold {SECRET_FORM}")
        content = reveal(text, folder)
    if not 0 < len(content) <= SECRET_BYTES_MAX:
        raise SecretError(f"{path}: must hold 1 to {SECRET_BYTES_MAX} bytes")
    return content
