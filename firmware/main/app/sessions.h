/* Handshakes under way: their marks, and how many were completed.
 *
 * libcoap's events are not enough. With mbedTLS (component 4.3.5) a server is told of no completed handshake; with
 * OpenSSL (4.3.1) a session that ends for want of a common cipher suite goes without an event. So the open ones are
 * kept here and looked at after each round of I/O. */
#pragma once

#include <coap3/coap.h>
#include <stdbool.h>
#include <stdint.h>

void sessions_begin(const coap_session_t *session);

/* The handshake of this session, if it is open, ends. */
void sessions_end(const coap_session_t *session, bool ok);

/* The peer offered an identity that is not ours: its handshake ends at the next check. */
void sessions_refuse(const coap_session_t *session);

/* Call after each coap_io_process(). */
void sessions_check(const coap_context_t *context);

typedef struct {
    uint32_t completed; /* handshakes, since boot */
    uint32_t failed;
    uint32_t evicted;
    unsigned open; /* sessions */
    unsigned half_open;
} sessions_counts_t;

/* A request has come: the session's handshake is complete, and it is not idle. */
void sessions_request(coap_session_t *session);

sessions_counts_t sessions_counts(void);
