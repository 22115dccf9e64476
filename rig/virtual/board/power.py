"""What the chip draws: piecewise-constant currents of its states and of its radio, in time order.

Currents: ESP32-C3 Series Datasheet v2.4, tables 5-7 to 5-9 (typical, 3.3 V, 25 C).
"""

from dataclasses import dataclass

OFF_CURRENT_A = 0.0
RESET_CURRENT_A = 1e-6  # CHIP_EN low
CPU_CURRENT_A = 28e-3  # 160 MHz, running, peripheral clocks on
LIGHT_SLEEP_CURRENT_A = 130e-6
RECEIVER_CURRENT_A = 84e-3
WIFI_IDLE_CURRENT_A = 21e-3
TRANSMIT_CURRENT_A = 276e-3  # 802.11n HT20 MCS7

_PREAMBLE_NS = 40_000
_MAC_OVERHEAD_NS = 100_000
_BIT_RATE = 65_000_000
_RECEIVER_TAIL_NS = 10_000_000


@dataclass(frozen=True)
class Change:
    """From ``t_ns`` (CLOCK_MONOTONIC) on the chip demands ``current_a``."""

    t_ns: int
    current_a: float


def airtime_ns(udp_payload_bytes: int) -> int:
    """Return how long the transmitter is on for one datagram."""
    return _PREAMBLE_NS + _MAC_OVERHEAD_NS + udp_payload_bytes * 8 * 1_000_000_000 // _BIT_RATE


class Demand:
    """Turns states and datagrams into changes of current whose times never go back.

    One radio: transmissions queue behind each other, and after each datagram the receiver stays on for 10 ms. An event
    that arrives with a time before the last change takes effect at that change.
    """

    def __init__(self, t_ns: int, current_a: float) -> None:
        self._state_a = current_a
        self._transmitting_until_ns = t_ns
        self._listening_until_ns = t_ns
        self._changes = [Change(t_ns, current_a)]
        self._last = self._changes[0]
        self._passed_ns = t_ns  # everything that time alone brings has been looked at up to here

    def state(self, t_ns: int, current_a: float, *, radio: bool) -> None:
        """Enter a state of the chip; without *radio* whatever is on the air is cut short."""
        t_ns = self._advance(t_ns)
        self._state_a = current_a
        if not radio:
            self._transmitting_until_ns = self._listening_until_ns = t_ns
        self._update(t_ns)

    def transmit(self, t_ns: int, udp_payload_bytes: int) -> None:
        """Send one datagram at *t_ns*, or when the transmitter is free."""
        t_ns = self._advance(t_ns)
        self._transmitting_until_ns = max(t_ns, self._transmitting_until_ns) + airtime_ns(udp_payload_bytes)
        self._listening_until_ns = self._transmitting_until_ns + _RECEIVER_TAIL_NS
        self._update(t_ns)

    def receive(self, t_ns: int) -> None:
        """Note that a datagram was received at *t_ns*."""
        t_ns = self._advance(t_ns)
        self._listening_until_ns = max(self._listening_until_ns, t_ns + _RECEIVER_TAIL_NS)
        self._update(t_ns)

    def take(self, until_ns: int) -> list[Change]:
        """Return the changes not yet taken; those that the passing of time brings only up to *until_ns*."""
        self._advance(max(until_ns, self._passed_ns))
        changes, self._changes = self._changes, []
        return changes

    def next_change_ns(self) -> int | None:
        """Return when the current may change if nothing else happens, None if it will not."""
        return min((end for end in self._ends() if end > self._passed_ns), default=None)

    def current_a(self) -> float:
        """Return the current after the last change."""
        return self._last.current_a

    def _ends(self) -> tuple[int, int]:
        return self._transmitting_until_ns, self._listening_until_ns

    def _advance(self, t_ns: int) -> int:
        for end in self._ends():
            if self._passed_ns < end <= t_ns:
                self._update(end)
        self._passed_ns = max(t_ns, self._last.t_ns)
        return self._passed_ns

    def _update(self, t_ns: int) -> None:
        current_a = self._state_a
        if t_ns < self._transmitting_until_ns:
            current_a = TRANSMIT_CURRENT_A
        elif t_ns < self._listening_until_ns:
            current_a = max(RECEIVER_CURRENT_A, self._state_a)
        if current_a != self._last.current_a:
            self._last = Change(t_ns, current_a)
            self._changes.append(self._last)
