"""Reading and writing the integers and vectors of RFC 5246 section 4."""

from rig.errors import DeviceError


class DecodeError(DeviceError):
    """Bytes that are not what the protocol says they should be."""


class Reader:
    """Takes values from the front of a byte string; running out raises `DecodeError`."""

    def __init__(self, data: bytes, what: str) -> None:
        """*what* names the structure in errors."""
        self._data = data
        self._position = 0
        self._what = what

    def take(self, count: int) -> bytes:
        """Return the next *count* bytes."""
        end = self._position + count
        if end > len(self._data):
            raise DecodeError(f"{self._what} ends early: {count} bytes wanted, {self.remaining} left")
        data = self._data[self._position : end]
        self._position = end
        return data

    def uint(self, size: int) -> int:
        """Return an unsigned integer of *size* bytes, network order."""
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> bytes:
        """Return a vector whose length is given in *size* bytes."""
        return self.take(self.uint(size))

    def rest(self) -> bytes:
        """Return everything that is left."""
        return self.take(self.remaining)

    @property
    def remaining(self) -> int:
        """The number of bytes left."""
        return len(self._data) - self._position

    def finish(self) -> None:
        """Raise `DecodeError` if anything is left."""
        if self.remaining:
            raise DecodeError(f"{self._what} has {self.remaining} bytes too many")


def vector(data: bytes, size: int) -> bytes:
    """Return *data* with its length in *size* bytes before it."""
    return len(data).to_bytes(size, "big") + data
