#include "number.h"

#define DIGITS_MAX 10 /* of 4294967295 */

bool number_parse(const uint8_t *text, size_t length, number_range_t range, uint32_t *value)
{
    uint64_t sum = 0;

    if (length == 0 || length > DIGITS_MAX) {
        return false;
    }
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return false;
        }
        sum = sum * 10 + (uint64_t)(text[i] - '0');
    }
    if (sum < range.min || sum > range.max) {
        return false;
    }
    *value = (uint32_t)sum;
    return true;
}
