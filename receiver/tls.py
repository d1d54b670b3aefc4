"""
TLS for a listener: its certificate, taken anew when its files change, and the sessions that speak it.

    bytes -> Secured -> Certificates.context -> handshake, then what was said -> a Session like any other

A certificate that is taken anew cuts no connection: those that are there keep what they agreed on.
"""

import asyncio
import ssl
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509

from protocols.link import Link
from receiver.config import Listener
from receiver.conversation import Intake
from receiver.session import Session

HANDSHAKE_S_MAX: Final = 10.0
_PIECE_BYTES: Final = 64 * 1024
_REASONS: Final = {
    "HTTP_REQUEST": "it speaks plain HTTP",
    "WRONG_VERSION_NUMBER": "it speaks no TLS: set the panel to TLS, or give it a port that is plain",
    "UNSUPPORTED_PROTOCOL": "its TLS is older than 1.2",
    "VERSION_TOO_LOW": "its TLS is older than 1.2",
    "NO_SHARED_CIPHER": "it knows none of the ciphers that are safe today",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it shows no certificate, and client_ca wants one",
    "CERTIFICATE_VERIFY_FAILED": "its certificate is refused",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not trust our certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it does not trust our certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it does not trust our certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it says that our certificate has expired",
}
"""OpenSSL's words for what went wrong, in ours."""


class TlsError(Exception):
    """A listener's file cannot be used; `key` is its key in arcgate.toml, the message says why, and what to do."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


class Certificates:
    """What a listener shows, and whom it asks for a certificate."""

    def __init__(self, listener: Listener) -> None:
        """Read the files; raises TlsError."""
        assert listener.certificate
        assert listener.private_key
        self._files = {"certificate": listener.certificate, "private_key": listener.private_key}
        if listener.client_ca:
            self._files["client_ca"] = listener.client_ca
        self.load()

    def load(self) -> None:
        """Read them anew; raises TlsError, and then what was read before stays."""
        self._read = self._looked = self._look()
        self.context, self.until = self._make()

    def changed(self) -> bool:
        """Whether the files have changed since they were read, and not any more since this was asked last: two make a pair."""
        before, self._looked = self._looked, self._look()
        return self._read != self._looked == before

    def _look(self) -> list[tuple[int, int, int] | None]:
        return [_look(Path(file)) for file in self._files.values()]

    def _make(self) -> tuple[ssl.SSLContext, datetime]:
        certificate, key = self._files["certificate"], self._files["private_key"]
        chains = {name: _read(name, Path(file)) for name, file in self._files.items()}
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION
        try:
            context.load_cert_chain(certificate, key, password=lambda: "")
        except (OSError, ValueError) as error:
            other = "KEY_VALUES_MISMATCH" in str(error)
            why = f"is not the key of {certificate}" if other else "holds no private key in PEM, or one with a passphrase"
            raise TlsError("private_key", f"{key}: {why}") from error
        if "client_ca" in self._files:
            context.load_verify_locations(self._files["client_ca"])
            context.verify_mode = ssl.CERT_REQUIRED
        return context, chains["certificate"][0].not_valid_after_utc


def _read(name: str, file: Path) -> list[x509.Certificate]:
    """Read the certificates of a file; of a private key, none: but see that it is one's own."""
    try:
        content = file.read_bytes()
        if name != "private_key":
            return x509.load_pem_x509_certificates(content)
        if file.stat().st_mode & 0o007:
            raise TlsError(name, f"{file}: everybody may read it: chmod 640")
    except OSError as error:
        raise TlsError(name, f"{file}: {error.strerror}: may the user of arcgate read it?") from error
    except ValueError as error:
        raise TlsError(name, f"{file}: holds no certificate in PEM") from error
    return []


def _look(file: Path) -> tuple[int, int, int] | None:
    try:
        seen = file.stat()
    except OSError:
        return None
    return seen.st_ino, seen.st_mtime_ns, seen.st_size


def mistakes(listeners: Iterable[Listener]) -> Iterator[tuple[str, str]]:
    """Look at the files of each listener; gives the key and what is wrong with it."""
    for n, listener in enumerate(listeners):
        if listener.transport == "tls":
            try:
                Certificates(listener)
            except TlsError as error:
                yield f"listener[{n}].{error.key}", str(error)


class Secured(Session):
    """
    A session whose bytes go through TLS: from its first byte on it is bounded, swept and slowed down as any other.

    The loop's own TLS would hand it over after the handshake only, and tell nobody of one that failed.
    """

    def __init__(
        self,
        link: Link,
        intake: Intake,
        on_begin: Callable[[Session], None],
        on_end: Callable[[Session], None],
        certificates: Certificates,
    ) -> None:
        """certificates: those of this moment are shown."""
        super().__init__(link, intake, on_begin, on_end)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = certificates.context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._shaking: asyncio.TimerHandle | None = None
        """What ends a handshake that takes too long; None when it is over."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the peer's hello."""
        self._shaking = asyncio.get_running_loop().call_later(HANDSHAKE_S_MAX, self._refuse, TimeoutError())
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Go on with the handshake; then have what was said read at the end of this turn."""
        if self.transport.is_closing():
            return
        self._incoming.write(data)
        try:
            if self._shaking:
                self._tls.do_handshake()
                self._shaking.cancel()
                self._shaking = None
            while plain := self._tls.read(_PIECE_BYTES):
                super().data_received(plain)
            if not self.eof_received():
                self.leave()
        except ssl.SSLWantReadError:
            self._put_out()
        except ssl.SSLError as error:
            self._put_out()  # the alert that tells it why
            self._refuse(error)

    def send(self, reply: bytes, answers: int) -> None:
        """Send a reply of so many answers to whoever is still there."""
        if reply and not self.transport.is_closing():
            self._intake.counts["answered"] += answers
            self._tls.write(reply)
            self._put_out()

    def _put_out(self) -> None:
        if self._outgoing.pending and not self.transport.is_closing():
            self.transport.write(self._outgoing.read())

    def _refuse(self, error: OSError) -> None:
        """Say what is wrong with its TLS, and end it."""
        reason = getattr(error, "reason", None) or ""
        detail = getattr(error, "verify_message", "")
        late = f"no handshake in {HANDSHAKE_S_MAX:g} s"
        why = late if isinstance(error, TimeoutError) else _REASONS.get(reason, str(error)) + (detail and f": {detail}")
        self._intake.counts["tls_refused"] += 1
        self._intake.lines.tell("tls_refused", self.host, why, listener=self._intake.listener, peer=self.peer, why=why)
        self.transport.close()

    def leave(self) -> None:
        """Say that we end, and end."""
        with suppress(ssl.SSLError):  # the peer's own word on it is not waited for
            self._tls.unwrap()
        self._put_out()
        super().leave()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        if self._shaking:
            self._shaking.cancel()
        super().connection_lost(exc)
