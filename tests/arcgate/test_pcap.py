"""Captures of tcpdump and Wireshark: streams in order, datagrams, the ends of files."""

import struct
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from arcgate.pcap import is_capture, payloads

AT = datetime(2026, 11, 22, 15, 0, 21, tzinfo=UTC)
PEER = "192.0.2.1:5000 > 192.0.2.9:12000"


def tcp(sequence: int, data: bytes = b"", *, flags: int = 0x18) -> bytes:
    return struct.pack("!HHIIBBHHH", 5000, 12000, sequence & 0xFFFFFFFF, 0, 0x50, flags, 0, 0, 0) + data


def udp(data: bytes) -> bytes:
    return struct.pack("!HHHH", 5000, 12000, 8 + len(data), 0) + data


def ipv4(segment: bytes, protocol: int = 6, *, fragment: int = 0) -> bytes:
    ends = ip_address("192.0.2.1").packed + ip_address("192.0.2.9").packed
    return struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(segment), 0, fragment, 64, protocol, 0) + ends + segment


def ipv6(segment: bytes, protocol: int = 6) -> bytes:
    ends = ip_address("2001:db8::1").packed + ip_address("2001:db8::9").packed
    return struct.pack("!IHBB", 0x60000000, len(segment), protocol, 64) + ends + segment


def ethernet(packet: bytes) -> bytes:
    return bytes(12) + (b"\x08\0" if packet[0] >> 4 == 4 else b"\x86\xdd") + packet + b"\0\0"  # padded, as short ones are


def pcap(*packets: bytes, link_type: int = 1, order: str = "<", nano: bool = False) -> bytes:
    """A packet a second."""
    magic = struct.pack(order + "I", 0xA1B23C4D if nano else 0xA1B2C3D4)
    file = magic + struct.pack(order + "HHiIII", 2, 4, 0, 0, 65535, link_type)
    for n, packet in enumerate(packets):
        fraction = 500_000_000 if nano else 500_000
        file += struct.pack(order + "IIII", int(AT.timestamp()) + n, fraction, len(packet), len(packet)) + packet
    return file


def pcapng(*packets: bytes, resolution: int = 6) -> bytes:
    options = struct.pack("<HHB3xHH", 9, 1, resolution, 0, 0)
    blocks = [(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)), (1, struct.pack("<HHI", 1, 0, 0) + options)]
    for packet in packets:
        stamp = int(AT.timestamp()) * 10**resolution
        padded = packet + bytes(-len(packet) % 4)
        blocks.append((6, struct.pack("<IIIII", 0, stamp >> 32, stamp & 0xFFFFFFFF, len(packet), len(packet)) + padded))
    return b"".join(struct.pack("<II", kind, 12 + len(body)) + body + struct.pack("<I", 12 + len(body)) for kind, body in blocks)


def stream(file: bytes) -> bytes:
    return b"".join(data for _, _, data, _ in payloads(file))


def test_a_stream_is_put_in_order_and_nothing_comes_twice() -> None:
    start = 0xFFFFFFFA  # it wraps
    packets = [
        tcp(start, flags=2),
        tcp(start + 1, b"abc"),
        tcp(start + 7, b"ghi"),
        tcp(start + 1, b"abc"),
        tcp(start + 4, b"def"),
    ]
    packets += [tcp(start + 8, b"hijkl"), tcp(start + 13, flags=1)]
    for order in "<>":
        for nano in (False, True):
            file = pcap(*(ethernet(ipv4(packet)) for packet in packets), order=order, nano=nano)
            assert is_capture(file)
            told = list(payloads(file))
            assert [data for _, _, data, _ in told] == [b"abc", b"def", b"ghi", b"jkl"]
            assert {peer for peer, _, _, _ in told} == {PEER}
            assert told[0][1] == AT + timedelta(seconds=1.5)


def test_both_ways_of_a_connection_are_two_peers_and_it_may_begin_in_the_middle() -> None:
    back = struct.pack("!HHIIBBHHH", 12000, 5000, 70, 0, 0x50, 0x18, 0, 0, 0) + b"reply"
    told = list(payloads(pcapng(ethernet(ipv6(tcp(9, b"frame"))), ethernet(ipv6(back)))))
    assert [(peer, data) for peer, _, data, _ in told] == [
        ("[2001:db8::1]:5000 > [2001:db8::9]:12000", b"frame"),
        ("[2001:db8::1]:12000 > [2001:db8::9]:5000", b"reply"),
    ]
    assert told[0][1] == AT


def test_a_datagram_is_whole() -> None:
    for link_type, head in (
        (101, b""),
        (0, bytes(4)),
        (113, bytes(16)),
        (276, bytes(20)),
        (1, bytes(12) + b"\x81\0\0\x05\x08\0"),
    ):
        file = pcap(head + ipv4(udp(b"frame"), 17), link_type=link_type)
        assert [(peer, data, whole) for peer, _, data, whole in payloads(file)] == [(PEER, b"frame", True)]


def test_what_cannot_be_heard_is_left_out_and_a_gap_is_given_up() -> None:
    others = [ipv4(tcp(1, b"x"), fragment=0x2000), ipv4(b"", 1), b"\x08\x06", ipv4(b"short"), b""]
    assert stream(pcap(*map(ethernet, filter(None, others)))) == b""
    assert stream(pcap(ipv4(udp(b"x"), 17), link_type=195)) == b""
    lost = [tcp(1, b"a"), *(tcp(3 + n, b"c") for n in range(65))]
    assert stream(pcap(*(ethernet(ipv4(packet)) for packet in lost))) == b"a" + b"c" * 65


def test_a_packet_that_is_too_short_for_its_addresses_is_left_out() -> None:
    """Its header says that it has none: it took all that stood behind it along."""
    damaged = b"\x40" + ipv4(udp(b""), 17)[1:19]
    assert [data for _, _, data, _ in payloads(pcap(damaged, ipv4(udp(b"frame"), 17), link_type=101))] == [b"frame"]


def test_an_option_that_is_cut_off_before_its_value_is_none() -> None:
    cut = pcapng(ethernet(ipv4(udp(b"x"), 17)))
    begin = cut.index(struct.pack("<HHB", 9, 1, 6))
    size = begin + 4 - 28 + 4
    cut = cut[:32] + struct.pack("<I", size) + cut[36 : begin + 4] + struct.pack("<I", size) + cut[begin + 16 :]
    ((_, at, data, _),) = payloads(cut)
    assert (at, data) == (AT, b"x")


def test_resolutions_of_pcapng_are_heeded() -> None:
    for resolution in (3, 6, 9):
        ((_, at, _, _),) = payloads(pcapng(ethernet(ipv4(udp(b"x"), 17)), resolution=resolution))
        assert at == AT


@given(
    st.binary(max_size=200), st.sampled_from([pcap(), pcapng(), pcap(ethernet(ipv4(tcp(1, b"a")))), pcapng(ethernet(b"\x45"))])
)
def test_a_damaged_file_ends_or_is_refused_in_words(noise: bytes, begun: bytes) -> None:
    for file in (begun + noise, begun[:30] + noise, begun[:10]):
        if is_capture(file):
            try:
                list(payloads(file))
            except ValueError as error:
                assert "pcap" in str(error)  # noqa: PT017 - it may, it need not
