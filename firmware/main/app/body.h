/* Bodies of requests and responses, block-wise where they are long (RFC 7959).
 *
 * libcoap's own block-wise support stays off: it takes a body as long as its sender likes, keeps one of each response
 * for a minute, and serves SZX 7 over UDP. */
#pragma once

#include <coap3/coap.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "payload.h"

/* The longest body that is taken or given, without what the encryption of payloads adds. */
#define BODY_MAX 8192
#define BODY_SEALED_MAX (BODY_MAX + PAYLOAD_OVERHEAD)
/* Bodies that may be under way at the same time, each with BODY_SEALED_MAX bytes of heap. */
#define UPLOADS_MAX 2
/* From then on a body that did not go on is given up: EXCHANGE_LIFETIME would hold the memory too long. */
#define UPLOAD_TIMEOUT_US 60000000u

typedef struct {
    const uint8_t *bytes; /* never NULL */
    size_t length;
} body_t;

/* Whether the Block1 and Block2 options that are there make sense: SZX 7 does not over UDP (RFC 7959 section 2.2). */
bool body_blocks_are_valid(const coap_session_t *session, const coap_pdu_t *request);

/* Take the request's payload. True when the body is whole; it is good until body_release. Else the code of the answer
 * is in response, with its options: 2.31, 4.00, 4.08, 4.13, 5.00. peer is not 0. */
bool body_receive(uint32_t peer, const coap_resource_t *resource, const coap_session_t *session,
                  const coap_pdu_t *request, coap_pdu_t *response, uint64_t now_us, body_t *body);
void body_release(void);

/* Answer a request's Block1 option in a response that has its code and no body yet. An error ends the transfer: with the
 * option in it, it would read as if that went on (RFC 7959 section 2.9.3). */
void body_acknowledge(const coap_session_t *session, const coap_pdu_t *request, coap_pdu_t *response);

/* The block number that is asked for; 0 without a Block2 option. */
unsigned body_block_asked(const coap_session_t *session, const coap_pdu_t *request);

/* Put the body into the response with its Content-Format, or the block of it that is asked for; false if there is no
 * such block. tag tells this body from others of the resource. */
bool body_send(coap_session_t *session, const coap_pdu_t *request, coap_pdu_t *response, uint16_t format, body_t body,
               uint32_t tag);

/* Not only what coap_add_data_large_response would add: that of libcoap 4.3.1 leaves out text/plain, which is 0. */
void body_add_format(coap_pdu_t *response, uint16_t format);

/* Give up the uploads that did not go on, or all. */
void body_expire(uint64_t now_us);
void body_give_up_all(void);
