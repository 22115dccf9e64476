"""Secure boot's signature block behind an application image (ESP-IDF, Security Guides, "Secure Boot V2").

The image is padded with 0xff to a multiple of 4 KiB; then come up to three blocks of 1216 bytes in a sector of their
own. Only the shape and the digest of the image are looked at: whose key has signed is for the chip to say.
"""

import hashlib
import zlib

SECTOR_BYTES = 0x1000
BLOCK_BYTES = 1216
_MAGIC, _VERSION = 0xE7, 2
_DIGEST = slice(4, 36)
_CRC = slice(1196, 1200)


def is_signed(data: bytes, length: int) -> bool:
    """Return whether the image of *length* bytes at the start of *data* is followed by a signature block for it."""
    start = length + -length % SECTOR_BYTES
    block = data[start : start + BLOCK_BYTES]
    if len(block) < BLOCK_BYTES or (block[0], block[1]) != (_MAGIC, _VERSION):
        return False
    digest = hashlib.sha256(data[:start]).digest()
    return block[_DIGEST] == digest and block[_CRC] == zlib.crc32(block[: _CRC.start]).to_bytes(4, "little")
