/* /light: a lamp that is on or off. */
#include <string.h>

#include "route.h"

static void get(app_state_t *app, const request_t *request, answer_t *answer)
{
    (void)request;
    write_text(&answer->text, app->light_on ? "on" : "off");
}

static bool is(body_t body, const char *text)
{
    return body.length == strlen(text) && memcmp(body.bytes, text, body.length) == 0;
}

static void put(app_state_t *app, const request_t *request, answer_t *answer)
{
    bool on = is(request->body, "on");

    if (!on && !is(request->body, "off")) {
        answer_error(answer, COAP_RESPONSE_CODE_BAD_REQUEST, "on or off was expected");
        return;
    }
    answer->changed = on != app->light_on;
    app->light_on = on;
}

const route_t light_route = {
    .path = "light",
    .attributes = ";rt=\"light\";if=\"core.a\";ct=0",
    .flags = COAP_RESOURCE_FLAGS_NOTIFY_CON, /* a command's effect: lost ones matter */
    .observable = true,
    .get = {get, FORMATS(COAP_MEDIATYPE_TEXT_PLAIN), NO_FORMATS},
    .put = {put, NO_FORMATS, FORMATS(COAP_MEDIATYPE_TEXT_PLAIN)},
};
