#include "body.h"

#include <stdlib.h>
#include <string.h>

#define SZX_MAX 6u /* 1024 bytes */

typedef struct {
    uint32_t peer; /* 0: free */
    const coap_resource_t *resource;
    uint8_t *bytes;
    size_t length;
    coap_mid_t last_mid;
    uint64_t used_us;
} upload_t;

static upload_t uploads[UPLOADS_MAX];
static upload_t *finished; /* whose bytes the caller of body_receive has */

static size_t block_size(const coap_block_b_t *block)
{
    return (size_t)1 << (block->szx + 4);
}

static void add_number(coap_pdu_t *response, coap_option_num_t option, uint32_t value)
{
    uint8_t bytes[4];

    coap_add_option(response, option, coap_encode_var_safe(bytes, sizeof(bytes), value), bytes);
}

static void add_tag(coap_pdu_t *response, uint32_t tag)
{
    const uint8_t bytes[] = {(uint8_t)(tag >> 24), (uint8_t)(tag >> 16), (uint8_t)(tag >> 8), (uint8_t)tag};

    coap_add_option(response, COAP_OPTION_ETAG, sizeof(bytes), bytes);
}

static bool block_is_valid(const coap_session_t *session, const coap_pdu_t *request, coap_option_num_t option)
{
    coap_opt_iterator_t iterator;
    coap_block_b_t block;

    return coap_check_option(request, option, &iterator) == NULL || coap_get_block_b(session, request, option, &block);
}

bool body_blocks_are_valid(const coap_session_t *session, const coap_pdu_t *request)
{
    return block_is_valid(session, request, COAP_OPTION_BLOCK1) && block_is_valid(session, request, COAP_OPTION_BLOCK2);
}

/* --- requests ---------------------------------------------------------------------------------------------------- */

static void drop(upload_t *upload)
{
    free(upload->bytes);
    memset(upload, 0, sizeof(*upload));
}

static upload_t *find(uint32_t peer, const coap_resource_t *resource)
{
    for (size_t i = 0; i < UPLOADS_MAX; i++) {
        if (uploads[i].peer == peer && uploads[i].resource == resource) {
            return &uploads[i];
        }
    }
    return NULL;
}

/* A free place, or that of the upload which waits longest. */
static upload_t *place(void)
{
    upload_t *best = &uploads[0];

    for (size_t i = 0; i < UPLOADS_MAX; i++) {
        if (uploads[i].peer == 0) {
            return &uploads[i];
        }
        if (uploads[i].used_us < best->used_us) {
            best = &uploads[i];
        }
    }
    drop(best);
    return best;
}

static upload_t *begin(uint32_t peer, const coap_resource_t *resource)
{
    uint8_t *bytes = malloc(BODY_SEALED_MAX);

    if (bytes == NULL) {
        return NULL;
    }
    upload_t *upload = place();
    *upload = (upload_t){.peer = peer, .resource = resource, .bytes = bytes};
    return upload;
}

static bool refuse(coap_pdu_t *response, coap_pdu_code_t code)
{
    coap_pdu_set_code(response, code);
    return false;
}

static bool refuse_too_large(coap_pdu_t *response)
{
    coap_pdu_set_code(response, COAP_RESPONSE_CODE(413));
    add_number(response, COAP_OPTION_SIZE1, BODY_SEALED_MAX);
    return false;
}

static bool announces_too_much(const coap_pdu_t *request)
{
    coap_opt_iterator_t iterator;
    const coap_opt_t *size = coap_check_option(request, COAP_OPTION_SIZE1, &iterator);

    return size != NULL && coap_decode_var_bytes(coap_opt_value(size), coap_opt_length(size)) > BODY_SEALED_MAX;
}

static body_t payload_of(const coap_pdu_t *request)
{
    body_t payload = {(const uint8_t *)"", 0};
    const uint8_t *bytes;
    size_t length;

    if (coap_get_data(request, &length, &bytes)) {
        payload = (body_t){bytes, length};
    }
    return payload;
}

static bool append(upload_t *upload, body_t payload)
{
    if (payload.length > BODY_SEALED_MAX - upload->length) {
        return false;
    }
    memcpy(upload->bytes + upload->length, payload.bytes, payload.length);
    upload->length += payload.length;
    return true;
}

static bool is_repeated(const upload_t *upload, const coap_pdu_t *request, size_t end)
{
    return upload != NULL && upload->length == end && upload->last_mid == coap_pdu_get_mid(request);
}

/* One block of several; more of them are under way if block->m. */
static bool take_block(upload_t *upload, const coap_block_b_t *block, const coap_pdu_t *request, coap_pdu_t *response,
                       body_t *body)
{
    if (!append(upload, payload_of(request))) {
        drop(upload);
        return refuse_too_large(response);
    }
    upload->last_mid = coap_pdu_get_mid(request);
    if (block->m) {
        return refuse(response, COAP_RESPONSE_CODE(231)); /* Continue: no refusal, but not the whole either */
    }
    finished = upload;
    *body = (body_t){upload->bytes, upload->length};
    return true;
}

bool body_receive(uint32_t peer, const coap_resource_t *resource, const coap_session_t *session,
                  const coap_pdu_t *request, coap_pdu_t *response, uint64_t now_us, body_t *body)
{
    coap_block_b_t block;
    body_t payload = payload_of(request);
    bool in_blocks = coap_get_block_b(session, request, COAP_OPTION_BLOCK1, &block);
    upload_t *upload = find(peer, resource);

    if (payload.length > BODY_SEALED_MAX || announces_too_much(request)) {
        return refuse_too_large(response);
    }
    if (in_blocks && (payload.length > block_size(&block) || (block.m && payload.length != block_size(&block)))) {
        return refuse(response, COAP_RESPONSE_CODE_BAD_REQUEST);
    }
    if (!in_blocks || (block.num == 0 && !block.m)) {
        *body = payload;
        return true;
    }
    size_t offset = block.num * block_size(&block);
    if (block.m && is_repeated(upload, request, offset + payload.length)) {
        return refuse(response, COAP_RESPONSE_CODE(231));
    }
    if (block.num == 0) {
        if (upload != NULL) {
            drop(upload);
        }
        upload = begin(peer, resource);
        if (upload == NULL) {
            return refuse(response, COAP_RESPONSE_CODE_INTERNAL_ERROR);
        }
    }
    if (upload == NULL || upload->length != offset) {
        return refuse(response, COAP_RESPONSE_CODE(408));
    }
    upload->used_us = now_us;
    return take_block(upload, &block, request, response, body);
}

void body_release(void)
{
    if (finished != NULL) {
        drop(finished);
        finished = NULL;
    }
}

void body_acknowledge(const coap_session_t *session, const coap_pdu_t *request, coap_pdu_t *response)
{
    coap_block_b_t block;

    if (COAP_RESPONSE_CLASS(coap_pdu_get_code(response)) == 2 &&
        coap_get_block_b(session, request, COAP_OPTION_BLOCK1, &block)) {
        add_number(response, COAP_OPTION_BLOCK1, block.num << 4 | (uint32_t)block.m << 3 | block.szx);
    }
}

void body_expire(uint64_t now_us)
{
    for (size_t i = 0; i < UPLOADS_MAX; i++) {
        if (uploads[i].peer != 0 && now_us - uploads[i].used_us >= UPLOAD_TIMEOUT_US) {
            drop(&uploads[i]);
        }
    }
}

void body_give_up_all(void)
{
    for (size_t i = 0; i < UPLOADS_MAX; i++) {
        drop(&uploads[i]);
    }
}

/* --- responses --------------------------------------------------------------------------------------------------- */

unsigned body_block_asked(const coap_session_t *session, const coap_pdu_t *request)
{
    coap_block_b_t block;

    return coap_get_block_b(session, request, COAP_OPTION_BLOCK2, &block) ? block.num : 0;
}

void body_add_format(coap_pdu_t *response, uint16_t format)
{
    add_number(response, COAP_OPTION_CONTENT_FORMAT, format);
}

bool body_send(coap_session_t *session, const coap_pdu_t *request, coap_pdu_t *response, uint16_t format, body_t body,
               uint32_t tag)
{
    coap_block_b_t block;
    bool asked = coap_get_block_b(session, request, COAP_OPTION_BLOCK2, &block);

    if (!asked) {
        block = (coap_block_b_t){.szx = SZX_MAX};
    }
    if (block.num > 0 && block.num * block_size(&block) >= body.length) {
        return false;
    }
    body_add_format(response, format);
    bool in_parts = body.length > block_size(&block);
    if (!asked && !in_parts) {
        return coap_add_data(response, body.length, body.bytes);
    }
    if (in_parts) {
        add_tag(response, tag);
        add_number(response, COAP_OPTION_SIZE2, (uint32_t)body.length);
    }
    if (coap_write_block_b_opt(session, &block, COAP_OPTION_BLOCK2, response, body.length) < 0) {
        return false;
    }
    return body.length == 0 || coap_add_block(response, body.length, body.bytes, block.num, block.szx);
}
