"""The power model against a brute-force reading of its rules, and the other pure parts of the board."""

from hypothesis import given
from hypothesis import strategies as st
from serial import rfc2217

from rig.errors import BenchError
from rig.formats.nvs import NvsValue
from rig.virtual.board import power
from rig.virtual.board.application import nvs_text, parse_message
from rig.virtual.board.power import Change, Demand, airtime_ns
from rig.virtual.board.rfc2217_port import ControlLines, PortManager

MS = 1_000_000
IDLE = power.WIFI_IDLE_CURRENT_A


def test_one_datagram_is_airtime_then_receiver_then_idle() -> None:
    demand = Demand(0, 0.0)
    demand.state(1 * MS, IDLE, radio=True)
    demand.transmit(5 * MS, 650)
    end = 5 * MS + 140_000 + 80_000
    assert demand.take(30 * MS) == [
        Change(0, 0.0),
        Change(1 * MS, IDLE),
        Change(5 * MS, 276e-3),
        Change(end, 84e-3),
        Change(end + 10 * MS, IDLE),
    ]
    assert demand.next_change_ns() is None


def test_datagrams_queue_for_the_transmitter_and_keep_the_receiver_on() -> None:
    demand = Demand(0, IDLE)
    demand.transmit(1 * MS, 65)
    demand.transmit(1 * MS, 65)
    demand.receive(4 * MS)
    ends = 1 * MS + 2 * airtime_ns(65)
    assert demand.take(100 * MS)[1:] == [Change(1 * MS, 276e-3), Change(ends, 84e-3), Change(14 * MS, IDLE)]


def test_going_to_sleep_cuts_the_radio() -> None:
    demand = Demand(0, IDLE)
    demand.receive(1 * MS)
    demand.state(2 * MS, 5e-6, radio=False)
    assert demand.take(100 * MS)[1:] == [Change(1 * MS, 84e-3), Change(2 * MS, 5e-6)]


def test_an_event_that_comes_late_takes_effect_at_the_last_change() -> None:
    demand = Demand(0, IDLE)
    demand.receive(10 * MS)
    demand.take(30 * MS)
    demand.state(5 * MS, 5e-6, radio=False)
    assert demand.take(30 * MS) == [Change(20 * MS, 5e-6)]


kinds = st.sampled_from(["tx", "rx", "idle", "sleep"])


@given(st.lists(st.tuples(st.integers(0, 15 * MS), kinds, st.integers(0, 1500), st.booleans()), max_size=30))
def test_current_is_what_the_rules_say_at_every_instant(steps: list[tuple[int, str, int, bool]]) -> None:
    demand = Demand(0, IDLE)
    taken = []
    t_ns = sending = listening = 0
    state_a = IDLE
    expected = []
    for wait, kind, size, take in steps:
        t_ns += wait + 1
        expected.append((t_ns - 1, state_a, sending, listening))
        if kind == "tx":
            demand.transmit(t_ns, size)
            sending = max(sending, t_ns) + airtime_ns(size)
            listening = sending + 10 * MS
        elif kind == "rx":
            demand.receive(t_ns)
            listening = max(listening, t_ns + 10 * MS)
        else:
            state_a = IDLE if kind == "idle" else 5e-6
            demand.state(t_ns, state_a, radio=kind == "idle")
            if kind == "sleep":
                sending = listening = t_ns
        expected.append((t_ns, state_a, sending, listening))
        if take:
            taken += demand.take(t_ns)
    taken += demand.take(t_ns + 1000 * MS)
    times = [change.t_ns for change in taken]
    assert times == sorted(times)
    assert demand.next_change_ns() is None
    for instant, base_a, sending_until, listening_until in expected:
        level = next(change.current_a for change in reversed(taken) if change.t_ns <= instant)
        if instant < sending_until:
            assert level == 276e-3
        elif instant < listening_until:
            assert level == 84e-3
        else:
            assert level == base_a


class Sent(list):
    """A connection that keeps what is written to it."""

    def write(self, data: bytes) -> None:
        self.append(data)


telnet = st.sampled_from(
    [b"\xff\xff", b"\xff\xfd\x2c", b"\xff\xfa\x2c\x05\x08\xff\xf0", b"\xff\xfa\x2c\x05\x09\xff\xf0"]
)


@given(st.lists(st.binary(max_size=20).map(lambda data: data.replace(b"\xff", b"")) | telnet), st.integers(1, 30))
def test_port_manager_in_pieces_equals_pyserials_byte_by_byte(parts: list[bytes], size: int) -> None:
    stream = b"".join(parts)
    lines: list[list[tuple[bool, bool]]] = [[], []]
    sent = Sent(), Sent()
    fast = PortManager(ControlLines(lambda *levels: lines[0].append(levels)), sent[0])
    slow = rfc2217.PortManager(ControlLines(lambda *levels: lines[1].append(levels)), sent[1])
    plain = b"".join(fast.feed(stream[i : i + size]) for i in range(0, len(stream), size))
    assert plain == b"".join(slow.filter(stream))
    assert lines[0] == lines[1]
    assert sent[0] == sent[1]


def test_chip_wire_messages() -> None:
    message = parse_message(b"123 state wifi_idle")
    assert (message.t_ns, message.verb, message.arguments) == (123, "state", ("wifi_idle",))
    assert parse_message(b"7 gpio 4 1").arguments == (4, 1)
    assert parse_message(b"7 restart").arguments == ()


@given(st.binary(max_size=60))
def test_any_packet_is_a_message_or_a_bench_error(packet: bytes) -> None:
    try:
        parse_message(packet)
    except BenchError:
        return


def test_nvs_as_the_application_reads_it() -> None:
    values = {("coaps", "identity"): NvsValue("str", b"b1"), ("a", "n"): NvsValue("i16", b"\xfe\xff")}
    assert nvs_text(values) == b"coaps\tidentity\tstr\t6231\na\tn\ti16\tfeff\n"
