/* /config: the settings of config.h. */
#include "route.h"

static void get(app_state_t *app, const request_t *request, answer_t *answer)
{
    (void)request;
    config_print(&app->config, &answer->text);
}

static void put(app_state_t *app, const request_t *request, answer_t *answer)
{
    if (!config_parse(request->body.bytes, request->body.length, &app->config, &answer->text)) {
        answer->code = COAP_RESPONSE_CODE_BAD_REQUEST;
    }
}

const route_t config_route = {
    .path = "config",
    .attributes = ";rt=\"config\";if=\"core.p\";ct=50",
    .get = {get, FORMATS(COAP_MEDIATYPE_APPLICATION_JSON), NO_FORMATS},
    .put = {put, NO_FORMATS, FORMATS(COAP_MEDIATYPE_APPLICATION_JSON)},
};
