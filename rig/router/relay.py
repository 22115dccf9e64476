"""The relay backend: a router in userspace, told what to do over its control protocol."""

import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, BinaryIO

from rig.errors import BenchError
from rig.formats.impairment import Impairment
from rig.formats.packet_rule import PacketRule, psks_to_dict
from rig.formats.udp_packet import Endpoint
from rig.router.capture import ARRIVAL_TIMEOUT_S, Capture
from rig.router.control import ControlConnection
from rig.router.model import Counters, DirectionState, FlowState, RouterError, RouterState, RuleState


class RelayRouter:
    """A `Router` that is a relay: clients send to a front of the relay instead of the board's own address.

    The relay clears what this connection has set when the connection closes, also when the rig is killed.
    """

    def __init__(self, control: str) -> None:
        """*control* is the relay's control endpoint, ``host:port``."""
        self._address = control
        self._open_control: ControlConnection | None = None

    def __enter__(self) -> "RelayRouter":
        self._open_control = ControlConnection(self._address)
        try:
            self._control.ask("hello")
        except BenchError:
            self._disconnect()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.clear()
        finally:
            self._disconnect()

    def endpoint_for(self, host: str, port: int) -> Endpoint:
        """Return the front by which a client reaches *host*, *port*."""
        return _endpoint(self._control.ask("forward", to=f"{host}:{port}").get("front"))

    def impair(self, to_device: Impairment | None = None, to_client: Impairment | None = None) -> RouterState:
        """Put impairments in force and read them back; None leaves that direction as it is."""
        asked = {"to_device": to_device, "to_client": to_client}
        for direction, impairment in asked.items():
            if impairment is not None:
                self._control.ask("impair", direction=direction, impairment=impairment.to_dict())
        state = self.read()
        for direction, impairment in asked.items():
            if impairment is not None:
                self._compare(direction, impairment, getattr(state, direction).impairment)
        return state

    @contextlib.contextmanager
    def impaired(
        self, to_device: Impairment | None = None, to_client: Impairment | None = None
    ) -> Iterator[RouterState]:
        """Impair within a ``with`` block; leaving it restores what was in force before."""
        before = self.read()
        try:
            yield self.impair(to_device, to_client)
        finally:
            self.impair(
                before.to_device.impairment if to_device is not None else None,
                before.to_client.impairment if to_client is not None else None,
            )

    def rules(self, rules: Sequence[PacketRule], psks: Mapping[bytes, bytes] | None = None) -> RouterState:
        """Put *rules* in place of the former ones and read them back."""
        self._control.ask("rules", rules=[rule.to_dict() for rule in rules], psks=psks_to_dict(psks or {}))
        state = self.read()
        found = tuple(each.rule for each in state.rules)
        if found != tuple(rules):
            told = "; ".join(str(rule) for rule in found) or "none"
            raise RouterError(f"router at {self._address} has other rules in force: {told}")
        return state

    def read(self) -> RouterState:
        """Return the impairments and rules in force and the counters."""
        answer = self._control.ask("read")
        try:
            return RouterState(
                _direction(answer["to_device"]),
                _direction(answer["to_client"]),
                int(answer["refused"]),
                int(answer["overflowed"]),
                tuple(_flow(flow) for flow in answer["flows"]),
                tuple(_rule(rule) for rule in answer["rules"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise RouterError(f"router at {self._address} gave an unreadable state: {error!r}") from error

    def clear(self) -> None:
        """Take all impairments and rules off, with the packets that are in delay."""
        self._control.ask("clear")

    @contextlib.contextmanager
    def capture(self, path: Path) -> Iterator[Capture]:
        """Record both sides into *path* while the block runs.

        A relay that dies meanwhile leaves ``complete`` false.
        """
        connection = ControlConnection(self._address)
        with contextlib.closing(connection), open(path, "wb") as file:
            clock = connection.measure_clock()
            number = connection.ask("capture").get("capture")
            running = Capture(path, clock, lambda: int(self._control.ask("capture_size", capture=number)["bytes"]))
            writer = threading.Thread(target=_write, args=(connection, file, running), name="capture", daemon=True)
            writer.start()
            try:
                yield running
            finally:
                self._end(running, connection, writer)

    def _end(self, running: Capture, connection: ControlConnection, writer: threading.Thread) -> None:
        with contextlib.suppress(OSError):
            connection.socket.shutdown(socket.SHUT_WR)
        writer.join(ARRIVAL_TIMEOUT_S)
        try:
            running.end(self._control.measure_clock())
        except RouterError:
            running.end(running.clock)  # the relay is gone; the file lacks its closing blocks, so it is not complete

    def _compare(self, direction: str, asked: Impairment, found: Impairment) -> None:
        if asked.seed is None:
            found = replace(found, seed=None)
        names = [field.name for field in fields(Impairment)]
        wrong = [name for name in names if getattr(asked, name) != getattr(found, name)]
        if wrong:
            told = ", ".join(f"{name} {getattr(found, name)} instead of {getattr(asked, name)}" for name in wrong)
            raise RouterError(f"router at {self._address} has {told} in force {direction}")

    @property
    def _control(self) -> ControlConnection:
        if self._open_control is None:
            raise RouterError(f"router at {self._address} is not open: use it in a with block")
        return self._open_control

    def _disconnect(self) -> None:
        if self._open_control is not None:
            self._open_control.close()
            self._open_control = None


def _write(connection: ControlConnection, file: BinaryIO, running: Capture) -> None:
    """Move the stream into the file as it comes, flushed piece by piece, until the relay has closed it."""
    connection.socket.settimeout(None)
    data = connection.take_over()
    while True:
        file.write(data)
        file.flush()
        running.arrived(len(data))
        try:
            data = connection.socket.recv(1 << 18)
        except OSError:  # the relay was killed: the capture stays incomplete
            return
        if not data:
            return


def _direction(values: dict[str, Any]) -> DirectionState:
    counters = Counters(**{field.name: int(values["counters"][field.name]) for field in fields(Counters)})
    return DirectionState(Impairment.from_dict(values["impairment"]), counters)


def _flow(values: dict[str, Any]) -> FlowState:
    return FlowState(*(_endpoint(values[name]) for name in ("client", "relay", "board")))


def _rule(values: dict[str, Any]) -> RuleState:
    return RuleState(PacketRule.from_dict(values["rule"]), int(values["matched"]), int(values["acted"]))


def _endpoint(text: object) -> Endpoint:
    host, _, port = str(text).rpartition(":")
    if not host or not port.isdigit():
        raise RouterError(f"router gave {text!r} where an endpoint belongs")
    return host, int(port)
