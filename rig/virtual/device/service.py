"""What a request comes to: paths, methods, formats, preconditions, blocks (RFC 7252 5.8 to 5.10, RFC 7959)."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

from rig.dtls.coap import DELETE, GET, POST, PUT, Block, Message, OptionNumber, Options, uint
from rig.virtual.device.answers import CHANGED, CONTENT, CONTINUE, VALID, Crash, Refused, Response
from rig.virtual.device.blockwise import SZX_DEFAULT, Uploads, block_of, part_of
from rig.virtual.device.misbehaviour import Misbehaviour
from rig.virtual.device.options import usable
from rig.virtual.device.resources import Blob, Config, Core, Light, Power, Resource, Sensor, Stats, Status

_METHODS = {GET: "GET", POST: "POST", PUT: "PUT", DELETE: "DELETE"}
_SUCCESS = range(0x40, 0x60)


@dataclass(frozen=True)
class _Begun:
    """The representation that a client is reading in blocks: later blocks are of the same state as the first."""

    key: tuple[str, tuple[bytes, ...], int]
    body: bytes
    szx: int


class Service:
    """The device's resources. *on_change* is told the path of each that has a new state."""

    def __init__(self, wrong: Misbehaviour, status: Status, on_change: Callable[[str], None]) -> None:
        self.executed = 0
        self._wrong = wrong
        self._on_change = on_change
        self._uploads = Uploads(wrong)
        self._begun: dict[int, _Begun] = {}
        config = Config()
        self.sensor = Sensor(config, status)
        self.power = Power()
        resources = (Light(), self.sensor, Blob(), Stats(status), config, self.power)
        self._resources: dict[str, Resource] = {each.path: each for each in (*resources, Core(resources))}

    @property
    def held_bytes(self) -> int:
        """What unfinished bodies occupy."""
        return self._uploads.held_bytes

    def resource_of(self, request: Message) -> Resource | None:
        """Return the resource that *request* asks for."""
        return self._resources.get(request.path.removeprefix("/"))

    def forget(self, client: int) -> None:
        """Give up what *client* has begun."""
        self._uploads.forget(client)
        self._begun.pop(client, None)

    def serve(self, now_s: float, client: int, request: Message) -> Response:
        """Return the response. Raises only `Crash`."""
        try:
            return self._serve(now_s, client, usable(request, self._wrong))
        except Refused as refused:
            return refused.response

    def _serve(self, now_s: float, client: int, request: Message) -> Response:
        if request.values(OptionNumber.PROXY_URI) or request.values(OptionNumber.PROXY_SCHEME):
            raise Refused("5.05", "this is no proxy")
        resource = self.resource_of(request)
        if resource is None:
            raise Refused("5.00" if self._wrong.not_found_is_5_00 else "4.04", "there is no such resource")
        method = _METHODS.get(request.code)
        if method not in resource.methods:
            raise Refused("4.05", f"{', '.join(resource.methods)} can be asked of this resource")
        self._check_preconditions(resource, request)
        if method == "GET":
            return self._get(client, resource, request)
        return self._change(now_s, client, resource, request)

    def _check_preconditions(self, resource: Resource, request: Message) -> None:
        """RFC 7252 5.10.8: every resource of this device exists."""
        if request.values(OptionNumber.IF_NONE_MATCH):
            raise Refused("4.12", "the resource exists")
        wanted = request.values(OptionNumber.IF_MATCH)
        if not wanted or b"" in wanted:
            return
        if not any(_tag(resource.get({}, each), each) in wanted for each in resource.answers):
            raise Refused("4.12", "the resource has another ETag")

    # --- GET

    def _get(self, client: int, resource: Resource, request: Message) -> Response:
        content_format = self._format(resource.answers, request)
        asked = block_of(request, OptionNumber.BLOCK2, self._wrong)
        begun = self._representation(client, resource, request, content_format, asked)
        tag = _tag(begun.body, content_format)
        if tag in request.values(OptionNumber.ETAG) and (asked is None or asked.number == 0):
            return Response(VALID, ((OptionNumber.ETAG, tag),))
        block, content = part_of(begun.body, asked, begun.szx, self._wrong)
        options: Options = ((OptionNumber.ETAG, tag), (OptionNumber.CONTENT_FORMAT, uint(content_format)))
        if block is not None:
            size = (OptionNumber.SIZE2, uint(len(begun.body)))
            options = (*options, (OptionNumber.BLOCK2, block.encode()), size)
        return Response(CONTENT, options, content)

    def _representation(
        self, client: int, resource: Resource, request: Message, content_format: int, asked: Block | None
    ) -> _Begun:
        queries = request.values(OptionNumber.URI_QUERY)
        key = resource.path, queries, content_format
        begun = self._begun.get(client)
        if asked is None or asked.number == 0 or begun is None or begun.key != key:
            query = dict(_pair(each) for each in queries)
            szx = asked.szx if asked else SZX_DEFAULT
            begun = _Begun(key, resource.get(query, content_format), szx)
            self._begun[client] = begun
        return begun

    def _format(self, formats: tuple[int, ...], request: Message) -> int:
        """Return the Content-Format of the answer. Raises `Refused` if the client takes none of *formats*."""
        accepted = request.values(OptionNumber.ACCEPT)
        if not accepted or self._wrong.accept_ignored:
            return formats[0]
        wanted = int.from_bytes(accepted[0], "big")
        if wanted not in formats:
            raise Refused("4.06", f"the formats are {', '.join(str(each) for each in formats)}")
        return wanted

    # --- PUT and POST

    def _change(self, now_s: float, client: int, resource: Resource, request: Message) -> Response:
        self._check_format(resource, request)
        block = block_of(request, OptionNumber.BLOCK1, self._wrong)
        limit = self._wrong.panics_above_bytes
        if limit and block is None and len(request.payload) > limit:
            raise Crash(f"{len(request.payload)} bytes in a buffer of {limit}")
        options: Options = () if block is None else ((OptionNumber.BLOCK1, block.encode()),)
        body = self._uploads.take(now_s, (client, resource.path), block, request, resource.body_max)
        if body is None:
            return Response(CONTINUE, options)
        content, changed = resource.change(body)
        self.executed += 1
        if changed:
            self._on_change(resource.path)
        if resource.answers_change:
            content_format = self._format(resource.answers_change, request)
            options = (*options, (OptionNumber.CONTENT_FORMAT, uint(content_format)))
        return Response(CHANGED, options, content)

    def _check_format(self, resource: Resource, request: Message) -> None:
        given = request.values(OptionNumber.CONTENT_FORMAT)
        if given and int.from_bytes(given[0], "big") not in resource.takes:
            raise Refused("4.15", f"the formats are {', '.join(str(each) for each in resource.takes)}")
        if resource.answers_change:
            self._format(resource.answers_change, request)


def succeeded(response: Response) -> bool:
    """Whether the code is of class 2."""
    return response.code in _SUCCESS


def _tag(body: bytes, content_format: int) -> bytes:
    return zlib.crc32(body, content_format).to_bytes(4, "big")


def _pair(query: bytes) -> tuple[str, str]:
    name, _, value = query.decode(errors="replace").partition("=")
    return name, value
