"""
Tell systemd how we are: READY, STOPPING and WATCHDOG, where it asked to be told.

The protocol is one datagram to $NOTIFY_SOCKET [sd_notify(3)].
"""

import os
import socket


def notify(state: str) -> None:
    """Send a state such as "READY=1"; does nothing where nobody asked. Never raises: systemd will notice the silence."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to:
            to.connect(address)
            to.sendall(state.encode())
    except OSError:
        return


def watchdog_s() -> float | None:
    """Return how often systemd wants to hear WATCHDOG=1, in seconds: half its limit; None where it does not ask."""
    limit_us = os.environ.get("WATCHDOG_USEC", "")
    return int(limit_us) / 2_000_000 if limit_us.isdecimal() and int(limit_us) else None
