"""What all receivers' links share: what a retransmission is, and which event is a heartbeat."""

from datetime import datetime

import msgspec
import pytest

from protocols import AnyProtocol
from protocols.ademco685 import Ademco685
from protocols.bosch import Bosch
from protocols.cp220 import Cp220
from protocols.event import Category, Event, Format, Qualifier
from protocols.lines import REPEAT_S, positions
from protocols.link import LINE, LinkTest, Message, Policy, Prints
from protocols.surgard import SurGard
from tests.protocols.lines import NOW, events, later, receive

ALARM = b"5011 181234E13001004\x14"
RESTORE = b"5011 181234R13001004\x14"
BEAT = b"1011           @    \x14"


def identities(*sent: tuple[bytes, datetime]) -> list[str]:
    link = SurGard().link()
    items = [item for data, now in sent for item in link.receive(data, now)]
    return [item.identity for item in items if isinstance(item, Message)]


def test_a_line_sent_again_is_a_retransmission_whatever_heartbeats_stand_between() -> None:
    first, again, third = identities((ALARM, NOW), (ALARM, later(4)), (BEAT, later(8)), (ALARM, later(30)))
    assert first == again == third


def test_a_line_sent_again_on_a_new_connection_is_a_retransmission() -> None:
    assert identities((ALARM, NOW)) == identities((ALARM, later(10)))
    assert identities((ALARM, NOW))[0].startswith(LINE), "dispatch knows that it has no sequence number"


def test_the_same_line_after_another_report_or_much_later_is_a_new_event() -> None:
    first, _, other, again = identities((ALARM, NOW), (RESTORE, later(1)), (ALARM, later(2)), (ALARM, later(6)))
    assert first != other == again
    first, other = identities((ALARM, NOW), (ALARM, later(REPEAT_S + 1)))
    assert first != other


def test_an_event_that_the_centre_calls_a_heartbeat_is_a_link_test() -> None:
    line = b"5011 181234E60200000\x14"
    link = SurGard().link(lambda *_: Policy(heartbeat=frozenset({"602"})))
    (item,) = link.receive(line, NOW)
    assert isinstance(item, LinkTest)
    assert (item.account, item.receiver, item.line, item.reply) == ("1234", "01", "1", b"\x06")
    assert isinstance(link.receive(ALARM, NOW)[0], Message)


CONTACT_ID = Event("1234", Format.CONTACT_ID, "401", Qualifier.RESTORE, Category.CLOSING, "2", "3", "01", None, "005")
SIA = Event("1234", Format.SIA, "BA", Qualifier.NEW, Category.BURGLARY, "02", "3", "1", "12")
PRINTERS: list[tuple[AnyProtocol, bytes]] = [
    (SurGard(), b"5023 181234R40101005\x14"),
    (SurGard(end="cr"), b"5023 181234R40101005\r"),
    (Ademco685(), b"\n23 1234 18 R401 01 U005\r"),
    (Cp220(header="H", end="T"), b"H23 1234 18 R401 01 U005T"),
    (Bosch(), b"a023 123418R40101005\x14"),
]


@pytest.mark.parametrize(("protocol", "line"), PRINTERS, ids=lambda of: type(of).__name__)
def test_an_event_can_be_printed_as_a_receiver_prints_it(protocol: AnyProtocol, line: bytes) -> None:
    assert isinstance(protocol, Prints)
    assert protocol.line_of(CONTACT_ID) == line
    (item,) = receive(protocol, line)
    assert msgspec.structs.replace(events(item)[0], receiver="2") == CONTACT_ID
    (beat,) = receive(protocol, protocol.heartbeat("2", "3"))
    assert isinstance(beat, LinkTest)
    with pytest.raises(ValueError, match="account"):
        protocol.line_of(msgspec.structs.replace(CONTACT_ID, account="12 4"))


def test_sia_is_printed_by_a_sur_gard_alone() -> None:
    assert SurGard().line_of(SIA) == b"S023[#1234|Nri1/BA12]\x14"
    assert events(receive(SurGard(), SurGard().line_of(SIA))[0]) == (SIA,)
    for protocol in (Ademco685(), Cp220(), Bosch()):
        with pytest.raises(ValueError, match="Contact ID alone"):
            protocol.line_of(SIA)


def test_high_speed_digits_name_their_channels() -> None:
    assert positions("5155 3556") == [("2", Qualifier.NEW), ("5", Qualifier.RESTORE), ("8", Qualifier.STATUS)]
