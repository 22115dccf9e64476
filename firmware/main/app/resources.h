/* The CoAP resources: /light, /power, /stats. /.well-known/core is libcoap's own. */
#pragma once

#include <coap3/coap.h>

#include "app.h"

void resources_add(coap_context_t *context, app_state_t *state);

/* Call when libcoap has sent what the handlers answered: ends the stretch of the request that was served. */
void resources_request_sent(void);

/* Forget the observers without a notification: the resources are not gone, the device only sleeps. */
void resources_drop_observers(void);

/* Call each round: what is due by time. */
void resources_tick(void);
uint32_t resources_next_tick_ms(void);
