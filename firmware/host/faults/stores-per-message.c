/* Fault: state is written to flash with every message. */
#include "chip.h"
#include "requests.h"

#define STATE_BYTES 64

void __wrap_coap_register_request_handler(coap_resource_t *resource, coap_request_t method,
                                          coap_method_handler_t handler);

static void serve_and_store(coap_resource_t *resource, coap_session_t *session, const coap_pdu_t *request,
                            const coap_string_t *query, coap_pdu_t *response)
{
    application_handler(resource, session, request, query, response);
    chip_report(chip_now_ns(), "nvs %d", STATE_BYTES);
}

void __wrap_coap_register_request_handler(coap_resource_t *resource, coap_request_t method,
                                          coap_method_handler_t handler)
{
    register_instead(resource, method, handler, serve_and_store);
}
