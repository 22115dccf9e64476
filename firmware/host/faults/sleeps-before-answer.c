/* Fault: the device is in deep sleep before the answer to the request that sent it there has left, and before anybody
 * was told goodbye. */
#include <inttypes.h>

#include "app.h"
#include "marks.h"
#include "platform.h"
#include "requests.h"
#include "server.h"

void __real_server_start(const char *listen_address, const credentials_t *credentials, app_state_t *state);
void __wrap_server_start(const char *listen_address, const credentials_t *credentials, app_state_t *state);
void __wrap_coap_register_request_handler(coap_resource_t *resource, coap_request_t method,
                                          coap_method_handler_t handler);

static app_state_t *app;

void __wrap_server_start(const char *listen_address, const credentials_t *credentials, app_state_t *state)
{
    app = state;
    __real_server_start(listen_address, credentials, state);
}

static void serve_and_sleep(coap_resource_t *resource, coap_session_t *session, const coap_pdu_t *request,
                            const coap_string_t *query, coap_pdu_t *response)
{
    application_handler(resource, session, request, query, response);
    if (app->power.mode == POWER_DEEP_SLEEP) {
        platform_network_stop();
        mark("sleep_entry", "mode=deep_sleep duration_ms=%" PRIu32, app->power.duration_ms);
        platform_deep_sleep(app->power.duration_ms);
    }
}

void __wrap_coap_register_request_handler(coap_resource_t *resource, coap_request_t method,
                                          coap_method_handler_t handler)
{
    register_instead(resource, method, handler, serve_and_sleep);
}
