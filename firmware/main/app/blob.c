/* /blob: bodies of any length for block-wise transfer. GET ?n= gives that many bytes of a pattern, PUT and POST answer
 * with the length and the CRC-32 of what came. */
#include <inttypes.h>
#include <stdio.h>

#include "crc32.h"
#include "route.h"

#define CELL 8u

/* The pattern: cells of eight bytes, each its own offset as seven hexadecimal digits and a line feed. */
static void get(app_state_t *app, const request_t *request, answer_t *answer)
{
    const uint8_t *text;
    size_t length;
    uint32_t size;

    (void)app;
    if (!request_query(request, "n", &text, &length) ||
        !number_parse(text, length, (number_range_t){0, BODY_MAX}, &size)) {
        answer_error(answer, COAP_RESPONSE_CODE_BAD_REQUEST, "n=0 to n=8192 was expected in the query");
        return;
    }
    for (uint32_t offset = 0; offset < size; offset += CELL) {
        char cell[CELL + 1];

        snprintf(cell, sizeof(cell), "%07" PRIx32 "\n", offset & 0xfffffffu);
        write_bytes(&answer->text, cell, size - offset < CELL ? size - offset : CELL);
    }
}

static void take(app_state_t *app, const request_t *request, answer_t *answer)
{
    char sum[9];
    object_t object = object_begin(&answer->text, NOTATION_JSON, 2);

    (void)app;
    snprintf(sum, sizeof(sum), "%08" PRIx32, crc32_update(0, request->body.bytes, request->body.length));
    object_number(&object, "length", request->body.length);
    object_text(&object, "crc32", sum);
    object_end(&object);
}

const route_t blob_route = {
    .path = "blob",
    .attributes = ";rt=\"blob\";if=\"core.p\";ct=42",
    .get = {get, FORMATS(COAP_MEDIATYPE_APPLICATION_OCTET_STREAM), NO_FORMATS},
    .put = {take, FORMATS(COAP_MEDIATYPE_APPLICATION_JSON), FORMATS(COAP_MEDIATYPE_APPLICATION_OCTET_STREAM)},
    .post = {take, FORMATS(COAP_MEDIATYPE_APPLICATION_JSON), FORMATS(COAP_MEDIATYPE_APPLICATION_OCTET_STREAM)},
};
