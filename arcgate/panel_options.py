"""What the verbs of `arcgate panel` have in common: where the frames go, how, and whose they are. Declared once."""

import functools
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar, get_args, get_type_hints

import msgspec
import typer

from arcgate.key import KEY_HELP, read_key
from protocols import codes
from protocols.dc09 import Dialect
from protocols.event import Category, Event, Format, Qualifier

DIALECTS: Final = ", ".join(filter(None, get_args(Dialect)))
T = TypeVar("T", bound=msgspec.Struct)


class PanelOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options that each verb takes; `shared` gives them to it."""

    to: Annotated[str, typer.Option("--to", metavar="HOST:PORT", help="The receiver's listener; IPv6 as [::1]:12000.")]
    account: Annotated[str, typer.Option("--account", metavar="N", help="1 to 16 letters and digits.")]
    udp: Annotated[bool, typer.Option("--udp", help="By UDP: a frame is a datagram. Else TCP.")] = False
    tls: Annotated[bool, typer.Option("--tls", help="By TLS over TCP.")] = False
    ca: Annotated[Path | None, typer.Option("--ca", help="TLS: who signed the receiver's certificate; else the system's.")] = None
    insecure: Annotated[bool, typer.Option("--insecure", help="TLS: take any certificate, as many panels do.")] = False
    certificate: Annotated[Path | None, typer.Option("--certificate", help="TLS: the panel's own certificate, PEM.")] = None
    private_key: Annotated[Path | None, typer.Option("--private-key", help="TLS: its key, where it is in another file.")] = None
    key: Annotated[str, typer.Option("--key", metavar="KEY", help=f"Encrypt with it: {KEY_HELP}.")] = ""
    dialect: Annotated[str, typer.Option("--dialect", help=f"Depart from the standard as some panels do: {DIALECTS}.")] = ""
    receiver: Annotated[str | None, typer.Option("--receiver", help="The R of the frame, hexadecimal; else none is sent.")] = None
    line: Annotated[str, typer.Option("--line", help="The L of the frame, hexadecimal.")] = "0"
    sequence: Annotated[int, typer.Option("--sequence", min=0, max=9999, help="Of the first frame; after 9999 comes 1.")] = 1
    timestamp: Annotated[bool, typer.Option("--timestamp/--no-timestamp", help="Whether the frame says when it was sent.")] = True
    ahead: Annotated[float, typer.Option("--ahead", help="Seconds that the panel's clock is ahead of ours; -3600: behind.")] = 0
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.001, help="Seconds to wait for the connection, and for each reply.")
    ] = 5

    @property
    def place(self) -> tuple[str, int]:
        """Host and port. Raises BadParameter."""
        return place_of(self.to, "--to")

    @property
    def transport(self) -> Literal["tcp", "udp", "tls"]:
        """What carries the frames."""
        return "udp" if self.udp else "tls" if self.tls else "tcp"

    def check(self) -> bytes:
        """
        Return the key, empty where none is given.

        Raises BadParameter, with the option's name and never with the key, for what no panel can send or cannot go together.
        """
        check(self.account, r"[0-9A-Za-z]{1,16}", "--account", "1 to 16 letters and digits")
        check(self.receiver or "", r"[0-9A-Fa-f]{0,6}", "--receiver", "at most six hexadecimal digits")
        check(self.line, r"[0-9A-Fa-f]{0,6}", "--line", "at most six hexadecimal digits")
        if self.udp and self.tls:
            raise typer.BadParameter("TLS runs over TCP: choose one of --udp and --tls", param_hint="--udp")
        alone = [name for name in ("ca", "insecure", "certificate", "private_key") if getattr(self, name)]
        if alone and not self.tls:
            raise typer.BadParameter("it says something about TLS: add --tls", param_hint=f"--{alone[0].replace('_', '-')}")
        if self.key and not self.timestamp:
            raise typer.BadParameter("an encrypted frame must say when it was sent", param_hint="--no-timestamp")
        check(self.dialect, "|".join(get_args(Dialect)), "--dialect", f"one of {DIALECTS}")
        assert self.place
        return read_key(self.key) if self.key else b""


PORT_MAX: Final = 65535


def check(value: str, pattern: str, option: str, wanted: str) -> None:
    """Raise BadParameter where the whole value does not have the pattern."""
    if not re.fullmatch(pattern, value):
        raise typer.BadParameter(f"{value!r}: {wanted}", param_hint=option)


def place_of(written: str, option: str) -> tuple[str, int]:
    """Return host and port of HOST:PORT; 0, any free port, is for where we listen. Raises BadParameter."""
    host, _, port = written.rpartition(":")
    if not host or not port.isdecimal() or not (option != "--listen") <= int(port) <= PORT_MAX:
        raise typer.BadParameter(f"{written!r}: write HOST:PORT, as 127.0.0.1:12000 or [::1]:12000", param_hint=option)
    return host.removeprefix("[").removesuffix("]"), int(port)


def event_of(  # noqa: PLR0913, PLR0917 - an event's fields
    account: str, format_: str, code: str, qualifier: Qualifier | None, partition: str, zone: str, text: str = ""
) -> Event:
    """Return an event as its options say it. format_: "sia" or "cid". Raises BadParameter for what no panel can send."""
    check(text, r"[^][|^\r\n]*", "--text", r"it may not hold [ ] | ^ or a line's end: they would end the text in the frame")
    check(zone, r"[0-9]*", "--zone", "digits")
    check(partition, r"[0-9A-Fa-f]*", "--partition", "digits")
    code = code.upper()
    if format_ == "sia":
        check(code, r"[A-Z]{2}", "--code", "with --format sia it is two letters, as BA")
        if qualifier:
            raise typer.BadParameter("an SIA code says it itself: BA is new, BR its restore", param_hint="--qualifier")
    else:
        check(code, r"[0-9B-F]{3}", "--code", "with --format cid it is three digits, as 130")
        check(zone, r"[0-9]{0,3}", "--zone", "with --format cid it has at most three digits")
        check(partition, r"[0-9B-F]{0,2}", "--partition", "with --format cid it has at most two digits")
    known = codes.sia(code) if format_ == "sia" else codes.contact_id(code)
    is_user = known is not None and known.address == "user"
    return Event(
        account,
        Format.SIA if format_ == "sia" else Format.CONTACT_ID,
        code,
        qualifier or Qualifier.NEW,
        known.category if known else Category.UNKNOWN,
        partition=partition or None,
        zone=None if is_user else zone or None,
        user=zone or None if is_user else None,
        text=text or None,
    )


def shared(options: type[T]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """
    Give a verb the fields of a Struct as options of its own; its parameter `options` gets them in one value.

    typer reads a verb's options from its signature, and knows no groups of options: so the signature is put together here.
    """

    def give(verb: Callable[..., None]) -> Callable[..., None]:
        types = get_type_hints(options, include_extras=True)
        given = {
            field.name: inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if field.required else field.default,
                annotation=types[field.name],
            )
            for field in msgspec.structs.fields(options)
        }
        own = [each for each in inspect.signature(verb).parameters.values() if each.name != "options"]

        @functools.wraps(verb)
        def called(**values: Any) -> None:  # noqa: ANN401 - what the verb and the Struct declare
            verb(options=options(**{name: values.pop(name) for name in given}), **values)

        parameters = sorted([*given.values(), *own], key=lambda each: each.default is not inspect.Parameter.empty)
        called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] # what inspect and typer read
        called.__annotations__ = {each.name: each.annotation for each in parameters}
        return called

    return give
