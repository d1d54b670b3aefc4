"""
TLS for a listener: its certificate, taken anew when its files change, and the handshake before a session's first byte.

    Certificates.context -> Secured.connection_made() -> handshake -> a Session like any other

A certificate that is taken anew cuts no connection: those that are there keep what they agreed on.
"""

import asyncio
import ssl
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509

from protocols.link import Link
from receiver.config import Listener
from receiver.conversation import Intake
from receiver.session import Session

HANDSHAKE_S_MAX: Final = 10.0
SHUTDOWN_S_MAX: Final = 2.0
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


class Secured(Session):
    """A session whose bytes go through TLS. Until the handshake is over it is bounded and swept like any that sent no frame."""

    def __init__(
        self,
        link: Link,
        intake: Intake,
        on_begin: Callable[[Session], None],
        on_end: Callable[[Session], None],
        certificates: Certificates,
    ) -> None:
        """certificates: those of the moment it begins are shown."""
        super().__init__(link, intake, on_begin, on_end)
        self._certificates = certificates
        self._early: list[bytes] | None = []
        """What came right behind the handshake, before we knew that it was over; None from then on."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake."""
        super().connection_made(transport)
        if not transport.is_closing():
            self.transport.pause_reading()  # or what comes now would be read as plain text
            self._shaking = asyncio.get_running_loop().create_task(self._shake_hands())

    async def _shake_hands(self) -> None:
        context = self._certificates.context
        try:
            secured = await asyncio.get_running_loop().start_tls(
                self.transport,
                self,
                context,
                server_side=True,
                ssl_handshake_timeout=HANDSHAKE_S_MAX,
                ssl_shutdown_timeout=SHUTDOWN_S_MAX,
            )
        except OSError as error:
            self._refuse(error)
            return
        assert secured
        self.transport = secured
        if self._ending:
            secured.pause_reading()
        self._hear_early()

    def _hear_early(self) -> None:
        early, self._early = self._early or [], None
        for data in early:
            super().data_received(data)

    def data_received(self, data: bytes) -> None:
        """Have it read at the end of this turn, once the handshake is over."""
        if self._early is None:
            super().data_received(data)
        else:
            self._early.append(data)

    def _refuse(self, error: OSError) -> None:
        """Say why the handshake failed."""
        reason = getattr(error, "reason", None) or ""
        detail = getattr(error, "verify_message", "")
        why = _REASONS.get(reason, str(error) or "it hung up in the handshake") + (detail and f": {detail}")
        self._intake.counts["tls_refused"] += 1
        self._intake.lines.tell("tls_refused", self.host, why, listener=self._intake.listener, peer=self.peer, why=why)
        self.transport.abort()
        self.connection_lost(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """End, with or without a handshake."""
        self._hear_early()
        super().connection_lost(exc)
