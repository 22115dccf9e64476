/* The application: one CoAP server, the same code on the chip and on the virtual bench. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "config.h"

/* What outlives deep sleep. */
typedef struct {
    uint32_t boot_count;
} app_retained_t;

typedef enum {
    POWER_AWAKE,
    POWER_DEEP_SLEEP,
    POWER_LIGHT_SLEEP,
    POWER_RADIO_OFF,
} power_mode_t;

/* What /power asked for. POWER_AWAKE: nothing. */
typedef struct {
    power_mode_t mode;
    uint32_t duration_ms;
    uint64_t from_us; /* when the server may stop for it */
} power_request_t;

typedef struct {
    app_retained_t *retained;
    int reset_reason;
    int wake_cause;
    bool light_on;
    power_request_t power;
    config_t config;
} app_state_t;

void app_run(void) __attribute__((noreturn));

/* An answer has been handed to the network. The first one after a boot or a wake is told on the console. */
void app_answered(void);

/* The word for a PLATFORM_WAKE_* number. */
const char *app_wake_cause_name(int cause);
