"""What all receivers' links share: what a retransmission is, and which event is a heartbeat."""

from datetime import datetime

from protocols import contact_id
from protocols.event import Qualifier
from protocols.lines import REPEAT_S, contact_id_columns, contact_id_content, positions
from protocols.link import LinkTest, Message, Policy
from protocols.surgard import SurGard, build
from tests.protocols.lines import NOW, later

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


def test_an_event_can_be_printed_as_a_receiver_prints_it() -> None:
    frame = SurGard().explain(RESTORE)
    assert frame
    (event,) = contact_id.parse(contact_id_content(frame), frame.account, frame.receiver, frame.line)
    columns = {"kind": "contact_id", "receiver": "01", "line": "1", "account": "1234", "message_type": "18"}
    assert build(type(frame)(**columns | contact_id_columns(event))) == RESTORE


def test_high_speed_digits_name_their_channels() -> None:
    assert positions("5155 3556") == [("2", Qualifier.NEW), ("5", Qualifier.RESTORE), ("8", Qualifier.STATUS)]
