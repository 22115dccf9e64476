"""The scripted device as a process: its configuration, its sockets, and the loop that moves datagrams."""

import json
import select
import socket
import struct
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from rig.clock import now_s
from rig.dtls.misbehaviour import Misbehaviour as DtlsMisbehaviour
from rig.errors import ConfigError
from rig.virtual.device.device import Credentials, Datagram, Device
from rig.virtual.device.group import ALL_COAP_NODES
from rig.virtual.device.group import PORT as GROUP_PORT
from rig.virtual.device.misbehaviour import Misbehaviour

COAPS_PORT = 5684

_DATAGRAM_BYTES = 65535
_LONGEST_WAIT_S = 60.0
_IP_PKTINFO = 8  # <linux/in.h>; the socket module has no name for it
_REQUIRED = {"name", "address", "identity", "psk"}


@dataclass(frozen=True)
class DeviceConfig:
    """name: for messages. address: 127.a.b.c. The rest is what the device is, and what is wrong with it."""

    name: str
    address: str
    credentials: Credentials
    wrong: Misbehaviour
    dtls_wrong: DtlsMisbehaviour


def load_config(path: Path) -> DeviceConfig:
    """Read the JSON file. Raises ConfigError naming the key."""
    given: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    missing = _REQUIRED - given.keys()
    unknown = given.keys() - _REQUIRED - {"switches"}
    if missing or unknown:
        raise ConfigError(f"{path}: missing keys {sorted(missing)}, unknown keys {sorted(unknown)}")
    credentials = Credentials(given["identity"].encode(), bytes.fromhex(given["psk"]))
    wrong, dtls_wrong = split_switches(given.get("switches", {}))
    return DeviceConfig(given["name"], given["address"], credentials, wrong, dtls_wrong)


def split_switches(switches: dict[str, Any]) -> tuple[Misbehaviour, DtlsMisbehaviour]:
    """Return the switches of the CoAP side and those of the DTLS side. Raises ConfigError for one that is neither.

    ``extra_keys`` are written in hexadecimal.
    """
    coap_names, dtls_names = ({field.name for field in fields(kind)} for kind in (Misbehaviour, DtlsMisbehaviour))
    unknown = switches.keys() - coap_names - dtls_names
    if unknown:
        raise ConfigError(f"the scripted device has no switch {', '.join(sorted(unknown))}")
    values = dict(switches)
    if "extra_keys" in values:
        values["extra_keys"] = tuple(bytes.fromhex(key) for key in values["extra_keys"])
    coap = {name: value for name, value in values.items() if name in coap_names}
    dtls = {name: value for name, value in values.items() if name in dtls_names}
    return Misbehaviour(**coap), DtlsMisbehaviour(**dtls)


class Process:
    """The device on its sockets."""

    def __init__(self, config: DeviceConfig) -> None:
        """Bind the sockets; the group's only for a device that is a member."""
        self._device = Device(config.credentials, config.wrong, config.dtls_wrong, now_s())
        self._address = config.address
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((config.address, COAPS_PORT))
        self._sockets = [self._socket]
        if config.wrong.multicast:
            self._group_socket = _group_socket()
            self._sockets.append(self._group_socket)

    def run_once(self) -> None:
        """Wait for a datagram or for a deadline, and do what is due."""
        wait_s = min(max(0.0, self._device.deadline_s - now_s()), _LONGEST_WAIT_S)
        ready, _, _ = select.select(self._sockets, [], [], wait_s)
        for each in ready:
            data, peer = each.recvfrom(_DATAGRAM_BYTES)
            if each is self._socket:
                self._send(self._device.receive(now_s(), peer, data))
            else:
                self._device.receive_from_group(now_s(), peer, data)
        self._send(self._device.expire(now_s()))

    def _send(self, datagrams: list[Datagram]) -> None:
        for each in datagrams:
            if each.from_group:
                # The answer comes from the device's own address, which no socket has to be bound to for that.
                source = struct.pack("=I4s4s", 0, socket.inet_aton(self._address), bytes(4))
                self._group_socket.sendmsg([each.data], [(socket.IPPROTO_IP, _IP_PKTINFO, source)], 0, each.peer)
            else:
                self._socket.sendto(each.data, each.peer)


def _group_socket() -> socket.socket:
    """Return a socket that hears what is sent to the group on the loopback interface, and nothing else."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((ALL_COAP_NODES, GROUP_PORT))
    membership = socket.inet_aton(ALL_COAP_NODES) + socket.inet_aton("127.0.0.1")
    listener.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
    return listener
