/* Fault: plain CoAP on port 5683 is answered where it changes something; a GET there is not. */
#include <arpa/inet.h>

#include "requests.h"

coap_endpoint_t *__real_coap_new_endpoint(coap_context_t *context, const coap_address_t *address, coap_proto_t proto);
coap_endpoint_t *__wrap_coap_new_endpoint(coap_context_t *context, const coap_address_t *address, coap_proto_t proto);
void __wrap_coap_register_request_handler(coap_resource_t *resource, coap_request_t method,
                                          coap_method_handler_t handler);

coap_endpoint_t *__wrap_coap_new_endpoint(coap_context_t *context, const coap_address_t *address, coap_proto_t proto)
{
    coap_address_t plain = *address;

    plain.addr.sin.sin_port = htons(COAP_DEFAULT_PORT);
    if (__real_coap_new_endpoint(context, &plain, COAP_PROTO_UDP) == NULL) {
        return NULL;
    }
    return __real_coap_new_endpoint(context, address, proto);
}

static void get(coap_resource_t *resource, coap_session_t *session, const coap_pdu_t *request,
                const coap_string_t *query, coap_pdu_t *response)
{
    if (coap_session_get_proto(session) == COAP_PROTO_UDP) {
        coap_pdu_set_code(response, COAP_RESPONSE_CODE_UNAUTHORIZED);
        return;
    }
    application_handler(resource, session, request, query, response);
}

void __wrap_coap_register_request_handler(coap_resource_t *resource, coap_request_t method,
                                          coap_method_handler_t handler)
{
    register_instead(resource, method, handler, method == COAP_REQUEST_GET ? get : handler);
}
