/* The wire to the virtual board: what this process tells of the chip's pins, radio and sleep. */
#pragma once

#include <stdint.h>

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t chip_now_ns(void);

/* Send one message, stamped with the instant at which it happened. */
void chip_report(uint64_t time_ns, const char *format, ...) __attribute__((format(printf, 2, 3)));
