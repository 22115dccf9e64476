/* The CoAP resources: which there are, and what is the same for all of them. */
#pragma once

#include <coap3/coap.h>

#include "app.h"

/* Also turns off libcoap's own block-wise support: see body.h. */
void resources_add(coap_context_t *context, app_state_t *state);

/* Call when libcoap has sent what the handlers answered: ends the stretch of the request that was served. */
void resources_request_sent(void);

/* Call in each round: telemetry, and memory that nobody waits for any more. */
void resources_tick(void);

/* How long the next call of resources_tick may take to come: at least 1. */
uint32_t resources_next_tick_ms(void);

/* Before the end: forget the observers without a notification (the resources are not gone, the device only sleeps),
 * and the bodies that are under way. */
void resources_drop_observers(void);
