"""The resources of the scripted device: those of the firmware that make sense without a board."""

import json
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Literal

from rig.virtual.device.answers import Refused
from rig.virtual.device.blockwise import BODY_MAX

TEXT, LINK_FORMAT, OCTETS, JSON, CBOR = 0, 40, 42, 50, 60
Query = Mapping[str, str]
Status = Callable[[], Mapping[str, int | str]]

_SHORT_BODY_MAX = 64
_CELL_BYTES = 8
_BLOB_BYTES = 64
_PERIOD_MS = range(100, 3_600_001)
_SLEEP_MS = range(1, 86_400_001)


class Resource(ABC):
    """What can be asked of one path.

    attributes: of its link (RFC 6690). answers: Content-Formats of GET, the default first; takes: those of a body.
    observed: how changes are notified, None for a resource that cannot be observed. body_max: bytes of a body.
    """

    path: str
    attributes = ""
    answers: tuple[int, ...] = ()
    answers_change: tuple[int, ...] = ()
    takes: tuple[int, ...] = ()
    methods: tuple[str, ...] = ("GET",)
    observed: Literal["CON", "NON"] | None = None
    multicast = False
    body_max = _SHORT_BODY_MAX

    @abstractmethod
    def get(self, query: Query, content_format: int) -> bytes:
        """Return the representation. Raises `Refused`."""

    def change(self, body: bytes) -> tuple[bytes, bool]:
        """Take a body; return the response's payload and whether the state is a new one. Raises `Refused`."""
        raise NotImplementedError(f"{self.path} has no PUT and no POST")


class Light(Resource):
    """A lamp that is on or off: a command's effect, so notified confirmably."""

    path = "light"
    attributes = ';rt="light";if="core.a";ct=0'
    answers = (TEXT,)
    takes = (TEXT,)
    methods = ("GET", "PUT")
    observed = "CON"

    def __init__(self) -> None:
        self._value = b"off"

    def get(self, query: Query, content_format: int) -> bytes:
        """Return b"on" or b"off"."""
        del query, content_format
        return self._value

    def change(self, body: bytes) -> tuple[bytes, bool]:
        """Take b"on" or b"off"."""
        if body not in (b"on", b"off"):
            raise Refused("4.00", "on or off was expected")
        changed = body != self._value
        self._value = body
        return b"", changed


class Config(Resource):
    """A JSON object of one integer, ``telemetry_period_ms``."""

    path = "config"
    attributes = ';rt="config";if="core.p";ct=50'
    answers = (JSON,)
    takes = (JSON,)
    methods = ("GET", "PUT")
    body_max = 512

    def __init__(self) -> None:
        self.telemetry_period_ms = 10_000

    def get(self, query: Query, content_format: int) -> bytes:
        """Return the settings."""
        del query, content_format
        return _json({"telemetry_period_ms": self.telemetry_period_ms})

    def change(self, body: bytes) -> tuple[bytes, bool]:
        """Take an object with any of the settings, or none."""
        wanted = _object(body)
        unknown = wanted.keys() - {"telemetry_period_ms"}
        if unknown:
            raise Refused("4.00", f"unknown key: {min(unknown)[:32]}")
        period_ms = wanted.get("telemetry_period_ms", self.telemetry_period_ms)
        if type(period_ms) is not int or period_ms not in _PERIOD_MS:
            raise Refused("4.00", f"telemetry_period_ms: an integer from {_PERIOD_MS[0]} to {_PERIOD_MS[-1]}")
        self.telemetry_period_ms = period_ms
        return b"", False


class Sensor(Resource):
    """A reading each ``telemetry_period_ms``; a lost one is followed by a newer one, so notified non-confirmably."""

    path = "sensor"
    attributes = ';rt="telemetry";if="core.s";ct="50 60"'
    answers = (JSON, CBOR)
    observed = "NON"

    def __init__(self, config: Config, status: Status) -> None:
        self._config = config
        self._status = status
        self._taken_s = float("-inf")
        self._reading: dict[str, int] = {"sequence": 0}

    @property
    def due_s(self) -> float:
        """When the next reading is taken."""
        return self._taken_s + self._config.telemetry_period_ms / 1000

    def tick(self, now_s: float) -> bool:
        """Take a reading if it is time."""
        if now_s < self.due_s:
            return False
        status = self._status()
        figures = {name: int(status[name]) for name in ("uptime_ms", "free_heap")}
        self._reading = {"sequence": self._reading["sequence"] + 1, **figures}
        self._taken_s = now_s
        return True

    def get(self, query: Query, content_format: int) -> bytes:
        """Return the newest reading."""
        del query
        return _cbor(self._reading) if content_format == CBOR else _json(self._reading)


class Stats(Resource):
    """Counters and state, for who judges the device."""

    path = "stats"
    attributes = ';rt="stats";if="core.s";ct=50'
    answers = (JSON,)

    def __init__(self, status: Status) -> None:
        self._status = status

    def get(self, query: Query, content_format: int) -> bytes:
        """Return the figures of the moment."""
        del query, content_format
        return _json(self._status())


class Power(Resource):
    """Milliseconds of sleep, decimal. ``asked_s`` is what the device is still to do, None for nothing."""

    path = "power"
    attributes = ';rt="power";if="core.a";ct=0'
    takes = (TEXT,)
    methods = ("PUT",)

    def __init__(self) -> None:
        self.asked_s: float | None = None

    def get(self, query: Query, content_format: int) -> bytes:
        """Never asked for: PUT is the only method."""
        raise NotImplementedError("power has no GET")

    def change(self, body: bytes) -> tuple[bytes, bool]:
        """Take the duration."""
        if not (body.isascii() and body.isdigit() and len(body) <= len(str(_SLEEP_MS[-1])) and int(body) in _SLEEP_MS):
            raise Refused("4.00", f"{_SLEEP_MS[0]} to {_SLEEP_MS[-1]} milliseconds were expected")
        self.asked_s = int(body) / 1000
        return b"", False


class Blob(Resource):
    """``?n=`` bytes of a pattern; a body is answered with its length and CRC-32."""

    path = "blob"
    attributes = ';rt="blob";if="core.p";ct=42'
    answers = (OCTETS,)
    answers_change = (JSON,)
    takes = (OCTETS,)
    methods = ("GET", "PUT", "POST")
    body_max = BODY_MAX

    def get(self, query: Query, content_format: int) -> bytes:
        """Return cells of eight bytes, each its own offset in hexadecimal and a line feed."""
        del content_format
        asked = query.get("n", str(_BLOB_BYTES))
        if not (asked.isascii() and asked.isdigit() and len(asked) <= len(str(BODY_MAX)) and int(asked) <= BODY_MAX):
            raise Refused("4.00", f"n=0 to n={BODY_MAX} was expected in the query")
        cells = (b"%07x\n" % offset for offset in range(0, int(asked), _CELL_BYTES))
        return b"".join(cells)[: int(asked)]

    def change(self, body: bytes) -> tuple[bytes, bool]:
        """Return what was received."""
        return _json({"length": len(body), "crc32": f"{zlib.crc32(body):08x}"}), False


class Core(Resource):
    """The links of all resources (RFC 6690), also for a group (RFC 7252 8.2)."""

    path = ".well-known/core"
    attributes = ";ct=40"
    answers = (LINK_FORMAT,)
    multicast = True

    def __init__(self, others: tuple[Resource, ...]) -> None:
        self._links = ",".join(_link(each) for each in (*others, self)).encode()

    def get(self, query: Query, content_format: int) -> bytes:
        """Return every link; it is not filtered by the query."""
        del query, content_format
        return self._links


def _link(resource: Resource) -> str:
    return f"</{resource.path}>{resource.attributes}{';obs' if resource.observed else ''}"


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise Refused("4.00", "a JSON object was expected") from None
    if not isinstance(value, dict):
        raise Refused("4.00", "a JSON object was expected")
    return value


def _cbor(values: Mapping[str, int]) -> bytes:
    """Encode a map of text to unsigned integers (RFC 8949)."""
    pairs = (_cbor_head(3, len(name)) + name.encode() + _cbor_head(0, value) for name, value in values.items())
    return _cbor_head(5, len(values)) + b"".join(pairs)


def _cbor_head(major: int, value: int) -> bytes:
    if value < 24:
        return bytes((major << 5 | value,))
    for info, size in ((24, 1), (25, 2), (26, 4)):
        if value < 1 << 8 * size:
            return bytes((major << 5 | info,)) + value.to_bytes(size, "big")
    return bytes((major << 5 | 27,)) + value.to_bytes(8, "big")
