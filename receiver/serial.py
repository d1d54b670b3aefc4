"""
A serial line to a receiver.

    address = "/dev/ttyUSB0", speed, parity, bits, stop_bits -> port -> Session

A port vanishes when its adaptor is pulled: what was not answered is repeated by the receiver when it is back.
"""

import asyncio
import termios
from contextlib import suppress
from typing import Final

import serial
from serial_asyncio_fast import connection_for_serial

from receiver.attach import AttachedListener
from receiver.session import Session

SPEED: Final = 9600
BITS: Final = 8
STOP_BITS: Final = 1
"""What holds where nothing is said: 9600 8N1. The MLR2 has 1200 7E1, the MLR2E 19200 7E1, the MLR2000 9600 8N1."""
_PARITIES: Final = {"none": serial.PARITY_NONE, "even": serial.PARITY_EVEN, "odd": serial.PARITY_ODD}


class SerialListener(AttachedListener):
    """`transport = "serial"`."""

    def make(self) -> Session:
        """Return a session for a port that was opened."""
        return SerialSession(self.link(), self.intake, self.begin, self.end)

    async def attach(self) -> None:
        """Open the port, for us alone. Raises OSError or ValueError."""
        line = self.listener
        parity = _PARITIES[line.parity or "none"]
        try:
            port = _Port(
                line.address, line.speed or SPEED, line.bits or BITS, parity, line.stop_bits or STOP_BITS, exclusive=True
            )
        except termios.error as error:
            raise OSError(f"its speed, parity and bits cannot be set: {error.args[-1]}") from error
        await connection_for_serial(asyncio.get_running_loop(), self.make, port)
        await asyncio.sleep(0)  # the session is told in the loop's next turn
        await asyncio.sleep(0)


class _Port(serial.Serial):  # type: ignore[misc] # pyserial has no types
    """
    A port that makes parity errors seen: a sign that came wrong is read as NUL, so that its line is visibly damaged.

    One that knows no parity, as a pseudo-terminal, is told of it when it is opened, and refuses to be told again.
    """

    def _reconfigure_port(self, force_update: bool = False) -> None:  # noqa: FBT001, FBT002 - pyserial's own
        with suppress(*(() if force_update else (termios.error,))):
            super()._reconfigure_port(force_update)
            settings = termios.tcgetattr(self.fd)
            if self.parity != serial.PARITY_NONE and not settings[0] & termios.INPCK:
                settings[0] |= termios.INPCK
                termios.tcsetattr(self.fd, termios.TCSANOW, settings)


class SerialSession(Session):
    """A session over a serial port: there is no peer's address, and no socket to ask."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        super().connection_made(transport)
        self.peer = transport.get_extra_info("serial").port

    @property
    def answers_arrived(self) -> bool:
        """Whether the port has sent all our answers."""
        if self.transport.is_closing():
            return True
        try:
            return not self.transport.get_write_buffer_size() and not self.transport.get_extra_info("serial").out_waiting
        except OSError:  # it has vanished
            return True
