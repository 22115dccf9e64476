#include "config.h"

void config_defaults(config_t *config)
{
    *config = (config_t){
        .max_sessions = 12,
        .max_handshakes = 6,
        .handshake_timeout_ms = 30000,
        .idle_timeout_s = 3600,
        .telemetry_period_ms = 1000,
    };
}
