/* A resource: its path, what it says of itself, and what it does for each method. */
#pragma once

#include <coap3/coap.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "app.h"
#include "body.h"
#include "number.h"
#include "writer.h"

typedef struct {
    const uint16_t *formats; /* Content-Formats, the first is the default */
    size_t count;
} formats_t;

#define FORMATS(...) \
    {(const uint16_t[]){__VA_ARGS__}, sizeof((const uint16_t[]){__VA_ARGS__}) / sizeof(uint16_t)}
#define NO_FORMATS \
    {NULL, 0}

typedef struct {
    const coap_pdu_t *pdu;
    body_t body;
    uint16_t answer_format; /* the one of the action's formats that the client accepts */
} request_t;

/* code: set to 2.05 or 2.04 beforehand, as the method wants. In an error the text is a diagnostic payload. */
typedef struct {
    coap_pdu_code_t code;
    writer_t text;
    bool changed; /* observers are to be told */
} answer_t;

typedef struct {
    void (*act)(app_state_t *app, const request_t *request, answer_t *answer); /* NULL: 4.05 */
    formats_t answers; /* none: the answer has no payload, and any Accept will do */
    formats_t takes;   /* of the request's body; one without a Content-Format is taken too */
} action_t;

typedef struct {
    const char *path;
    const char *attributes; /* RFC 6690, each with a semicolon before it */
    int flags;              /* COAP_RESOURCE_FLAGS_NOTIFY_... */
    bool observable;
    bool clear; /* payloads are not encrypted, even with CONFIG_PAYLOAD_ENCRYPTION */
    action_t get;
    action_t put;
    action_t post;
} route_t;

/* The text of the query's part NAME=..., the first there is; false if there is none. */
bool request_query(const request_t *request, const char *name, const uint8_t **value, size_t *length);

/* An error, with a text that says what was expected. */
void answer_error(answer_t *answer, coap_pdu_code_t code, const char *problem);

extern const route_t light_route, sensor_route, blob_route, power_route, stats_route, config_route;

/* Of /sensor: take a reading if one is due. True when there is a new one. */
bool sensor_tick(const app_state_t *app, uint64_t now_us);
uint32_t sensor_next_ms(const app_state_t *app, uint64_t now_us);

/* Of /stats: one more request came a second time. */
void stats_count_duplicate(void);
