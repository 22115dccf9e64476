/* Decimal numbers out of bytes that a stranger sent. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint32_t min;
    uint32_t max;
} number_range_t;

/* One or more decimal digits and nothing else, within the range. Leading zeros are digits too. */
bool number_parse(const uint8_t *text, size_t length, number_range_t range, uint32_t *value);
