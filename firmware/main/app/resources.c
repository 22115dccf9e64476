#include "resources.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "marks.h"
#include "platform.h"
#include "sessions.h"

#define SLEEP_MAX_MS 86400000u
/* Between the answer to /power and the end of the sessions: the acknowledgement must have left the radio. */
#define SLEEP_DELAY_US 50000u

typedef struct {
    const char *path;
    int flags;
    bool observable;
    coap_method_handler_t get;
    coap_method_handler_t put;
    coap_resource_t *resource;
} route_t;

static app_state_t *app;

static struct {
    bool open;
    unsigned code;
} request_mark;

static bool body_is(const uint8_t *body, size_t length, const char *text)
{
    return length == strlen(text) && memcmp(body, text, length) == 0;
}

static size_t request_body(const coap_pdu_t *request, const uint8_t **body)
{
    size_t length = 0;
    size_t offset = 0;
    size_t total = 0;

    *body = NULL;
    if (!coap_get_data_large(request, &length, body, &offset, &total) || offset != 0 || length != total) {
        return 0;
    }
    return length;
}

static void get_light(coap_resource_t *resource, coap_session_t *session, const coap_pdu_t *request,
                      const coap_string_t *query, coap_pdu_t *response)
{
    const char *text = app->light_on ? "on" : "off";
    uint8_t format[2];

    (void)resource;
    (void)session;
    (void)request;
    (void)query;
    coap_pdu_set_code(response, COAP_RESPONSE_CODE_CONTENT);
    /* Not coap_add_data_large_response: that of libcoap 4.3.1 leaves out the option for text/plain, which is 0. */
    coap_add_option(response, COAP_OPTION_CONTENT_FORMAT,
                    coap_encode_var_safe(format, sizeof(format), COAP_MEDIATYPE_TEXT_PLAIN), format);
    coap_add_data(response, strlen(text), (const uint8_t *)text);
}

static void put_light(coap_resource_t *resource, coap_session_t *session, const coap_pdu_t *request,
                      const coap_string_t *query, coap_pdu_t *response)
{
    const uint8_t *body;
    size_t length = request_body(request, &body);
    bool on = body_is(body, length, "on");

    (void)session;
    (void)query;
    if (!on && !body_is(body, length, "off")) {
        coap_pdu_set_code(response, COAP_RESPONSE_CODE_BAD_REQUEST);
        return;
    }
    coap_pdu_set_code(response, COAP_RESPONSE_CODE_CHANGED);
    if (on != app->light_on) {
        app->light_on = on;
        coap_resource_notify_observers(resource, NULL);
    }
}

/* Decimal digits only, 1 to SLEEP_MAX_MS; 0 for everything else. */
static uint32_t parse_duration_ms(const uint8_t *body, size_t length)
{
    uint32_t value = 0;

    if (length > 8) {
        return 0;
    }
    for (size_t i = 0; i < length; i++) {
        if (body[i] < '0' || body[i] > '9') {
            return 0;
        }
        value = value * 10 + (uint32_t)(body[i] - '0');
    }
    return value <= SLEEP_MAX_MS ? value : 0;
}

static void put_power(coap_resource_t *resource, coap_session_t *session, const coap_pdu_t *request,
                      const coap_string_t *query, coap_pdu_t *response)
{
    const uint8_t *body;
    size_t length = request_body(request, &body);
    uint32_t duration_ms = parse_duration_ms(body, length);

    (void)resource;
    (void)session;
    (void)query;
    if (duration_ms == 0) {
        coap_pdu_set_code(response, COAP_RESPONSE_CODE_BAD_REQUEST);
        return;
    }
    coap_pdu_set_code(response, COAP_RESPONSE_CODE_CHANGED);
    app->power = (power_request_t){POWER_DEEP_SLEEP, duration_ms, platform_time_us() + SLEEP_DELAY_US};
}

static const char *reset_reason_name(int reason)
{
    switch (reason) {
    case PLATFORM_RESET_POWER_ON:
        return "power on";
    case PLATFORM_RESET_SOFTWARE:
        return "software";
    case PLATFORM_RESET_DEEP_SLEEP:
        return "deep sleep";
    case PLATFORM_RESET_BROWNOUT:
        return "brownout";
    default: /* the watchdogs too: the application did not run to an end that it chose */
        return "panic";
    }
}

static void release_text(coap_session_t *session, void *text)
{
    (void)session;
    free(text);
}

static void get_stats(coap_resource_t *resource, coap_session_t *session, const coap_pdu_t *request,
                      const coap_string_t *query, coap_pdu_t *response)
{
    const size_t size = 192;
    char *text = malloc(size);

    if (text == NULL) {
        coap_pdu_set_code(response, COAP_RESPONSE_CODE_INTERNAL_ERROR);
        return;
    }
    snprintf(text, size,
             "{\"boot_count\":%" PRIu32 ",\"reset_reason\":\"%s\",\"free_heap\":%zu,\"handshakes\":%" PRIu32
             ",\"uptime_ms\":%" PRIu64 "}",
             app->retained->boot_count, reset_reason_name(app->reset_reason), platform_free_heap(), sessions_counts().completed,
             platform_time_us() / 1000);
    coap_pdu_set_code(response, COAP_RESPONSE_CODE_CONTENT);
    coap_add_data_large_response(resource, session, request, response, query, COAP_MEDIATYPE_APPLICATION_JSON, -1, 0,
                                 strlen(text), (const uint8_t *)text, release_text, text);
}

static route_t routes[] = {
    {"light", COAP_RESOURCE_FLAGS_NOTIFY_CON, true, get_light, put_light, NULL},
    {"power", 0, false, NULL, put_power, NULL},
    {"stats", 0, false, get_stats, NULL, NULL},
};

#define ROUTES (sizeof(routes) / sizeof(routes[0]))

static void begin_request(const route_t *route, coap_pdu_code_t method)
{
    resources_request_sent();
    request_mark.open = true;
    mark_begin(&request_mark, "request_start", "method=%s path=/%s",
               method == COAP_REQUEST_CODE_GET ? "GET" : "PUT", route->path);
}

void resources_request_sent(void)
{
    if (request_mark.open) {
        request_mark.open = false;
        mark_end(&request_mark, "request_end", "code=%u.%02u", request_mark.code >> 5, request_mark.code & 0x1f);
    }
}

/* libcoap calls the GET handler for each notification too. It makes those confirmable, and a direct response never
 * is: it travels as an acknowledgement or is non-confirmable. */
static bool is_notification(const coap_pdu_t *response)
{
    return coap_pdu_get_type(response) == COAP_MESSAGE_CON;
}

static void serve(coap_resource_t *resource, coap_session_t *session, const coap_pdu_t *request,
                  const coap_string_t *query, coap_pdu_t *response)
{
    const route_t *route = coap_resource_get_userdata(resource);
    coap_pdu_code_t method = coap_pdu_get_code(request);
    coap_method_handler_t handler = method == COAP_REQUEST_CODE_GET ? route->get : route->put;

    sessions_request(session);
    if (is_notification(response)) {
        handler(resource, session, request, query, response);
        return;
    }
    begin_request(route, method);
    handler(resource, session, request, query, response);
    request_mark.code = coap_pdu_get_code(response);
}

static void add_route(coap_context_t *context, route_t *route)
{
    route->resource = coap_resource_init(coap_make_str_const(route->path), route->flags);
    if (route->resource == NULL) {
        platform_log('E', "app", "no memory for resource /%s", route->path);
        abort();
    }
    if (route->get != NULL) {
        coap_register_request_handler(route->resource, COAP_REQUEST_GET, serve);
    }
    if (route->put != NULL) {
        coap_register_request_handler(route->resource, COAP_REQUEST_PUT, serve);
    }
    coap_resource_set_get_observable(route->resource, route->observable);
    coap_resource_set_userdata(route->resource, route);
    coap_add_resource(context, route->resource);
}

void resources_add(coap_context_t *context, app_state_t *state)
{
    app = state;
    for (size_t i = 0; i < ROUTES; i++) {
        add_route(context, &routes[i]);
    }
}

void resources_drop_observers(void)
{
    for (size_t i = 0; i < ROUTES; i++) {
        coap_resource_set_get_observable(routes[i].resource, 0);
    }
}

void resources_tick(void)
{
}

uint32_t resources_next_tick_ms(void)
{
    return UINT32_MAX;
}
