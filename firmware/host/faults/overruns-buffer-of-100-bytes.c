/* Fault: a PUT of more than 100 bytes in one piece runs over the end of a buffer. */
#include <stdlib.h>

#include "requests.h"

#define BUFFER_BYTES 100

void __wrap_coap_register_request_handler(coap_resource_t *resource, coap_request_t method,
                                          coap_method_handler_t handler);

static void put(coap_resource_t *resource, coap_session_t *session, const coap_pdu_t *request,
                const coap_string_t *query, coap_pdu_t *response)
{
    coap_opt_iterator_t iterator;
    const uint8_t *body;
    size_t length;

    if (coap_check_option(request, COAP_OPTION_BLOCK1, &iterator) == NULL && coap_get_data(request, &length, &body) &&
        length > BUFFER_BYTES) {
        abort();
    }
    application_handler(resource, session, request, query, response);
}

void __wrap_coap_register_request_handler(coap_resource_t *resource, coap_request_t method,
                                          coap_method_handler_t handler)
{
    register_instead(resource, method, handler, method == COAP_REQUEST_PUT ? put : handler);
}
