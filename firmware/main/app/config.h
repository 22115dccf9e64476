/* The settings of /config. They live in RAM: a reset brings the defaults back. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "writer.h"

typedef struct {
    uint32_t max_sessions;
    uint32_t max_handshakes;
    uint32_t handshake_timeout_ms;
    uint32_t idle_timeout_s;
    uint32_t telemetry_period_ms;
} config_t;

void config_defaults(config_t *config);

/* As a JSON object of all settings. */
void config_print(const config_t *config, writer_t *writer);

/* Take over the settings that a JSON object names: known keys, each at most once, with integers within their ranges.
 * All or nothing: on false config is as before, and problem says what is wrong, with the key. */
bool config_parse(const uint8_t *text, size_t length, config_t *config, writer_t *problem);
