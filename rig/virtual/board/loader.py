"""The serial loader: the mask ROM's commands, and those of the stub once one has been uploaded.

Source: esptool, "Serial Protocol". The uploaded stub's code is accepted and not run: its commands are served here.
A request is ``00 op length16 checksum32 data``, a reply ``01 op length16 value32 data status``; the status has four
bytes from the ROM and two from the stub, the first not zero on error.
"""

import enum
import hashlib
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from rig.formats.image import CHIP_ID_ESP32C3, xor_checksum
from rig.virtual.board import slip
from rig.virtual.board.efuse import Efuse
from rig.virtual.board.flash import FLASH_BYTES, Flash, FlashRangeError
from rig.virtual.board.flash_reader import FlashReader
from rig.virtual.board.flash_writer import FlashWriter, InflateError
from rig.virtual.board.registers import Registers

_REQUEST = struct.Struct("<BBHI")
_WORD = struct.Struct("<I")
_TWO_WORDS = struct.Struct("<II")
_FOUR_WORDS = struct.Struct("<IIII")
_SYNC_REPLIES = 8
_ROM_SYNC_VALUE = 0x20120707  # what a host takes for "the ROM answers"; a running stub says 0
_SEVENTH_KEY_PURPOSE = 12
_SECURITY_API = 3
_SLOW_READ_BYTES = 64
_FIRST_STUB_COMMAND = 0xD0
_SECURE_DOWNLOAD_COMMANDS = {0x02, 0x03, 0x04, 0x08, 0x0B, 0x0D, 0x0F, 0x10, 0x11, 0x12, 0x14}
_DATA_COMMANDS = (b"\x03", b"\x11")


class _Fault(enum.Enum):
    """Why a command fails, in the numbers of the ROM and of the stub."""

    UNKNOWN_COMMAND = (0x05, 0xFF)
    BAD_LENGTH = (0x05, 0xC0)
    BAD_CHECKSUM = (0x07, 0xC1)
    FLASH_FAILED = (0x08, 0xC4)
    NOT_WRITING = (0x06, 0xC6)
    INFLATE_FAILED = (0x0B, 0xC7)

    def status(self, *, stub: bool) -> bytes:
        """Return the status bytes that end the reply."""
        of_rom, of_stub = self.value
        return bytes([of_stub, 0]) if stub else bytes([1, of_rom, 0, 0])


class _Refused(Exception):
    """A command fails."""

    def __init__(self, fault: _Fault) -> None:
        super().__init__(fault.name)
        self.fault = fault


@dataclass(frozen=True)
class Surroundings:
    """What the loader acts on besides the flash and the fuses."""

    send: Callable[[bytes], None]  # bytes for the host
    set_baud: Callable[[int], None]  # from the next byte on
    after: Callable[[float, Callable[[], None]], None]  # do something so many seconds later
    run_user_code: Callable[[], None]  # the host leaves the loader for what is in flash
    start_watchdog: Callable[[float], None]  # the RTC watchdog resets the chip so many seconds later


class Loader:
    """One session with the loader, from a reset into download mode to the next reset.

    With *latency* the flash takes a real part's time: requests queue meanwhile, and replies wait for it, except that
    the stub acknowledges a block before it writes it.
    """

    def __init__(self, flash: Flash, fuses: Efuse, around: Surroundings, *, latency: bool) -> None:
        self._flash = flash
        self._fuses = fuses
        self._around = around
        self._latency = latency
        flash.take_busy_s()  # whatever was done before this session is done
        self._registers = Registers(fuses, flash, around.start_watchdog)
        self._decoder = slip.Decoder()
        self._requests: deque[bytes] = deque()
        self._replies: list[bytes] = []
        self._busy = False
        self._stub = False
        self._last_value = 0
        self._upload = (0, 0)  # address and block size
        self._writer: FlashWriter | None = None
        self._reader: FlashReader | None = None
        self._commands: dict[int, Callable[[bytes, int], bytes]] = {
            0x02: self._flash_begin,
            0x03: self._flash_data,
            0x05: self._mem_begin,
            0x07: self._mem_data,
            0x09: self._write_registers,
            0x0B: self._accept,  # SPI_SET_PARAMS
            0x0D: self._accept,  # SPI_ATTACH
            0x0E: self._read_flash_slow,
            0x10: self._deflate_begin,
            0x11: self._deflate_data,
            0x13: self._flash_md5,
            0x14: self._security_info,
            0xD0: self._erase_flash,
            0xD1: self._erase_region,
        }
        # These say more than one reply, or say it before they act.
        self._conversations: dict[int, Callable[[int, bytes], None]] = {
            0x04: self._flash_end,
            0x06: self._mem_end,
            0x08: self._sync,
            0x0A: self._read_register,
            0x0F: self._change_baud,
            0x12: self._flash_end,
            0xD2: self._read_flash,
            0xD3: self._run,
        }

    def feed(self, data: bytes) -> None:
        """Take bytes from the host and answer the requests they complete."""
        self._requests.extend(self._decoder.feed(data))
        self._work()

    # Requests and replies

    def _work(self) -> None:
        while self._requests and not self._busy:
            frame = self._requests.popleft()
            if self._reader is not None and len(frame) == _WORD.size:
                self._acknowledge(self._reader, frame)
            else:
                self._reader = None  # whoever says something else has given up reading
                self._take(frame)
            self._wait_for_flash(acknowledged=self._stub and frame[1:2] in _DATA_COMMANDS)

    def _wait_for_flash(self, *, acknowledged: bool) -> None:
        busy_s = self._flash.take_busy_s()
        if not self._latency:
            busy_s = 0.0
        if acknowledged or not busy_s:
            self._flush()
        if busy_s:
            self._busy = True
            self._around.after(busy_s, self._flash_is_ready)

    def _flash_is_ready(self) -> None:
        self._busy = False
        self._flush()
        self._work()

    def _flush(self) -> None:
        replies, self._replies = self._replies, []
        for reply in replies:
            self._around.send(reply)

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
        except InflateError:
            self._reply(opcode, fault=_Fault.INFLATE_FAILED)

    def _carry_out(self, opcode: int, data: bytes, checksum: int) -> None:
        known = self._stub or opcode < _FIRST_STUB_COMMAND
        if self._fuses.secure_download:
            known = opcode in _SECURE_DOWNLOAD_COMMANDS
        if known and opcode in self._conversations:
            self._conversations[opcode](opcode, data)
        elif known and opcode in self._commands:
            self._reply(opcode, data=self._commands[opcode](data, checksum))
        else:
            raise _Refused(_Fault.UNKNOWN_COMMAND)

    def _reply(self, opcode: int, data: bytes = b"", fault: _Fault | None = None, value: int | None = None) -> None:
        if self._fuses.download_disabled:
            return  # the ROM looks at the fuse after each command
        if value is None:
            value = 0 if self._stub else self._last_value  # the ROM does not clear it
        status = fault.status(stub=self._stub) if fault else bytes(2 if self._stub else 4)
        self._say(_REQUEST.pack(1, opcode, len(data) + len(status), value) + data + status)

    def _say(self, payload: bytes) -> None:
        self._replies.append(slip.encode(payload))

    # Commands of the ROM

    def _accept(self, _data: bytes, _checksum: int) -> bytes:
        return b""

    def _sync(self, opcode: int, _data: bytes) -> None:
        for _ in range(_SYNC_REPLIES):
            self._reply(opcode, value=0 if self._stub else _ROM_SYNC_VALUE)

    def _change_baud(self, opcode: int, data: bytes) -> None:
        baud, _old = _TWO_WORDS.unpack_from(data)
        if not baud:
            raise _Refused(_Fault.BAD_LENGTH)
        self._reply(opcode)
        self._flush()
        self._around.set_baud(baud)

    def _security_info(self, _data: bytes, _checksum: int) -> bytes:
        fuses = self._fuses
        head = struct.pack("<IB", fuses.security_flags, fuses.crypt_count)
        return head + fuses.key_purposes + struct.pack("<BII", _SEVENTH_KEY_PURPOSE, CHIP_ID_ESP32C3, _SECURITY_API)

    def _read_register(self, opcode: int, data: bytes) -> None:
        (address,) = _WORD.unpack_from(data)
        self._last_value = self._registers.read(address)
        self._reply(opcode, value=self._last_value)

    def _write_registers(self, data: bytes, _checksum: int) -> bytes:
        for address, value, mask, _delay_us in _FOUR_WORDS.iter_unpack(data):
            self._registers.write(address, value, mask)
        return b""

    def _mem_begin(self, data: bytes, _checksum: int) -> bytes:
        _size, _blocks, block_bytes, address = _FOUR_WORDS.unpack_from(data)
        self._upload = (address, block_bytes)
        return b""

    def _mem_data(self, data: bytes, checksum: int) -> bytes:
        sequence, block = _block(data, checksum)
        address, block_bytes = self._upload
        self._registers.load(address + sequence * block_bytes, block)
        return b""

    def _mem_end(self, opcode: int, data: bytes) -> None:
        _stay, entry = _TWO_WORDS.unpack_from(data)
        self._reply(opcode)
        if entry:
            self._stub = True
            self._say(b"OHAI")

    def _flash_begin(self, data: bytes, _checksum: int) -> bytes:
        self._begin_write(data, compressed=False)
        return b""

    def _deflate_begin(self, data: bytes, _checksum: int) -> bytes:
        self._begin_write(data, compressed=True)
        return b""

    def _begin_write(self, data: bytes, *, compressed: bool) -> None:
        size, _blocks, _block_bytes, offset = _FOUR_WORDS.unpack_from(data)
        self._writer = FlashWriter(self._flash, offset, size, compressed=compressed, erase_first=not self._stub)

    def _flash_data(self, data: bytes, checksum: int) -> bytes:
        self._write(data, checksum, compressed=False)
        return b""

    def _deflate_data(self, data: bytes, checksum: int) -> bytes:
        self._write(data, checksum, compressed=True)
        return b""

    def _write(self, data: bytes, checksum: int, *, compressed: bool) -> None:
        _, block = _block(data, checksum)
        if self._writer is None or self._writer.compressed is not compressed:
            raise _Refused(_Fault.NOT_WRITING)
        self._writer.take(block)

    def _flash_end(self, opcode: int, data: bytes) -> None:
        (stay,) = _WORD.unpack_from(data)
        self._reply(opcode)
        self._writer = None
        if not self._stub:
            self._run(opcode, data)
        elif not stay:
            self._stub = False  # the stub returns to the ROM, which goes on listening

    def _flash_md5(self, data: bytes, _checksum: int) -> bytes:
        offset, length = _TWO_WORDS.unpack_from(data)
        digest = hashlib.md5(self._flash.read(offset, length), usedforsecurity=False)
        return digest.digest() if self._stub else digest.hexdigest().encode()

    def _read_flash_slow(self, data: bytes, _checksum: int) -> bytes:
        offset, length = _TWO_WORDS.unpack_from(data)
        return self._flash.read(offset, min(length, _SLOW_READ_BYTES)).ljust(_SLOW_READ_BYTES, b"\0")

    # Commands of the stub

    def _run(self, _opcode: int, _data: bytes) -> None:
        self._flush()
        self._around.run_user_code()

    def _erase_flash(self, _data: bytes, _checksum: int) -> bytes:
        self._flash.erase(0, FLASH_BYTES)
        return b""

    def _erase_region(self, data: bytes, _checksum: int) -> bytes:
        offset, length = _TWO_WORDS.unpack_from(data)
        self._flash.erase(offset, length)
        return b""

    def _read_flash(self, opcode: int, data: bytes) -> None:
        offset, length, block_bytes, in_flight = _FOUR_WORDS.unpack_from(data)
        if block_bytes == 0 or in_flight == 0:
            raise _Refused(_Fault.BAD_LENGTH)
        reader = FlashReader(self._flash.read(offset, length), block_bytes, in_flight, self._say)
        self._reply(opcode)
        self._reader = reader
        reader.acknowledge(0)

    def _acknowledge(self, reader: FlashReader, frame: bytes) -> None:
        (received_bytes,) = _WORD.unpack(frame)
        reader.acknowledge(received_bytes)
        if reader.done:
            self._reader = None


def _block(data: bytes, checksum: int) -> tuple[int, bytes]:
    """Return the sequence number and the block of a data command, its length and checksum verified."""
    length, sequence, _, _ = _FOUR_WORDS.unpack_from(data)
    block = data[_FOUR_WORDS.size :]
    if len(block) != length:
        raise _Refused(_Fault.BAD_LENGTH)
    if xor_checksum(block) != checksum & 0xFF:
        raise _Refused(_Fault.BAD_CHECKSUM)
    return sequence, block
