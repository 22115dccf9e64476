/* For faults of how requests are served: the application's handler, and a way to stand before it. */
#pragma once

#include <coap3/coap.h>

void __real_coap_register_request_handler(coap_resource_t *resource, coap_request_t method,
                                          coap_method_handler_t handler);

/* The one handler that the application registers for every resource and method. */
static coap_method_handler_t application_handler;

static inline void register_instead(coap_resource_t *resource, coap_request_t method, coap_method_handler_t handler,
                                    coap_method_handler_t other)
{
    application_handler = handler;
    __real_coap_register_request_handler(resource, method, other);
}
