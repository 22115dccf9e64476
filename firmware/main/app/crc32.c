#include "crc32.h"

#define POLYNOMIAL_REFLECTED 0xedb88320u

uint32_t crc32_update(uint32_t crc, const uint8_t *bytes, size_t length)
{
    crc = ~crc;
    for (size_t i = 0; i < length; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (crc & 1 ? POLYNOMIAL_REFLECTED : 0);
        }
    }
    return ~crc;
}
