/* CRC-32 as in IEEE 802.3 and zlib. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* crc: 0 to begin with, else the value so far. */
uint32_t crc32_update(uint32_t crc, const uint8_t *bytes, size_t length);
