"""
pcap and pcapng, as tcpdump and Wireshark write them: only what is needed to hear TCP and UDP as a receiver did.

    file -> packets (link type, time, bytes) -> IP -> UDP datagram, or TCP stream put in order

A capture is cut, doubled and out of order as networks are; what cannot be read is left out. No fragments, no tunnels.
"""

import struct
from collections.abc import Iterator
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Final

_PCAP: Final = {
    b"\xd4\xc3\xb2\xa1": ("<", 10**6),
    b"\xa1\xb2\xc3\xd4": (">", 10**6),
    b"\x4d\x3c\xb2\xa1": ("<", 10**9),
    b"\xa1\xb2\x3c\x4d": (">", 10**9),
}
"""Magic number: byte order, and what a second is divided into."""
_PCAPNG: Final = b"\n\r\r\n"
_ORDERS: Final = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
_IP_AT: Final = {0: 4, 108: 4, 1: 14, 113: 16, 276: 20, 12: 0, 14: 0, 101: 0, 228: 0, 229: 0}
"""Link type: where its IP packet begins: loopback, Ethernet, Linux "any" (two versions), raw IP."""
_ETHERNET: Final = 1
_VLAN: Final = {b"\x81\x00", b"\x88\xa8"}
_TCP, _UDP = 6, 17
_SYN, _FIN, _RST = 2, 1, 4
_EARLY_MAX: Final = 64
"""So many segments that came before their turn are kept; then what is missing is given up."""


def is_capture(data: bytes) -> bool:
    """Say whether a file begins as pcap or pcapng does."""
    return data[:4] in _PCAP or (data[:4] == _PCAPNG and data[8:12] in _ORDERS)


def payloads(data: bytes) -> Iterator[tuple[str, datetime, bytes, bool]]:
    """
    Give what was sent: peer (`from > to`), time, bytes, and whether nothing of it follows, as with a datagram.

    Raises ValueError where the file breaks off in its header.
    """
    streams: dict[tuple[bytes, ...], _Stream] = {}
    packets = _pcapng(data) if data[:4] == _PCAPNG else _pcap(data)
    for link_type, at, packet in packets:
        try:
            protocol, ends, segment = _ip(link_type, packet)
        except (struct.error, LookupError, ValueError):
            continue
        if protocol == _UDP and len(segment) > 8:  # noqa: PLR2004 - the header
            yield _peer(ends, segment), at, segment[8 : struct.unpack_from("!H", segment, 4)[0]], True
        elif protocol == _TCP and len(segment) >= 20:  # noqa: PLR2004 - the header
            flow = (*ends, segment[:4])
            sequence, offset, flags = struct.unpack_from("!4xI4xBB", segment)
            if flags & _SYN or flow not in streams:
                streams[flow] = _Stream(sequence + 1 if flags & _SYN else sequence)
            for part in streams[flow].take(sequence + bool(flags & _SYN), segment[(offset >> 4) * 4 :]):
                yield _peer(ends, segment), at, part, False
            if flags & _RST:
                streams.pop(flow)


class _Stream:
    """One way of a TCP connection, put in order."""

    def __init__(self, sequence: int) -> None:
        self._next = sequence & 0xFFFFFFFF
        self._early: dict[int, bytes] = {}

    def take(self, sequence: int, data: bytes) -> Iterator[bytes]:
        """Take a segment, and give what now follows on what was given."""
        if data:
            self._early[sequence & 0xFFFFFFFF] = data
        while True:
            for start, kept in list(self._early.items()):
                behind = (self._next - start) & 0xFFFFFFFF
                if behind < len(kept):
                    del self._early[start]
                    self._next = (start + len(kept)) & 0xFFFFFFFF
                    yield kept[behind:]
                    break
                if behind < 0x80000000:  # noqa: PLR2004 - half of the numbers: it lies behind us, a retransmission
                    del self._early[start]
            else:
                if len(self._early) <= _EARLY_MAX:
                    return
                self._next = min(self._early, key=lambda start: (start - self._next) & 0xFFFFFFFF)


def _pcap(data: bytes) -> Iterator[tuple[int, datetime, bytes]]:
    order, parts = _PCAP[data[:4]]
    if len(data) < 24:  # noqa: PLR2004 - the header
        raise ValueError("the pcap file ends in its header")
    link_type = struct.unpack_from(order + "I", data, 20)[0] & 0xFFFF
    position = 24
    while position + 16 <= len(data):
        seconds, fraction, captured = struct.unpack_from(order + "III", data, position)
        yield link_type, _moment(seconds + fraction / parts), data[position + 16 : position + 16 + captured]
        position += 16 + captured


def _pcapng(data: bytes) -> Iterator[tuple[int, datetime, bytes]]:
    order, position = "<", 0
    interfaces: list[tuple[int, int]] = []
    while position + 12 <= len(data):
        if data[position : position + 4] == _PCAPNG:
            order, interfaces = _ORDERS.get(data[position + 8 : position + 12], order), []
        kind, size = struct.unpack_from(order + "II", data, position)
        if size < 12 or size % 4:  # noqa: PLR2004 - kind and twice the size
            raise ValueError(f"the pcapng file is damaged at byte {position}")
        block = data[position + 8 : position + size - 4]
        if kind == 1 and len(block) >= 8:  # noqa: PLR2004 - an interface's description
            interfaces.append((struct.unpack_from(order + "H", block)[0], _resolution(block[8:], order)))
        elif kind == 6 and len(block) >= 20:  # noqa: PLR2004 - an enhanced packet
            interface, high, low, captured = struct.unpack_from(order + "IIII", block)
            if interface < len(interfaces):
                link_type, parts = interfaces[interface]
                yield link_type, _moment((high << 32 | low) / parts), block[20 : 20 + captured]
        position += size


def _resolution(options: bytes, order: str) -> int:
    """Return what a second is divided into: option 9, a power of 10, or of 2 with the top bit set; else microseconds."""
    position = 0
    while position + 4 <= len(options):
        code, length = struct.unpack_from(order + "HH", options, position)
        value = options[position + 4 : position + 4 + length]
        if code == 9 and length == len(value) == 1:  # noqa: PLR2004 - if_tsresol
            power = value[0]
            return int((2 if power & 0x80 else 10) ** (power & 0x7F))
        position += 4 + (length + 3) // 4 * 4
    return 10**6


def _ip(link_type: int, packet: bytes) -> tuple[int, tuple[bytes, bytes], bytes]:
    """Return the protocol, the two addresses and what IP carries. Raises where it is no IP."""
    at = _IP_AT[link_type]
    while link_type == _ETHERNET and packet[at - 2 : at] in _VLAN:
        at += 4
    version = packet[at] >> 4
    if version == 4:  # noqa: PLR2004 - IPv4
        length, fragment = struct.unpack_from("!2xH2xH", packet, at)
        if fragment & 0x3FFF:
            raise ValueError("a fragment")
        end = at + length if length else len(packet)  # 0: the network card cuts it, later
        header = (packet[at] & 15) * 4
        if header < 20:  # noqa: PLR2004 - up to the second address
            raise ValueError("a header without its addresses")
        begin = at + header
        return packet[at + 9], (packet[at + 12 : at + 16], packet[at + 16 : at + 20]), packet[begin:end]
    if version == 6:  # noqa: PLR2004 - IPv6
        length = struct.unpack_from("!4xH", packet, at)[0]
        end = at + 40 + length if length else len(packet)
        return packet[at + 6], (packet[at + 8 : at + 24], packet[at + 24 : at + 40]), packet[at + 40 : end]
    raise ValueError("no IP packet")


def _peer(ends: tuple[bytes, bytes], segment: bytes) -> str:
    places = []
    for address, port in zip(ends, struct.unpack_from("!HH", segment), strict=True):
        host = ip_address(address)
        places.append(f"{host}:{port}" if host.version == 4 else f"[{host}]:{port}")  # noqa: PLR2004 - IPv4
    return " > ".join(places)


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(min(seconds, 253402300799), UTC)
