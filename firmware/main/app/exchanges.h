/* Requests that were answered, so that a repeated one acts once (RFC 7252 section 4.5).
 *
 * A fixed table; the oldest entry makes room. A repetition that comes after EXCHANGES_MAX other requests is therefore
 * taken for a new request: more memory than this the device does not spend on it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EXCHANGES_MAX 32
/* The largest answer that is kept. */
#define EXCHANGE_ANSWER_MAX 128
/* RFC 7252 section 4.8.2: from then on a Message ID may mean another request. */
#define EXCHANGE_LIFETIME_US 247000000u

typedef struct {
    uint32_t peer; /* 0: free */
    uint16_t message_id;
    uint64_t time_us;
    uint8_t code;
    bool has_format;
    uint16_t format;
    size_t length;
    uint8_t answer[EXCHANGE_ANSWER_MAX];
} exchange_t;

/* The exchange of that peer with that Message ID, if it is young enough; else NULL. */
const exchange_t *exchanges_find(uint32_t peer, uint16_t message_id, uint64_t now_us);

/* A place for one more, without an answer yet; the caller fills in the rest. peer is not 0. */
exchange_t *exchanges_add(uint32_t peer, uint16_t message_id, uint64_t now_us);
