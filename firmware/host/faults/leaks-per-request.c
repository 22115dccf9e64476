/* Fault: 252 bytes are lost with every request. */
#include <stdlib.h>
#include <string.h>

#include "requests.h"

#define LOST_BYTES 252

void __wrap_coap_register_request_handler(coap_resource_t *resource, coap_request_t method,
                                          coap_method_handler_t handler);

static void serve_and_lose(coap_resource_t *resource, coap_session_t *session, const coap_pdu_t *request,
                           const coap_string_t *query, coap_pdu_t *response)
{
    static void *volatile lost;

    lost = malloc(LOST_BYTES);
    if (lost != NULL) {
        memset(lost, 0, LOST_BYTES);
    }
    application_handler(resource, session, request, query, response);
}

void __wrap_coap_register_request_handler(coap_resource_t *resource, coap_request_t method,
                                          coap_method_handler_t handler)
{
    register_instead(resource, method, handler, serve_and_lose);
}
