#include "resources.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "body.h"
#include "crc32.h"
#include "exchanges.h"
#include "marks.h"
#include "payload.h"
#include "platform.h"
#include "route.h"
#include "sessions.h"

static void get_core(app_state_t *app, const request_t *request, answer_t *answer);

/* Not libcoap's own: that knows neither Accept nor blocks without libcoap's block-wise support. What is in it is
 * public, and whoever discovers a device has no key yet: never encrypted. */
static const route_t core_route = {
    .path = ".well-known/core",
    .attributes = ";ct=40",
    .clear = true,
    .get = {get_core, FORMATS(COAP_MEDIATYPE_APPLICATION_LINK_FORMAT), NO_FORMATS},
};

static const route_t *const routes[] = {
    &light_route, &sensor_route, &blob_route, &power_route, &stats_route, &config_route, &core_route,
};

#define ROUTES (sizeof(routes) / sizeof(routes[0]))

static app_state_t *app;
static coap_resource_t *resources[ROUTES];

/* The body of the newest answer. Later blocks of it are cut from here, so that a client gets blocks of one state. */
static struct {
    const route_t *route; /* NULL: nobody will ask for more of it */
    uint32_t query;       /* its CRC-32 */
    uint16_t format;
    size_t length;
    uint32_t tag;
    uint8_t bytes[BODY_SEALED_MAX];
} made;

static struct {
    bool open;
    unsigned code;
} request_mark;

/* --- what resources use ------------------------------------------------------------------------------------------ */

bool request_query(const request_t *request, const char *name, const uint8_t **value, size_t *length)
{
    size_t name_length = strlen(name);
    coap_opt_iterator_t iterator;
    const coap_opt_t *option;

    coap_option_iterator_init(request->pdu, &iterator, COAP_OPT_ALL);
    while ((option = coap_option_next(&iterator)) != NULL) {
        const uint8_t *text = coap_opt_value(option);
        size_t text_length = coap_opt_length(option);

        if (iterator.number == COAP_OPTION_URI_QUERY && text_length > name_length && text[name_length] == '=' &&
            memcmp(text, name, name_length) == 0) {
            *value = text + name_length + 1;
            *length = text_length - name_length - 1;
            return true;
        }
    }
    return false;
}

void answer_error(answer_t *answer, coap_pdu_code_t code, const char *problem)
{
    answer->code = code;
    write_text(&answer->text, problem);
}

static void get_core(app_state_t *state, const request_t *request, answer_t *answer)
{
    (void)state;
    (void)request;
    for (size_t i = 0; i < ROUTES; i++) {
        write_text(&answer->text, i == 0 ? "</" : ",</");
        write_text(&answer->text, routes[i]->path);
        write_text(&answer->text, ">");
        write_text(&answer->text, routes[i]->attributes);
        write_text(&answer->text, routes[i]->observable ? ";obs" : "");
    }
}

/* --- marks ------------------------------------------------------------------------------------------------------- */

static const char *method_name(coap_pdu_code_t method)
{
    switch (method) {
    case COAP_REQUEST_CODE_GET:
        return "GET";
    case COAP_REQUEST_CODE_PUT:
        return "PUT";
    default:
        return "POST";
    }
}

static void begin_request(const route_t *route, coap_pdu_code_t method)
{
    resources_request_sent();
    request_mark.open = true;
    mark_begin(&request_mark, "request_start", "method=%s path=/%s", method_name(method), route->path);
}

void resources_request_sent(void)
{
    if (request_mark.open) {
        request_mark.open = false;
        mark_end(&request_mark, "request_end", "code=%u.%02u", request_mark.code >> 5, request_mark.code & 0x1f);
        app_answered();
    }
}

/* --- one request ------------------------------------------------------------------------------------------------- */

static const coap_opt_t *option_of(const coap_pdu_t *pdu, coap_option_num_t number)
{
    coap_opt_iterator_t iterator;

    return coap_check_option(pdu, number, &iterator);
}

static unsigned number_of(const coap_opt_t *option)
{
    return coap_decode_var_bytes(coap_opt_value(option), coap_opt_length(option));
}

static bool contains(formats_t formats, unsigned format)
{
    for (size_t i = 0; i < formats.count; i++) {
        if (formats.formats[i] == format) {
            return true;
        }
    }
    return false;
}

static const action_t *action_of(const route_t *route, coap_pdu_code_t method)
{
    switch (method) {
    case COAP_REQUEST_CODE_GET:
        return &route->get;
    case COAP_REQUEST_CODE_PUT:
        return &route->put;
    default:
        return &route->post;
    }
}

/* RFC 7252 section 5.10.8: the resource exists, and no ETag that a client may have of it is valid for long. */
static bool precondition_fails(const coap_pdu_t *request)
{
    const coap_opt_t *if_match = option_of(request, COAP_OPTION_IF_MATCH);

    return option_of(request, COAP_OPTION_IF_NONE_MATCH) != NULL ||
           (if_match != NULL && coap_opt_length(if_match) > 0);
}

/* The code of the error that the options alone give; 0 if they are good. */
static coap_pdu_code_t check_options(const action_t *action, const coap_session_t *session, const coap_pdu_t *request)
{
    const coap_opt_t *accept = option_of(request, COAP_OPTION_ACCEPT);
    const coap_opt_t *format = option_of(request, COAP_OPTION_CONTENT_FORMAT);

    if (!body_blocks_are_valid(session, request)) {
        return COAP_RESPONSE_CODE_BAD_REQUEST;
    }
    if (precondition_fails(request)) {
        return COAP_RESPONSE_CODE(412);
    }
    if (format != NULL && action->takes.count > 0 && !contains(action->takes, number_of(format))) {
        return COAP_RESPONSE_CODE(415);
    }
    if (accept != NULL && action->answers.count > 0 && !contains(action->answers, number_of(accept))) {
        return COAP_RESPONSE_CODE(406);
    }
    return 0;
}

static uint16_t answer_format(const action_t *action, const coap_pdu_t *request)
{
    const coap_opt_t *accept = option_of(request, COAP_OPTION_ACCEPT);

    if (action->answers.count == 0) {
        return COAP_MEDIATYPE_TEXT_PLAIN;
    }
    return accept != NULL && contains(action->answers, number_of(accept)) ? (uint16_t)number_of(accept)
                                                                          : action->answers.formats[0];
}

#ifdef CONFIG_PAYLOAD_ENCRYPTION
/* Put the plain text into *body; false if it cannot be opened. A request without a payload has none to open. */
static bool open_body(const route_t *route, body_t *body)
{
    static uint8_t plain[BODY_MAX];

    if (route->clear || body->length == 0) {
        return true;
    }
    if (!payload_open(body->bytes, body->length, plain)) {
        return false;
    }
    *body = (body_t){plain, body->length - PAYLOAD_OVERHEAD};
    return true;
}

/* made.bytes holds the plain text PAYLOAD_HEAD bytes behind its beginning. */
static bool seal_made(const route_t *route)
{
    if (route->clear || made.length == 0) {
        memmove(made.bytes, made.bytes + PAYLOAD_HEAD, made.length);
        return true;
    }
    if (!payload_seal(made.bytes, made.length)) {
        return false;
    }
    made.length += PAYLOAD_OVERHEAD;
    return true;
}
#else
static bool open_body(const route_t *route, body_t *body)
{
    (void)route;
    (void)body;
    return true;
}

static bool seal_made(const route_t *route)
{
    (void)route;
    return true;
}
#endif

/* Run the resource's code; the body of its answer is then in made. */
static coap_pdu_code_t make(const route_t *route, const action_t *action, const coap_pdu_t *pdu, body_t body,
                            uint16_t format)
{
    bool is_get = action == &route->get;
    request_t request = {.pdu = pdu, .body = body, .answer_format = format};
    answer_t answer = {
        .code = is_get ? COAP_RESPONSE_CODE_CONTENT : COAP_RESPONSE_CODE_CHANGED,
        .text = {.bytes = made.bytes + PAYLOAD_HEAD, .size = BODY_MAX},
    };

    made.route = NULL;
    action->act(app, &request, &answer);
    if (answer.changed) {
        for (size_t i = 0; i < ROUTES; i++) {
            if (routes[i] == route) {
                coap_resource_notify_observers(resources[i], NULL);
            }
        }
    }
    made.length = answer.text.length;
    if (answer.text.overflow || !seal_made(route)) {
        made.length = 0;
        return COAP_RESPONSE_CODE_INTERNAL_ERROR;
    }
    made.tag = crc32_update(0, made.bytes, made.length);
    return answer.code;
}

static uint32_t crc_of(const coap_string_t *query)
{
    return query == NULL ? 0 : crc32_update(0, query->s, query->length);
}

static bool is_made(const route_t *route, const coap_string_t *query, uint16_t format)
{
    return made.route == route && made.query == crc_of(query) && made.format == format;
}

static bool is_success(coap_pdu_code_t code)
{
    return COAP_RESPONSE_CLASS(code) == 2;
}

/* What make() left, in one piece. An error's text is a diagnostic payload and has no format (RFC 7252 5.5.2). */
static void respond(const action_t *action, coap_pdu_code_t code, uint16_t format, const coap_session_t *session,
                    const coap_pdu_t *request, coap_pdu_t *response)
{
    coap_pdu_set_code(response, code);
    body_acknowledge(session, request, response);
    if (is_success(code) && action->answers.count > 0) {
        body_add_format(response, format);
    }
    coap_add_data(response, made.length, made.bytes);
}

static void get(const route_t *route, coap_session_t *session, const coap_pdu_t *request, const coap_string_t *query,
                coap_pdu_t *response)
{
    const body_t nothing = {(const uint8_t *)"", 0};
    uint16_t format = answer_format(&route->get, request);

    if (body_block_asked(session, request) == 0 || !is_made(route, query, format)) {
        coap_pdu_code_t code = make(route, &route->get, request, nothing, format);

        if (!is_success(code)) {
            respond(&route->get, code, format, session, request, response);
            return;
        }
        made.route = route;
        made.query = crc_of(query);
        made.format = format;
    }
    bool sent = body_send(session, request, response, format, (body_t){made.bytes, made.length}, made.tag);

    coap_pdu_set_code(response, sent ? COAP_RESPONSE_CODE_CONTENT : COAP_RESPONSE_CODE_BAD_REQUEST);
}

/* PUT and POST. Their answers are short: a Block2 option would be no more than a hint, and is not followed. */
static void change(const route_t *route, const action_t *action, body_t body, const coap_session_t *session,
                   const coap_pdu_t *request, coap_pdu_t *response)
{
    uint16_t format = answer_format(action, request);

    if (!open_body(route, &body)) {
        coap_pdu_set_code(response, COAP_RESPONSE_CODE_BAD_REQUEST);
        return;
    }
    coap_pdu_code_t code = make(route, action, request, body, format);

    respond(action, code, format, session, request, response);
}

static void process(const route_t *route, uint32_t peer, coap_resource_t *resource, coap_session_t *session,
                    const coap_pdu_t *request, const coap_string_t *query, coap_pdu_t *response)
{
    const action_t *action = action_of(route, coap_pdu_get_code(request));
    coap_pdu_code_t problem = check_options(action, session, request);
    body_t body;

    if (problem != 0) {
        coap_pdu_set_code(response, problem);
    } else if (action == &route->get) {
        get(route, session, request, query, response);
    } else if (body_receive(peer, resource, session, request, response, platform_time_us(), &body)) {
        change(route, action, body, session, request, response);
        body_release();
    } else {
        body_acknowledge(session, request, response);
    }
}

/* --- repeated requests ------------------------------------------------------------------------------------------- */

/* The number of a session, from 1. Its address would do for a while only: the next one may get the same. */
static uint32_t peer_of(coap_session_t *session)
{
    static uint32_t last;
    uintptr_t number = (uintptr_t)coap_session_get_app_data(session);

    if (number == 0) {
        number = ++last;
        coap_session_set_app_data(session, (void *)number);
    }
    return (uint32_t)number;
}

static bool is_confirmable(const coap_pdu_t *request)
{
    return coap_pdu_get_type(request) == COAP_MESSAGE_CON;
}

/* A GET changes nothing: confirmable ones may be served again, and only that the non-confirmable get no second answer
 * needs memory. Blocks before the last are known to the upload. */
static bool is_to_be_kept(const coap_pdu_t *request, const coap_pdu_t *response)
{
    return !is_confirmable(request) || (coap_pdu_get_code(request) != COAP_REQUEST_CODE_GET &&
                                        coap_pdu_get_code(response) != COAP_RESPONSE_CODE(231));
}

static void keep(uint32_t peer, const coap_pdu_t *request, const coap_pdu_t *response)
{
    exchange_t *exchange = exchanges_add(peer, (uint16_t)coap_pdu_get_mid(request), platform_time_us());
    const coap_opt_t *format = option_of(response, COAP_OPTION_CONTENT_FORMAT);
    const uint8_t *bytes;
    size_t length;

    exchange->code = (uint8_t)coap_pdu_get_code(response);
    exchange->has_format = format != NULL;
    exchange->format = format != NULL ? (uint16_t)number_of(format) : 0;
    if (coap_get_data(response, &length, &bytes) && length <= sizeof(exchange->answer)) {
        memcpy(exchange->answer, bytes, length);
        exchange->length = length;
    }
}

/* Answer as the first time; a non-confirmable repetition is not answered: a response without a code is not sent. */
static void repeat(const exchange_t *exchange, const coap_session_t *session, const coap_pdu_t *request,
                   coap_pdu_t *response)
{
    stats_count_duplicate();
    if (!is_confirmable(request)) {
        return;
    }
    coap_pdu_set_code(response, exchange->code);
    if (exchange->has_format) {
        body_add_format(response, exchange->format);
    }
    body_acknowledge(session, request, response);
    coap_add_data(response, exchange->length, exchange->answer);
}

/* --- libcoap's side ---------------------------------------------------------------------------------------------- */

/* libcoap calls the GET handler for each notification too, with the request that registered the observer. A direct
 * response is an acknowledgement, or non-confirmable as its request. Where a non-confirmable request has registered,
 * only the Message ID tells the two apart: libcoap has just given the request the session's newest. */
static bool is_notification(coap_session_t *session, const coap_pdu_t *request, const coap_pdu_t *response)
{
    switch (coap_pdu_get_type(response)) {
    case COAP_MESSAGE_CON:
        return true;
    case COAP_MESSAGE_NON:
        return is_confirmable(request) ||
               (option_of(response, COAP_OPTION_OBSERVE) != NULL &&
                (uint16_t)(coap_pdu_get_mid(request) + 1) == coap_new_message_id(session));
    default:
        return false;
    }
}

/* Never an error: libcoap 4.3.1 frees the observer then, and goes on using it. An observer whose request was refused
 * can be there, as with No-Response (RFC 7967) libcoap does not remove it. */
static void notify(const route_t *route, coap_session_t *session, const coap_pdu_t *request,
                   const coap_string_t *query, coap_pdu_t *response)
{
    get(route, session, request, query, response);
    coap_pdu_set_code(response, COAP_RESPONSE_CODE_CONTENT);
}

/* A confirmable GET is simply served again. */
static const exchange_t *find_earlier(uint32_t peer, const coap_pdu_t *request)
{
    if (is_confirmable(request) && coap_pdu_get_code(request) == COAP_REQUEST_CODE_GET) {
        return NULL;
    }
    return exchanges_find(peer, (uint16_t)coap_pdu_get_mid(request), platform_time_us());
}

static void serve(coap_resource_t *resource, coap_session_t *session, const coap_pdu_t *request,
                  const coap_string_t *query, coap_pdu_t *response)
{
    const route_t *route = coap_resource_get_userdata(resource);
    uint32_t peer = peer_of(session);

    sessions_request(session); /* an observer that is only notified is not idle either */
    if (is_notification(session, request, response)) {
        notify(route, session, request, query, response);
        return;
    }
    /* To a group only discovery is open (RFC 7252 section 11.3): a response without a code is not sent. */
    if (coap_is_mcast(coap_session_get_addr_local(session)) && route != &core_route) {
        return;
    }
    const exchange_t *earlier = find_earlier(peer, request);
    if (earlier != NULL) {
        repeat(earlier, session, request, response);
        return;
    }
    begin_request(route, coap_pdu_get_code(request));
    process(route, peer, resource, session, request, query, response);
    if (is_to_be_kept(request, response)) {
        keep(peer, request, response);
    }
    request_mark.code = coap_pdu_get_code(response);
}

static void register_action(coap_resource_t *resource, coap_request_t method, const action_t *action)
{
    if (action->act != NULL) {
        coap_register_request_handler(resource, method, serve);
    }
}

static coap_resource_t *add_route(coap_context_t *context, const route_t *route)
{
    coap_resource_t *resource = coap_resource_init(coap_make_str_const(route->path), route->flags);

    if (resource == NULL) {
        platform_log('E', "app", "no memory for resource /%s", route->path);
        abort();
    }
    register_action(resource, COAP_REQUEST_GET, &route->get);
    register_action(resource, COAP_REQUEST_PUT, &route->put);
    register_action(resource, COAP_REQUEST_POST, &route->post);
    coap_resource_set_get_observable(resource, route->observable);
    coap_resource_set_userdata(resource, (void *)route);
    coap_add_resource(context, resource);
    return resource;
}

void resources_add(coap_context_t *context, app_state_t *state)
{
    app = state;
    coap_context_set_block_mode(context, 0);
    for (size_t i = 0; i < ROUTES; i++) {
        resources[i] = add_route(context, routes[i]);
    }
    resources_tick();
}

void resources_tick(void)
{
    uint64_t now_us = platform_time_us();

    body_expire(now_us);
    if (!sensor_tick(app, now_us)) {
        return;
    }
    for (size_t i = 0; i < ROUTES; i++) {
        if (routes[i] == &sensor_route) {
            coap_resource_notify_observers(resources[i], NULL);
        }
    }
}

uint32_t resources_next_tick_ms(void)
{
    return sensor_next_ms(app, platform_time_us());
}

void resources_drop_observers(void)
{
    for (size_t i = 0; i < ROUTES; i++) {
        coap_resource_set_get_observable(resources[i], 0);
    }
    body_give_up_all();
}
