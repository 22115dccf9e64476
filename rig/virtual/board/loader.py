"""The serial loader: the mask ROM's commands, and those of the stub once one has been uploaded.

Source: esptool, "Serial Protocol". The uploaded stub's code is accepted and not run: its commands are served here.
A request is ``00 op length16 checksum32 data``, a reply ``01 op length16 value32 data status``; the status has four
bytes from the ROM and two from the stub, the first not zero on error.
"""

import enum
import hashlib
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from rig.formats.image import CHIP_ID_ESP32C3, xor_checksum
from rig.virtual.board import slip
from rig.virtual.board.flash import FLASH_BYTES, Flash, FlashRangeError
from rig.virtual.board.registers import Registers

_REQUEST = struct.Struct("<BBHI")
_WORD = struct.Struct("<I")
_TWO_WORDS = struct.Struct("<II")
_FOUR_WORDS = struct.Struct("<IIII")
_SYNC_REPLIES = 8
_ROM_SYNC_VALUE = 0x20120707  # what a host takes for "the ROM answers"; a running stub says 0
_SECURITY_INFO = struct.pack("<IB7BII", 0, 0, 0, 0, 0, 0, 0, 0, 12, CHIP_ID_ESP32C3, 3)
_SLOW_READ_BYTES = 64
_FIRST_STUB_COMMAND = 0xD0


class _Fault(enum.Enum):
    """Why a command fails, in the numbers of the ROM and of the stub."""

    UNKNOWN_COMMAND = (0x05, 0xFF)
    BAD_LENGTH = (0x05, 0xC0)
    BAD_CHECKSUM = (0x07, 0xC1)
    FLASH_FAILED = (0x08, 0xC4)
    NOT_WRITING = (0x06, 0xC6)
    INFLATE_FAILED = (0x0B, 0xC7)


class _Refused(Exception):
    """A command fails."""

    def __init__(self, fault: _Fault) -> None:
        super().__init__(fault.name)
        self.fault = fault


@dataclass
class _Write:
    """A write to flash under way: where the next byte goes, and how many the host has announced."""

    offset: int
    remaining: int
    inflate: "zlib._Decompress | None"


@dataclass
class _Read:
    """A fast read under way: the host acknowledges by the number of bytes it has got."""

    data: bytes
    block_bytes: int
    window_bytes: int
    sent: int = 0
    acknowledged: int = 0


class Loader:
    """One session with the loader, from a reset into download mode to the next reset.

    *send* takes bytes for the host; *run_user_code* is called when the host leaves the loader for what is in flash.
    """

    def __init__(
        self, flash: Flash, mac: bytes, send: Callable[[bytes], None], run_user_code: Callable[[], None]
    ) -> None:
        self._flash = flash
        self._registers = Registers(mac)
        self._send = send
        self._run_user_code = run_user_code
        self._decoder = slip.Decoder()
        self._stub = False
        self._write: _Write | None = None
        self._read: _Read | None = None
        self._commands: dict[int, Callable[[bytes, int], tuple[int, bytes]]] = {
            0x02: self._flash_begin,
            0x03: self._flash_data,
            0x05: self._accept,  # MEM_BEGIN
            0x07: self._mem_data,
            0x09: self._write_registers,
            0x0A: self._read_register,
            0x0B: self._accept,  # SPI_SET_PARAMS
            0x0D: self._accept,  # SPI_ATTACH
            0x0E: self._read_flash_slow,
            0x0F: self._accept,  # CHANGE_BAUDRATE: bytes arrive at any rate
            0x10: self._deflate_begin,
            0x11: self._deflate_data,
            0x13: self._flash_md5,
            0x14: self._security_info,
            0xD0: self._erase_flash,
            0xD1: self._erase_region,
        }
        # These say more than one reply, or say it before or after they act.
        self._conversations: dict[int, Callable[[int, bytes], None]] = {
            0x04: self._flash_end,
            0x06: self._mem_end,
            0x08: self._sync,
            0x12: self._flash_end,
            0xD2: self._read_flash,
            0xD3: self._run,
        }

    def feed(self, data: bytes) -> None:
        """Take bytes from the host and answer the requests they complete."""
        for frame in self._decoder.feed(data):
            if self._read is not None:
                self._acknowledge(self._read, frame)
            else:
                self._take(frame)

    def _take(self, frame: bytes) -> None:
        if len(frame) < _REQUEST.size or frame[0] != 0:
            return  # noise on the line
        _, opcode, length, checksum = _REQUEST.unpack_from(frame)
        data = frame[_REQUEST.size :]
        try:
            if len(data) != length:
                raise _Refused(_Fault.BAD_LENGTH)
            self._carry_out(opcode, data, checksum)
        except _Refused as refused:
            self._reply(opcode, fault=refused.fault)
        except struct.error:
            self._reply(opcode, fault=_Fault.BAD_LENGTH)
        except FlashRangeError:
            self._reply(opcode, fault=_Fault.FLASH_FAILED)

    def _carry_out(self, opcode: int, data: bytes, checksum: int) -> None:
        known = self._stub or opcode < _FIRST_STUB_COMMAND
        if known and opcode in self._conversations:
            self._conversations[opcode](opcode, data)
        elif known and opcode in self._commands:
            self._reply(opcode, *self._commands[opcode](data, checksum))
        else:
            raise _Refused(_Fault.UNKNOWN_COMMAND)

    def _reply(self, opcode: int, value: int = 0, data: bytes = b"", fault: _Fault | None = None) -> None:
        status = bytes([1, fault.value[1 if self._stub else 0]]) if fault else b"\0\0"
        status += b"" if self._stub else b"\0\0"
        self._send(slip.encode(_REQUEST.pack(1, opcode, len(data) + len(status), value) + data + status))

    def _accept(self, _data: bytes, _checksum: int) -> tuple[int, bytes]:
        return 0, b""

    def _sync(self, opcode: int, _data: bytes) -> None:
        for _ in range(_SYNC_REPLIES):
            self._reply(opcode, 0 if self._stub else _ROM_SYNC_VALUE)

    def _security_info(self, _data: bytes, _checksum: int) -> tuple[int, bytes]:
        return 0, _SECURITY_INFO

    def _read_register(self, data: bytes, _checksum: int) -> tuple[int, bytes]:
        (address,) = _WORD.unpack_from(data)
        return self._registers.read(address), b""

    def _write_registers(self, data: bytes, _checksum: int) -> tuple[int, bytes]:
        for address, value, mask, _delay_us in _FOUR_WORDS.iter_unpack(data):
            self._registers.write(address, value, mask)
        return 0, b""

    def _mem_data(self, data: bytes, checksum: int) -> tuple[int, bytes]:
        _block(data, checksum)
        return 0, b""

    def _mem_end(self, opcode: int, data: bytes) -> None:
        _stay, entry = _TWO_WORDS.unpack_from(data)
        self._reply(opcode)
        if entry:
            self._stub = True
            self._send(slip.encode(b"OHAI"))

    def _flash_begin(self, data: bytes, _checksum: int) -> tuple[int, bytes]:
        self._begin_write(data, None)
        return 0, b""

    def _deflate_begin(self, data: bytes, _checksum: int) -> tuple[int, bytes]:
        self._begin_write(data, zlib.decompressobj())
        return 0, b""

    def _begin_write(self, data: bytes, inflate: "zlib._Decompress | None") -> None:
        size, _blocks, _block_bytes, offset = _FOUR_WORDS.unpack_from(data)
        self._flash.erase(offset, size)
        self._write = _Write(offset, size, inflate)

    def _flash_data(self, data: bytes, checksum: int) -> tuple[int, bytes]:
        block = _block(data, checksum)
        if self._write is None or self._write.inflate is not None:
            raise _Refused(_Fault.NOT_WRITING)
        self._program(self._write, block)
        return 0, b""

    def _deflate_data(self, data: bytes, checksum: int) -> tuple[int, bytes]:
        block = _block(data, checksum)
        if self._write is None or self._write.inflate is None:
            raise _Refused(_Fault.NOT_WRITING)
        try:
            # One byte more than announced is enough to see that there is too much.
            plain = self._write.inflate.decompress(block, self._write.remaining + 1)
        except zlib.error:
            raise _Refused(_Fault.INFLATE_FAILED) from None
        self._program(self._write, plain)
        return 0, b""

    def _program(self, write: _Write, data: bytes) -> None:
        # The ROM's last block is padded to its full length; what goes beyond the announced size is not written.
        data = data[: write.remaining]
        self._flash.program(write.offset, data)
        write.offset += len(data)
        write.remaining -= len(data)

    def _flash_end(self, opcode: int, data: bytes) -> None:
        (stay,) = _WORD.unpack_from(data)
        self._reply(opcode)
        self._write = None
        if not self._stub:
            self._run_user_code()
        elif not stay:
            self._stub = False  # the stub returns to the ROM, which goes on listening

    def _run(self, _opcode: int, _data: bytes) -> None:
        self._run_user_code()

    def _flash_md5(self, data: bytes, _checksum: int) -> tuple[int, bytes]:
        offset, length = _TWO_WORDS.unpack_from(data)
        digest = hashlib.md5(self._flash.read(offset, length), usedforsecurity=False)
        return 0, digest.digest() if self._stub else digest.hexdigest().encode()

    def _erase_flash(self, _data: bytes, _checksum: int) -> tuple[int, bytes]:
        self._flash.erase(0, FLASH_BYTES)
        return 0, b""

    def _erase_region(self, data: bytes, _checksum: int) -> tuple[int, bytes]:
        offset, length = _TWO_WORDS.unpack_from(data)
        self._flash.erase(offset, length)
        return 0, b""

    def _read_flash_slow(self, data: bytes, _checksum: int) -> tuple[int, bytes]:
        offset, length = _TWO_WORDS.unpack_from(data)
        return 0, self._flash.read(offset, min(length, _SLOW_READ_BYTES)).ljust(_SLOW_READ_BYTES, b"\0")

    def _read_flash(self, opcode: int, data: bytes) -> None:
        offset, length, block_bytes, in_flight = _FOUR_WORDS.unpack_from(data)
        if block_bytes == 0 or in_flight == 0:
            raise _Refused(_Fault.BAD_LENGTH)
        self._read = _Read(self._flash.read(offset, length), block_bytes, block_bytes * in_flight)
        self._reply(opcode)
        self._continue_read(self._read)

    def _acknowledge(self, read: _Read, frame: bytes) -> None:
        if len(frame) == _WORD.size:
            (read.acknowledged,) = _WORD.unpack(frame)
            self._continue_read(read)
        else:  # the host has given up and begins something else
            self._read = None
            self._take(frame)

    def _continue_read(self, read: _Read) -> None:
        while read.sent < len(read.data) and read.sent - read.acknowledged < read.window_bytes:
            block = read.data[read.sent : read.sent + read.block_bytes]
            self._send(slip.encode(block))
            read.sent += len(block)
        if read.acknowledged >= len(read.data):
            self._send(slip.encode(hashlib.md5(read.data, usedforsecurity=False).digest()))
            self._read = None


def _block(data: bytes, checksum: int) -> bytes:
    """Return the block that follows the four words of a data command, its length and checksum verified."""
    length, _sequence, _, _ = _FOUR_WORDS.unpack_from(data)
    block = data[_FOUR_WORDS.size :]
    if len(block) != length:
        raise _Refused(_Fault.BAD_LENGTH)
    if xor_checksum(block) != checksum & 0xFF:
        raise _Refused(_Fault.BAD_CHECKSUM)
    return block
