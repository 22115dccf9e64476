/* The CoAP server: coaps only, one PSK identity. With CONFIG_PAYLOAD_ENCRYPTION plain coap instead, which shows what an
 * encrypted payload alone gives away. */
#pragma once

#include "app.h"
#include "credentials.h"

#define COAPS_PORT 5684
#define COAP_PORT 5683

/* Open the endpoint. Aborts, and so restarts the chip, if it cannot. */
void server_start(const char *listen_address, const credentials_t *credentials, app_state_t *state);

/* Serve until state->power is due. Feeds the watchdog after each round of I/O. */
void server_run(void);

/* close_notify to every session, without waiting for an answer; then free everything. */
void server_stop(void);
