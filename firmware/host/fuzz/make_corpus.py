"""Write the fuzzer's first inputs, valid requests, into a directory: python make_corpus.py DIRECTORY."""

import sys
from pathlib import Path

from rig.dtls.coap import GET, POST, PUT, Message, OptionNumber, Type

ACCEPT, FORMAT = OptionNumber.ACCEPT, OptionNumber.CONTENT_FORMAT
BLOCK1, BLOCK2, OBSERVE = OptionNumber.BLOCK1, OptionNumber.BLOCK2, OptionNumber.OBSERVE
NO_RESPONSE = 258
TELEMETRY = 8 << 12
"""In the bytes before a message: 65 s pass, and so a reading becomes due and an upload is given up."""


def request(
    method: int,
    path: str,
    *options: tuple[int, int | bytes],
    payload: bytes = b"",
    mid: int = 1,
    type_: Type = Type.CON,
) -> bytes:
    """Return one request; a query follows the path after a question mark."""
    path, _, query = path.partition("?")
    named: list[tuple[int, bytes]] = [(OptionNumber.URI_PATH, part.encode()) for part in path.strip("/").split("/")]
    named += [(OptionNumber.URI_QUERY, query.encode())] if query else []
    named += [(number, value if isinstance(value, bytes) else number_bytes(value)) for number, value in options]
    return Message(type_, method, mid, b"tk", tuple(named), payload).encode()


def number_bytes(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def sequence(*messages: bytes, head: int = 0) -> bytes:
    """Return the input that sends the messages one after the other."""
    return b"".join((head | len(message)).to_bytes(2, "big") + message for message in messages)


def block(number: int, more: bool, szx: int) -> int:
    return number << 4 | more << 3 | szx


INPUTS = {
    "light-get": sequence(request(GET, "/light")),
    "light-put": sequence(request(PUT, "/light", payload=b"on"), request(GET, "/light", mid=2)),
    "light-twice": sequence(*[request(PUT, "/light", payload=b"on")] * 2),
    "light-non-twice": sequence(*[request(PUT, "/light", payload=b"on", type_=Type.NON)] * 2),
    "light-observe": sequence(
        request(GET, "/light", (OBSERVE, 0)),
        request(PUT, "/light", payload=b"on", mid=2),
        request(GET, "/light", (OBSERVE, 1), mid=3),
    ),
    "sensor-json": sequence(request(GET, "/sensor", (ACCEPT, 50))),
    "sensor-cbor": sequence(request(GET, "/sensor", (ACCEPT, 60))),
    "sensor-observe": sequence(*(request(GET, "/sensor", (OBSERVE, 0), mid=mid) for mid in range(4)), head=TELEMETRY),
    "sensor-observe-non": sequence(
        *(request(GET, "/sensor", (OBSERVE, 0), mid=mid, type_=Type.NON) for mid in range(8)), head=TELEMETRY
    ),
    "sensor-refused-unseen": sequence(
        request(GET, "/sensor", (OBSERVE, 0), (ACCEPT, 41), (NO_RESPONSE, 8), type_=Type.NON),
        request(GET, "/sensor", mid=2),
        head=TELEMETRY,
    ),
    "blob-get": sequence(
        request(GET, "/blob?n=100", (BLOCK2, block(0, False, 2))),
        request(GET, "/blob?n=100", (BLOCK2, block(1, False, 2)), mid=2),
    ),
    "blob-large": sequence(request(GET, "/blob?n=8192")),
    "blob-put": sequence(
        request(PUT, "/blob", (FORMAT, 42), (BLOCK1, block(0, True, 0)), payload=bytes(16)),
        request(PUT, "/blob", (FORMAT, 42), (BLOCK1, block(1, True, 0)), payload=bytes(16), mid=2),
        request(PUT, "/blob", (FORMAT, 42), (BLOCK1, block(2, False, 0)), payload=bytes(9), mid=3),
    ),
    "blob-put-announced": sequence(request(PUT, "/blob", (OptionNumber.SIZE1, 8192), payload=bytes(64))),
    "blob-put-too-large": sequence(
        *(request(PUT, "/blob", (BLOCK1, block(mid, True, 6)), payload=bytes(1024), mid=mid) for mid in range(10)),
    ),
    "blob-put-given-up": sequence(
        *(
            request(POST, "/blob", (BLOCK1, block(number, True, 0)), payload=bytes(16), mid=number)
            for number in range(3)
        ),
        head=TELEMETRY,
    ),
    "power": sequence(request(PUT, "/power?mode=light_sleep", payload=b"1500")),
    "stats": sequence(request(GET, "/stats", (BLOCK2, block(0, False, 0)))),
    "config-get": sequence(request(GET, "/config")),
    "config-put": sequence(
        request(PUT, "/config", (FORMAT, 50), payload=b'{"max_sessions": 3, "telemetry_period_ms":100}')
    ),
    "config-limits": sequence(
        request(PUT, "/config", payload=b'{"max_sessions":12,"max_handshakes":6,"handshake_timeout_ms":60000}'),
        request(PUT, "/config", payload=b'{"idle_timeout_s":10,"telemetry_period_ms":100}', mid=2),
    ),
    "core": sequence(request(GET, "/.well-known/core", (BLOCK2, block(0, False, 1)))),
    "conditions": sequence(
        request(PUT, "/light", (OptionNumber.IF_NONE_MATCH, b""), payload=b"on"),
        request(PUT, "/light", (OptionNumber.IF_MATCH, b"tag"), payload=b"on", mid=2),
    ),
    "ping": sequence(Message(Type.CON, 0, 1).encode()),
    "reset": sequence(request(GET, "/sensor", (OBSERVE, 0)), Message(Type.RST, 0, 1).encode(), head=TELEMETRY),
}


def without_confirmation(content: bytes) -> bytes:
    """Return the input with its confirmable messages made non-confirmable."""
    changed, at = bytearray(content), 0
    while at < len(content):
        if content[at + 2] & 0x30 == Type.CON << 4:
            changed[at + 2] |= Type.NON << 4
        at += 2 + (int.from_bytes(content[at : at + 2], "big") & 0xFFF)
    return bytes(changed)


def main() -> None:
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in INPUTS.items():
        (directory / name).write_bytes(content)
        (directory / f"{name}-without-confirmation").write_bytes(without_confirmation(content))


if __name__ == "__main__":
    main()
