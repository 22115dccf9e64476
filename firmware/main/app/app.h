/* The application: one CoAP server over DTLS, the same code on the chip and on the virtual bench. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* What outlives deep sleep. */
typedef struct {
    uint32_t boot_count;
} app_retained_t;

typedef struct {
    app_retained_t *retained;
    int reset_reason;
    bool light_on;
    uint32_t sleep_ms;      /* how long to sleep; 0: stay awake */
    uint64_t sleep_from_us; /* when the server closes for it */
} app_state_t;

void app_run(void) __attribute__((noreturn));
