"""The marks: console lines and edges of the trigger line that tell the same instants."""

import re
import secrets
import socket
import struct
from typing import Any

GIVE_UP_S = 20.0


def udp_socket(chip: Any, port: int) -> socket.socket:
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.settimeout(GIVE_UP_S)
    client.connect((chip.address, port))
    return client


def client_hello() -> bytes:
    """Return a DTLS 1.2 ClientHello without a cookie that offers TLS_PSK_WITH_AES_128_CCM_8 (RFC 6347 4.2.1)."""
    body = b"\xfe\xfd" + secrets.token_bytes(32) + b"\0" + b"\0" + b"\0\x02\xc0\xa8" + b"\x01\0"
    length = len(body).to_bytes(3, "big")
    handshake = b"\x01" + length + b"\0\0" + b"\0\0\0" + length + body
    return b"\x16\xfe\xfd" + bytes(8) + struct.pack(">H", len(handshake)) + handshake


def test_boot_to_request_in_order(chip: Any) -> None:
    chip.coap("get", "/light")
    chip.console.wait_for("request_end")
    assert chip.marks() == [
        "boot reset_reason=1 boot_count=1",
        f"network_up address={chip.address} port=5684",
        "handshake_start",
        "handshake_end ok=1",
        "request_start method=GET path=/light",
        "request_end code=2.05",
    ]
    chip.messages.wait_for("gpio 4 0", nth=3)
    assert chip.transitions() == [
        *("state cpu", "gpio 4 1", "state wifi_connect", "state wifi_idle", "gpio 4 0"),
        *("gpio 4 1", "gpio 4 0") * 2,
    ]


def test_marks_and_edges_are_the_same_instants(chip: Any) -> None:
    chip.coap("get", "/light")
    chip.console.wait_for("request_end")
    chip.messages.wait_for("gpio 4 0", nth=3)
    marks_us = [int(match[1]) for line in chip.console.all if (match := re.search(r"mark: .*t_us=(\d+)", line))]
    edges_ns = [int(m.split()[0]) for m in chip.messages.all if " gpio " in m]
    start_ns = int(chip.messages.all[0].split()[0])
    assert marks_us == [(edge - start_ns) // 1000 for edge in edges_ns]
    stamps = [int(message.split()[0]) for message in chip.messages.all]
    assert stamps == sorted(stamps)


def test_datagrams_are_counted(chip: Any) -> None:
    hello = client_hello()
    with udp_socket(chip, 5684) as client:
        client.send(hello)
        verify_request = client.recv(2000)
    index = chip.messages.wait_for(f"tx {len(verify_request)}$")
    radio = [event for event in chip.events()[: index + 1] if event.startswith(("tx", "rx"))]
    assert verify_request[13] == 3
    assert radio == [f"rx {len(hello)}", f"tx {len(verify_request)}"]


def test_each_start_is_a_rising_edge(chip: Any) -> None:
    """A handshake that its client has given up holds the line no longer than until the next stretch."""
    with udp_socket(chip, 5684) as client:
        client.send(client_hello())
        client.recv(2000)
    chip.coap("get", "/light")
    chip.console.wait_for("request_end")
    chip.messages.wait_for("gpio 4 0", nth=4)
    levels = [event.split()[2] for event in chip.events() if event.startswith("gpio")]
    assert levels == ["1", "0"] * (len(levels) // 2)
    assert len(levels) == 2 * sum(
        (" t_us" in line and "start" in line) or "mark: boot" in line for line in chip.console.all
    )


def test_first_answer_is_told_once(chip: Any) -> None:
    for _ in range(2):
        chip.coap("get", "/light")
    chip.console.wait_for("request_end", nth=2)
    told = [line for line in chip.console.all if "first answer" in line]
    assert len(told) == 1
    assert int(re.search(r"app: first answer after (\d+) ms$", told[0])[1]) >= 300  # type: ignore[index]
