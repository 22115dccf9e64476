"""SLIP framing (RFC 1055) of the serial protocol."""

_END = b"\xc0"
_MAX_FRAME_BYTES = 1 << 17


def encode(payload: bytes) -> bytes:
    """Return *payload* as a frame with a delimiter on both sides."""
    return _END + payload.replace(b"\xdb", b"\xdb\xdd").replace(b"\xc0", b"\xdb\xdc") + _END


class Decoder:
    """Turns a byte stream into frames; text between frames comes out as a frame that nobody will understand."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the payloads of the frames that *data* completes."""
        *frames, self._rest = (self._rest + data).split(_END)
        if len(self._rest) > _MAX_FRAME_BYTES:
            self._rest = b""
        return [frame.replace(b"\xdb\xdc", b"\xc0").replace(b"\xdb\xdd", b"\xdb") for frame in frames if frame]

    def reset(self) -> None:
        """Forget a frame that has only begun."""
        self._rest = b""
