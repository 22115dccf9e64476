/* Limits and periods that /config shows and sets. In RAM only: a reset brings the defaults back. */
#pragma once

#include <stdint.h>

typedef struct {
    uint32_t max_sessions;
    uint32_t max_handshakes;
    uint32_t handshake_timeout_ms;
    uint32_t idle_timeout_s;
    uint32_t telemetry_period_ms;
} config_t;

void config_defaults(config_t *config);
