"""The relay's sockets: a front for each board endpoint, and behind it a socket for each client.

The board sees every client as a peer of its own, with the client's port number where that is free. On its way a
datagram meets, from the client's side: the recorder, the rules that the rig has set, netem, the recorder again, and
the rules by which the board behind is a faulty one. So a recording shows a faulty board's traffic as it would be.
"""

import contextlib
import resource
import socket
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from rig.formats.udp_packet import Endpoint, UdpPath
from rig.virtual.relay.netem import Netem
from rig.virtual.relay.reactor import Reactor
from rig.virtual.relay.recorder import BOARD_SIDE, CLIENT_SIDE, Recorder
from rig.virtual.relay.ruling import Ruling

BUFFER_BYTES = 16 << 20
BATCH = 32
_MAX_DATAGRAM = 65535
_SO_RCVBUFFORCE = 33  # asm-generic/socket.h; Python's socket module has no name for it
_DESCRIPTORS_FOR_OTHERS = 64


class Front:
    """The address by which clients reach one board endpoint."""

    def __init__(self, host: str, board: Endpoint) -> None:
        self.board = board
        self.socket = _udp_socket()
        self.socket.bind((host, 0))
        self.address: Endpoint = self.socket.getsockname()


class Flow:
    """One client of one front, with the socket that stands for it at the board."""

    def __init__(self, front: Front, client: Endpoint, host: str) -> None:
        self.front = front
        self.client = client
        self.socket = _socket_like(client, host)
        self.socket.connect(front.board)
        self.address: Endpoint = self.socket.getsockname()
        self.to_device = UdpPath(client, front.address), UdpPath(self.address, front.board)
        self.to_client = UdpPath(front.board, self.address), UdpPath(front.address, client)


class Forwarding:
    """Moves datagrams between fronts and boards, through one `Netem` per direction.

    ``rules`` are the rig's, ``board_rules`` those that make the board behind a faulty one.
    """

    def __init__(self, host: str, reactor: Reactor, recorder: Recorder) -> None:
        self._host = host
        self._reactor = reactor
        self._recorder = recorder
        self._fronts: dict[Endpoint, Front] = {}
        self._flows: OrderedDict[tuple[Endpoint, Endpoint], Flow] = OrderedDict()
        self._most_flows = _raise_descriptor_limit() - _DESCRIPTORS_FOR_OTHERS
        self.refused = 0
        self.to_device: Netem[Flow] = Netem(self._send_to_device)
        self.to_client: Netem[Flow] = Netem(self._send_to_client)
        self.rules: Ruling[Flow] = Ruling(self._impair_to_device, self._impair_to_client)
        self.board_rules: Ruling[Flow] = Ruling(self._deliver, self._arrive)
        self._stages = (self.board_rules, self.rules, self.to_device, self.to_client)

    def front_for(self, board: Endpoint) -> Endpoint:
        """Return the front that leads to *board*, opening it at the first call."""
        front = self._fronts.get(board)
        if front is None:
            front = self._fronts[board] = Front(self._host, board)
            self._reactor.watch(front.socket, _draining(partial(self._receive_from_client, front)))
        return front.address

    def flows(self) -> list[Flow]:
        """Return the clients that the relay knows, the most recently opened last."""
        return list(self._flows.values())

    def sockets(self) -> list[socket.socket]:
        """Return all datagram sockets."""
        owners: list[Front | Flow] = [*self._fronts.values(), *self._flows.values()]
        return [owner.socket for owner in owners]

    def release(self) -> None:
        """Send what is due in either direction."""
        now_ns = time.monotonic_ns()
        for stage in self._stages:
            stage.release(now_ns)

    def wait_s(self) -> float | None:
        """Return how long nothing is due, None for ever."""
        due = [t for t in (stage.next_due_ns for stage in self._stages) if t is not None]
        return max(0, min(due) - time.monotonic_ns()) / 1e9 if due else None

    def _receive_from_client(self, front: Front) -> None:
        payload, client = front.socket.recvfrom(_MAX_DATAGRAM)
        flow = self._flows.get((front.address, client)) or self._open(front, client)
        if self._recorder.active:
            self._recorder.record(CLIENT_SIDE, flow.to_device[0].packet(payload))
        self.rules.offer(time.monotonic_ns(), "to_device", flow, payload)

    def _receive_from_board(self, flow: Flow) -> None:
        try:
            payload = flow.socket.recv(_MAX_DATAGRAM)
        except ConnectionRefusedError:  # ICMP port unreachable: the board's port is closed
            self.refused += 1
            return
        self.board_rules.offer(time.monotonic_ns(), "to_client", flow, payload)

    def _arrive(self, flow: Flow, payload: bytes) -> bool:
        if self._recorder.active:
            self._recorder.record(BOARD_SIDE, flow.to_client[0].packet(payload))
        return self.rules.offer(time.monotonic_ns(), "to_client", flow, payload)

    def _impair_to_device(self, flow: Flow, payload: bytes) -> bool:
        self.to_device.offer(time.monotonic_ns(), flow, payload)
        return True

    def _impair_to_client(self, flow: Flow, payload: bytes) -> bool:
        self.to_client.offer(time.monotonic_ns(), flow, payload)
        return True

    def _send_to_device(self, flow: Flow, payload: bytes) -> bool:
        # Recorded first: the other process may answer before this one has its next turn.
        if self._recorder.active:
            self._recorder.record(BOARD_SIDE, flow.to_device[1].packet(payload))
        return self.board_rules.offer(time.monotonic_ns(), "to_device", flow, payload)

    def _deliver(self, flow: Flow, payload: bytes) -> bool:
        try:
            flow.socket.send(payload)
        except ConnectionRefusedError:
            self.refused += 1  # reports an earlier datagram; this one was not sent yet
            return self._send_again(flow, payload)
        except OSError:
            return False
        return True

    def _send_again(self, flow: Flow, payload: bytes) -> bool:
        try:
            flow.socket.send(payload)
        except OSError:
            return False
        return True

    def _send_to_client(self, flow: Flow, payload: bytes) -> bool:
        if self._recorder.active:
            self._recorder.record(CLIENT_SIDE, flow.to_client[1].packet(payload))
        try:
            flow.front.socket.sendto(payload, flow.client)
        except OSError:
            return False
        return True

    def _open(self, front: Front, client: Endpoint) -> Flow:
        if len(self._flows) >= self._most_flows:
            self._close(self._flows.popitem(last=False)[1])
        flow = self._flows[front.address, client] = Flow(front, client, self._host)
        self._reactor.watch(flow.socket, _draining(partial(self._receive_from_board, flow)))
        return flow

    def _close(self, flow: Flow) -> None:
        self._reactor.forget(flow.socket)
        flow.socket.close()


def _draining(receive: Callable[[], None]) -> Callable[[], None]:
    """Return a handler that takes what waits, up to a batch, so that no socket starves the others."""

    def drain() -> None:
        with contextlib.suppress(BlockingIOError):
            for _ in range(BATCH):
                receive()

    return drain


def _socket_like(client: Endpoint, host: str) -> socket.socket:
    """Return a socket on *host* with the client's port number, or another one where that is taken."""
    result = _udp_socket()
    try:
        result.bind((host, client[1]))
    except OSError:
        result.bind((host, 0))
    return result


def _udp_socket() -> socket.socket:
    result = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    result.setblocking(False)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        result.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
    with contextlib.suppress(PermissionError):
        # Beyond net.core.rmem_max, which only root may.
        result.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, BUFFER_BYTES)
    return result


def _raise_descriptor_limit() -> int:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 16384 if hard == resource.RLIM_INFINITY else min(hard, 16384)
    if wanted > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(soft, wanted)
