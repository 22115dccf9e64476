/* The CoAP server: coaps only, one PSK identity. */
#pragma once

#include <stdint.h>

#include "app.h"
#include "credentials.h"

#define COAPS_PORT 5684
#define COAP_PORT 5683 /* with CONFIG_PAYLOAD_ENCRYPTION, instead */

/* Open the endpoint. Aborts, and so restarts the chip, if it cannot. */
void server_start(const char *listen_address, const credentials_t *credentials, app_state_t *state);

/* Serve until state->power is due; feeds the watchdog in each round. */
void server_run(void);

/* Close every session with close_notify and free everything. */
void server_stop(void);
