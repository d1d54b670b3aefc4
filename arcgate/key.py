"""A key as the command line takes it. It is never shown again: not in a message, not in what a verb prints."""

from pathlib import Path
from typing import Final

import msgspec
import typer

from receiver.rules import KEY_BYTES
from receiver.secret import Secret, SecretError, reveal

KEY_HELP: Final = "hex:..., ascii:... or credential:FILE, or - to be asked for it; 16, 24 or 32 bytes"


def read_key(written: str) -> bytes:
    """Return the bytes of a key as it is written, or as it is typed unseen for `-`. Raises BadParameter, without the key."""
    if written == "-":
        written = typer.prompt("Key (hex:... or ascii:...)", hide_input=True, err=True)
    kind, _, value = written.partition(":")
    file = Path(value) if kind == "credential" else Path()  # anywhere, as whoever types it names it
    try:
        key = reveal(msgspec.convert(f"credential:{file.name}" if file.name else written, Secret), file.parent)
    except msgspec.ValidationError:
        wanted = "write hex:..., ascii:... or credential:FILE; 32 characters may be hex or ascii, so it must be said"
        if kind == "hex":
            wanted = f"hex: wants 32, 48 or 64 hexadecimal digits, without blanks or colons; here are {len(value)} characters"
        raise typer.BadParameter(wanted, param_hint="--key") from None
    except SecretError as error:
        raise typer.BadParameter(str(error), param_hint="--key") from error
    if len(key) not in KEY_BYTES:
        other = other_notation(written)
        hint = f"; read as {other[0]}: it would have {len(other[1])}" if other else ""
        raise typer.BadParameter(f"it has {len(key)} bytes; AES takes 16, 24 or 32{hint}", param_hint="--key")
    return key


def other_notation(written: str) -> tuple[str, bytes] | None:
    """Return the same characters read in the other notation, after its name; None where that gives no key."""
    notation, _, text = written.partition(":")
    if notation not in {"hex", "ascii"}:
        return None
    try:
        name, key = ("hex", bytes.fromhex(text)) if notation == "ascii" else ("ascii", text.encode())
    except ValueError:
        return None
    return (name, key) if len(key) in KEY_BYTES else None
