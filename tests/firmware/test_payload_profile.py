"""The payload-encryption profile: plain CoAP, with AES-128-GCM on the payloads. What it hides, and what it does not."""

import json
import os
import socket
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from rig.dtls.coap import GET, PUT, Message, OptionNumber, Type, decode

GIVE_UP_S = 20.0
KEY = b"0123456789abcdef"
NONCE, OVERHEAD = 12, 28
BLOCK1, BLOCK2 = OptionNumber.BLOCK1, OptionNumber.BLOCK2


def seal(plain: bytes, key: bytes = KEY) -> bytes:
    nonce = os.urandom(NONCE)
    return nonce + AESGCM(key).encrypt(nonce, plain, None)


def unseal(payload: bytes) -> bytes:
    return AESGCM(KEY).decrypt(payload[:NONCE], payload[NONCE:], None)


def block_value(num: int, more: bool, szx: int) -> bytes:
    value = num << 4 | more << 3 | szx
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


class PlainClient:
    """CoAP over UDP, message by message."""

    def __init__(self, chip: Any) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.settimeout(GIVE_UP_S)
        self.socket.connect((chip.address, 5683))
        self._next_mid = 0

    def request(self, method: int, path: str, *options: tuple[int, bytes], payload: bytes = b"") -> bytes:
        self._next_mid += 1
        path, _, query = path.partition("?")
        named: list[tuple[int, bytes]] = [(OptionNumber.URI_PATH, part.encode()) for part in path[1:].split("/")]
        named += [(OptionNumber.URI_QUERY, query.encode())] if query else []
        return Message(Type.CON, method, self._next_mid, b"tk", (*named, *options), payload).encode()

    def send(self, request: bytes) -> Message:
        self.socket.send(request)
        return decode(self.socket.recv(2000))

    def ask(self, method: int, path: str, *options: tuple[int, bytes], payload: bytes = b"") -> Message:
        return self.send(self.request(method, path, *options, payload=payload))


@pytest.fixture(scope="module")
def program(host_build: Callable[..., Path]) -> Path:
    return host_build("coaps_server", "-DSANITIZE=ON", "-DPAYLOAD_ENCRYPTION=ON")


@pytest.fixture
def chip(power_up: Callable[..., Any], program: Path) -> Iterator[Any]:
    chip = power_up(elf_path=program)
    chip.wait_until_up()
    yield chip
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        end.connect((chip.address, 5683))
        path = ((OptionNumber.URI_PATH, b"power"),)
        end.send(Message(Type.CON, PUT, 1, b"", path, seal(b"1")).encode())
    chip.wait_until_ended()


@pytest.fixture
def client(chip: Any) -> Iterator[PlainClient]:
    client = PlainClient(chip)
    yield client
    client.socket.close()


def test_payloads_are_encrypted_both_ways(client: PlainClient) -> None:
    first = client.ask(GET, "/light")
    assert (first.code_text, unseal(first.payload)) == ("2.05", b"off")
    assert b"off" not in first.payload
    assert client.ask(PUT, "/light", payload=seal(b"on")).code_text == "2.04"
    assert unseal(client.ask(GET, "/light").payload) == b"on"
    stats = json.loads(unseal(client.ask(GET, "/stats").payload))
    assert stats["boot_count"] == 1
    refusal = client.ask(PUT, "/light", payload=seal(b"perhaps"))
    assert (refusal.code_text, unseal(refusal.payload)) == ("4.00", b"on or off was expected")


def test_equal_values_do_not_look_alike(client: PlainClient) -> None:
    assert client.ask(GET, "/light").payload != client.ask(GET, "/light").payload


def test_payloads_that_do_not_open_are_refused(client: PlainClient) -> None:
    good = seal(b"on")
    for payload in (b"on", b"", good[:-1], good + b"\0", good[1:], seal(b"on", b"0123456789abcdeF"), bytes(28)):
        assert client.ask(PUT, "/light", payload=payload).code_text == "4.00", payload.hex()
    assert unseal(client.ask(GET, "/light").payload) == b"off"


def test_bodies_are_sealed_as_a_whole_and_cut_afterwards(client: PlainClient) -> None:
    sealed = b""
    more = True
    while more:
        answer = client.ask(GET, "/blob?n=3000", (BLOCK2, block_value(len(sealed) // 256, False, 4)))
        more = bool(answer.values(BLOCK2)[0][-1] & 8)
        sealed += answer.payload
    assert len(sealed) == 3000 + OVERHEAD
    body = unseal(sealed)
    assert body.startswith(b"0000000\n0000008\n")
    sealed = seal(body)
    for at in range(0, len(sealed), 256):
        option = (BLOCK1, block_value(at // 256, at + 256 < len(sealed), 4))
        answer = client.ask(PUT, "/blob", option, payload=sealed[at : at + 256])
    assert answer.code_text == "2.04"
    assert json.loads(unseal(answer.payload)) == {"length": 3000, "crc32": f"{zlib.crc32(body):08x}"}


# --- what it does not hide -------------------------------------------------------------------------------------------


def test_method_path_and_query_are_readable(client: PlainClient) -> None:
    request = client.request(PUT, "/power?mode=deep_sleepy", payload=seal(b"1000"))
    assert b"\xb5power" in request
    assert b"mode=deep_sleepy" in request
    assert client.send(request).code_text == "4.00"


def test_discovery_is_in_the_clear(client: PlainClient) -> None:
    assert b'</light>;rt="light"' in client.ask(GET, "/.well-known/core").payload


def test_a_group_is_told_of_the_resources_and_nothing_else(chip: Any) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as finder:
        finder.settimeout(GIVE_UP_S)
        finder.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(chip.address))
        for mid, path in ((1, (b"light",)), (2, (b".well-known", b"core"))):
            options = tuple((OptionNumber.URI_PATH, part) for part in path)
            request = Message(Type.NON, GET, mid, bytes((mid,)), options)
            finder.sendto(request.encode(), ("224.0.1.187", 5683))
        answer = decode(finder.recv(2000))
    assert (answer.type, answer.code_text, answer.token) == (Type.NON, "2.05", b"\2")
    assert b"</light>" in answer.payload
    chip.console.wait_for("request_start")
    assert [mark for mark in chip.marks() if "request_start" in mark] == [
        "request_start method=GET path=/.well-known/core"
    ]


def test_the_length_tells_on_from_off(client: PlainClient) -> None:
    off = client.ask(GET, "/light")
    client.ask(PUT, "/light", payload=seal(b"on"))
    assert (len(off.payload), len(client.ask(GET, "/light").payload)) == (OVERHEAD + 3, OVERHEAD + 2)


def test_a_recorded_request_works_again(client: PlainClient) -> None:
    """Not with its old Message ID: that one is known. But nothing protects the Message ID."""
    recorded = client.request(PUT, "/light", payload=seal(b"on"))
    assert client.send(recorded).code_text == "2.04"
    assert client.ask(PUT, "/light", payload=seal(b"off")).code_text == "2.04"
    assert client.send(recorded).code_text == "2.04"
    assert unseal(client.ask(GET, "/light").payload) == b"off"
    renumbered = recorded[:2] + b"\x77\x77" + recorded[4:]
    assert client.send(renumbered).code_text == "2.04"
    assert unseal(client.ask(GET, "/light").payload) == b"on"


def test_the_path_is_not_bound_to_the_payload(client: PlainClient) -> None:
    recorded = client.request(PUT, "/light", payload=seal(b"1"))
    moved = recorded.replace(b"\xb5light", b"\xb5power")
    assert client.send(recorded).code_text == "4.00"
    assert client.send(moved[:2] + b"\x77\x77" + moved[4:]).code_text == "2.04"


def test_there_is_no_dtls(client: PlainClient, chip: Any) -> None:
    assert client.ask(GET, "/light").code_text == "2.05"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as dtls:
        dtls.settimeout(GIVE_UP_S)
        dtls.connect((chip.address, 5684))
        dtls.send(b"\x16\xfe\xfd")
        with pytest.raises(ConnectionRefusedError):
            dtls.recv(100)


def test_the_key_itself_stays_hidden(client: PlainClient, chip: Any) -> None:
    payload = client.ask(GET, "/stats").payload
    with pytest.raises(InvalidTag):
        AESGCM(b"0123456789abcdeF").decrypt(payload[:NONCE], payload[NONCE:], None)
    console = "\n".join(chip.console.all)
    assert KEY.decode() not in console
    assert KEY.hex() not in console
