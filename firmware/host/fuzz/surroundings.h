/* The device around the request handlers: a clock that only the fuzzer moves, and nothing that takes time. */
#pragma once

#include <stdint.h>

void surroundings_advance_ms(uint64_t duration_ms);
