"""The relay and its driver together, through real sockets."""

import contextlib
import json
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rig.errors import BenchError
from rig.formats.pcapng import read_pcapng
from rig.router import Counters, GilbertElliott, Impairment, PacketRule, RelayRouter, RouterError

PATIENCE_S = 20.0

Maker = Callable[[], socket.socket]
Eventually = Callable[[Callable[[], bool], str], None]


class Link:
    """A client and a board with the router between them."""

    def __init__(self, router: RelayRouter, udp: Maker, eventually: Eventually) -> None:
        self._eventually = eventually
        self.router, self.client, self.board = router, udp(), udp()
        self.front = router.endpoint_for(*self.board.getsockname())

    def send(self, count: int) -> None:
        for number in range(count):
            self.client.sendto(number.to_bytes(4, "big"), self.front)

    def settle(self, offered: int) -> Counters:
        """Wait until the router has dealt with all that was sent."""
        before = self.router.read().to_device.counters

        def settled() -> bool:
            now = self.router.read().to_device.counters
            return now.offered >= offered and now.queued == 0

        self._eventually(settled, f"{offered} packets to pass, {before} at first")
        return self.router.read().to_device.counters

    def received(self, count: int) -> list[int]:
        return [int.from_bytes(self.board.recv(100), "big") for _ in range(count)]


@pytest.fixture
def link(router: RelayRouter, udp: Maker, eventually: Eventually) -> Link:
    return Link(router, udp, eventually)


def test_the_board_sees_peers_of_their_own_and_answers_reach_them(link: Link, udp: Maker) -> None:
    clients = [link.client, udp(), udp()]
    for number, client in enumerate(clients):
        client.sendto(bytes([number]), link.front)
    seen = dict(link.board.recvfrom(100) for _ in clients)
    assert len(set(seen.values())) == 3
    for data, peer in seen.items():
        link.board.sendto(data * 2, peer)
    for number, client in enumerate(clients):
        assert client.recvfrom(100) == (bytes([number]) * 2, link.front)
    flows = {flow.client: flow for flow in link.router.read().flows}
    assert [flows[client.getsockname()].at_board for client in clients] == [seen[bytes([n])] for n in range(3)]
    assert all(flow.board == link.board.getsockname() for flow in flows.values())


def test_a_front_is_opened_once_and_boards_have_fronts_of_their_own(link: Link, udp: Maker) -> None:
    assert link.router.endpoint_for(*link.board.getsockname()) == link.front
    assert link.router.endpoint_for(*udp().getsockname()) != link.front


def test_the_clients_port_is_kept_for_the_board(link: Link) -> None:
    link.client.sendto(b"x", link.front)
    assert link.board.recvfrom(10)[1][1] == link.client.getsockname()[1]


def test_large_and_empty_datagrams_pass(link: Link) -> None:
    for payload in (b"", bytes(1400), bytes(60_000)):
        link.client.sendto(payload, link.front)
        assert link.board.recv(65535) == payload


def test_a_closed_port_is_silence_and_is_counted(router: RelayRouter, udp: Maker, eventually: Eventually) -> None:
    client, board = udp(), udp()
    host, port = board.getsockname()
    board.close()
    front = router.endpoint_for(host, port)
    for _ in range(3):
        client.sendto(b"x", front)
    eventually(lambda: router.read().refused >= 1, "the port-unreachable message")
    client.setblocking(False)
    with pytest.raises(BlockingIOError):
        client.recv(10)
    counters = router.read().to_device.counters
    assert counters.offered == counters.passed + counters.dropped == 3


def test_impairments_are_read_back_and_restored(router: RelayRouter) -> None:
    outer = Impairment(loss=GilbertElliott(1, 10), seed=5)
    inner = Impairment(delay_s=0.02, jitter_s=0.01, distribution="pareto", seed=6)
    assert router.impair(to_device=outer).to_device.impairment == outer
    with router.impaired(to_device=inner, to_client=Impairment(loss=3, seed=1)) as state:
        assert (state.to_device.impairment, state.to_client.impairment.loss) == (inner, 3)
    state = router.read()
    assert (state.to_device.impairment, state.to_client.impairment) == (outer, Impairment.none())
    with pytest.raises(ZeroDivisionError), router.impaired(to_device=inner):
        _ = 1 / 0
    assert router.read().to_device.impairment == outer
    router.clear()
    assert router.read().to_device.impairment == Impairment.none()


def test_a_seed_that_was_drawn_is_shown(router: RelayRouter) -> None:
    assert router.impair(to_client=Impairment(loss=1)).to_client.impairment.seed is not None


def test_leaving_clears(relay: str) -> None:
    with RelayRouter(relay) as router:
        router.impair(to_device=Impairment(loss=50))
    with RelayRouter(relay) as router:
        assert router.read().to_device.impairment == Impairment.none()


def test_loss_is_seeded_and_its_direction_is_the_one_asked_for(link: Link) -> None:
    def survivors(seed: int) -> list[int]:
        before = link.router.impair(to_device=Impairment(loss=20, seed=seed)).to_device.counters
        link.send(200)  # more at once would not fit into the test's own receive buffer
        after = link.settle(before.offered + 200)
        return link.received(after.passed - before.passed)

    first = survivors(9)
    assert 120 < len(first) < 200
    assert survivors(9) == first
    assert survivors(10) != first
    reverse = link.router.read().to_client.counters
    assert reverse == Counters(0, 0, 0, 0, 0, 0, 0)


def test_counters_reconcile_with_what_arrived(link: Link) -> None:
    everything = Impairment(10, 0.005, 0.002, duplicate=20, corrupt=5, seed=4)
    link.router.impair(to_device=everything)
    link.send(200)
    counters = link.settle(200)
    assert counters.offered + counters.duplicated == counters.passed + counters.dropped
    assert min(counters.dropped, counters.duplicated, counters.corrupted) > 0
    assert len(link.received(counters.passed)) == counters.passed
    assert link.router.read().overflowed == 0


@pytest.mark.parametrize("delay_s", [0.0, 0.0203])
def test_delay_is_what_was_asked_for(link: Link, delay_s: float) -> None:
    link.router.impair(to_device=Impairment(delay_s=delay_s))
    took_s = []
    for _ in range(40):
        start_s = time.monotonic()
        link.client.sendto(b"x", link.front)
        link.board.recv(10)
        took_s.append(time.monotonic() - start_s)
    # The best of 40 shows the timer, whatever else the machine does: one that rounds to milliseconds gives 21.
    assert delay_s <= min(took_s) < delay_s + 0.0006
    assert statistics.median(took_s) < delay_s + 0.01


def test_clearing_drops_what_is_in_delay(link: Link, eventually: Eventually) -> None:
    link.router.impair(to_device=Impairment(delay_s=1))
    link.send(5)
    eventually(lambda: link.router.read().to_device.counters.queued == 5, "packets in delay")
    link.router.clear()
    counters = link.router.read().to_device.counters
    assert (counters.queued, counters.dropped) == (0, 5)


def test_a_capture_shows_both_sides_and_a_loss_on_one(link: Link, tmp_path: Path) -> None:
    with link.router.capture(tmp_path / "both.pcapng") as capture:
        link.router.impair(to_device=Impairment(loss=100))
        link.client.sendto(b"lost", link.front)
        link.settle(1)
        link.router.impair(to_device=Impairment.none())
        before_s = time.monotonic()
        link.client.sendto(b"asked", link.front)
        data, peer = link.board.recvfrom(10)
        link.board.sendto(b"answered", peer)
        link.client.recv(10)
        after_s = time.monotonic()
        running = capture.packets()
        assert not capture.complete
    assert capture.complete
    assert capture.packets()[-1].payload == b"answered"
    client, board = link.client.getsockname(), link.board.getsockname()
    assert [(p.side, p.source, p.destination, p.payload) for p in running] == [
        ("client", client, link.front, b"lost"),
        ("client", client, link.front, b"asked"),
        ("board", peer, board, data),
        ("board", board, peer, b"answered"),
        ("client", link.front, client, b"answered"),
    ]
    slack_s = capture.clock.uncertainty_s + 1e-5
    assert all(before_s - slack_s <= p.t_s <= after_s + slack_s for p in capture.packets()[1:])


def test_the_relays_clock_is_not_the_hosts(link: Link, tmp_path: Path) -> None:
    with link.router.capture(tmp_path / "clock.pcapng") as capture:
        link.client.sendto(b"x", link.front)
        link.board.recv(10)
    stamp_s = read_pcapng(capture.path.read_bytes()).packets[0].t_ns / 1e9
    assert abs(stamp_s - time.time()) < 10
    assert capture.clock.uncertainty_s < 0.01
    assert abs(capture.clock.to_rig_s(stamp_s) - time.monotonic()) < 1


def test_two_captures_run_side_by_side(link: Link, tmp_path: Path) -> None:
    with link.router.capture(tmp_path / "outer.pcapng") as outer:
        link.send(3)
        link.received(3)
        with link.router.capture(tmp_path / "inner.pcapng") as inner:
            link.send(2)
            link.received(2)
        link.send(1)
        link.received(1)
    assert (outer.complete, len(outer.packets())) == (True, 12)
    assert (inner.complete, len(inner.packets())) == (True, 4)


KILLED = """
import socket, sys, time
from pathlib import Path
from rig.router import Impairment, RelayRouter
control, board, path = sys.argv[1:]
host, port = board.split(":")
with RelayRouter(control) as router:
    router.impair(to_device=Impairment(delay_s=0.01), to_client=Impairment(loss=100))
    with router.capture(Path(path)) as capture:
        front = router.endpoint_for(host, int(port))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            while True:
                client.sendto(b"ping", front)
                time.sleep(0.001)
"""


@contextlib.contextmanager
def doomed(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", KILLED, *arguments]) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_killed_rig_leaves_a_readable_capture_and_no_impairment(
    relay: str, udp: Maker, eventually: Eventually, tmp_path: Path
) -> None:
    path, board = tmp_path / "killed.pcapng", udp()
    host, port = board.getsockname()
    with doomed(relay, f"{host}:{port}", str(path)) as process:
        for _ in range(50):
            board.recv(100)
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE_S)
    with RelayRouter(relay) as router:
        eventually(lambda: router.read().to_client.impairment == Impairment.none(), "the dead man's switch")
        state = router.read()
    assert state.to_device.impairment == Impairment.none()
    assert state.to_device.counters.queued == 0
    recording = read_pcapng(path.read_bytes())
    assert sum(packet.interface.name == "board side" for packet in recording.packets) >= 40
    assert recording.statistics == ()


def test_another_connection_that_ends_clears_nothing_that_is_not_its_own(relay: str, router: RelayRouter) -> None:
    router.impair(to_device=Impairment(loss=5, seed=1))
    with socket.create_connection(_address(relay)):
        pass
    assert _ask(relay, {"op": "hello"})["ok"]
    assert router.read().to_device.impairment.loss == 5


def test_the_relay_ends_with_its_parent(relay_process: tuple[subprocess.Popen[bytes], str]) -> None:
    process, control = relay_process
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(PATIENCE_S) == 0
    with pytest.raises(RouterError, match=f"{control} cannot be reached"), RelayRouter(control):
        pass


def test_a_relay_that_dies_is_one_clear_error(
    relay_process: tuple[subprocess.Popen[bytes], str], tmp_path: Path
) -> None:
    process, control = relay_process
    router = RelayRouter(control)
    with contextlib.suppress(RouterError), router:
        with router.capture(tmp_path / "dead.pcapng") as capture:
            process.kill()
            process.wait(PATIENCE_S)
        assert not capture.complete
        assert capture.packets() == ()
        with pytest.raises(RouterError, match="did not answer 'read'"):
            router.read()


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:99999", ":80"])
def test_a_wrong_address_is_one_clear_error(address: str) -> None:
    with pytest.raises(BenchError, match="router"), RelayRouter(address):
        pass


def test_a_router_outside_its_block_is_one_clear_error() -> None:
    with pytest.raises(RouterError, match="with block"):
        RelayRouter("127.0.0.1:1").read()


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"op": "fly"}, "unknown op 'fly'"),
        ({"op": "impair", "direction": "up", "impairment": {}}, "unknown direction"),
        ({"op": "impair", "direction": "to_device", "impairment": 5}, "needs an object"),
        ({"op": "impair", "direction": "to_device", "impairment": {"loss": 101}}, "outside 0 to 100"),
        ({"op": "impair", "direction": "to_device", "impairment": {"loss": {}}}, "missing: p, r"),
        ({"op": "forward", "to": "::1:5684"}, "not an IPv4 address"),
        ({"op": "forward", "to": "127.0.0.1:0"}, "no valid port"),
        ({"op": "forward"}, "not an IPv4 address"),
        ({"op": "capture_size", "capture": [1]}, "no capture"),
        ([], "a request is an object"),
        ({"op": 5}, "a request is an object"),
    ],
)
def test_bad_requests_are_answered_with_the_reason(relay: str, request_: Any, said: str) -> None:
    answer = _ask(relay, request_)
    assert answer["ok"] is False
    assert said in answer["error"]


def test_noise_on_the_control_port_does_not_stop_the_relay(relay: str) -> None:
    for noise in (b"\xff\xfe\n", b"not json\n", b"x" * 200_000):
        with socket.create_connection(_address(relay), PATIENCE_S) as peer, contextlib.suppress(ConnectionError):
            peer.sendall(noise)
            peer.recv(1000)
    assert _ask(relay, {"op": "hello"}) == {"ok": True, "name": "relay-1", "version": 1}


def test_a_router_that_does_not_obey_is_found_out() -> None:
    """A peer that says ok to everything and has always the same in force."""
    state = {"impairment": Impairment(loss=1).to_dict(), "counters": dict.fromkeys(Counters.__annotations__, 0)}
    directions = {"to_device": state, "to_client": state}
    answer = {"ok": True, **directions, "refused": 0, "overflowed": 0, "flows": [], "rules": []}
    with _yes_man(answer) as control, RelayRouter(control) as router:
        with pytest.raises(RouterError, match=r"loss 1.* instead of 10 in force to_device"):
            router.impair(to_device=Impairment(loss=10))
        router.impair(to_client=Impairment(loss=1))
        with pytest.raises(RouterError, match="other rules in force: none"):
            router.rules([PacketRule("to_client", "drop")])


@contextlib.contextmanager
def _yes_man(answer: dict[str, Any]) -> Iterator[str]:
    script = (
        "import socket, sys\n"
        "server = socket.create_server(('127.0.0.1', 0))\n"
        "print(server.getsockname()[1], flush=True)\n"
        "peer = server.accept()[0]\n"
        "for _ in peer.makefile('rb'): peer.sendall(sys.argv[1].encode() + b'\\n')\n"
    )
    command = [sys.executable, "-c", script, json.dumps(answer)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield f"127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


def _address(control: str) -> tuple[str, int]:
    host, port = control.split(":")
    return host, int(port)


def _ask(control: str, request: Any) -> dict[str, Any]:
    with socket.create_connection(_address(control), PATIENCE_S) as peer, peer.makefile("rb") as answers:
        peer.sendall(json.dumps(request).encode() + b"\n")
        return dict(json.loads(answers.readline()))
