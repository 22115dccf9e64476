/* DTLS sessions: who gets in, who stays, who goes. And the marks of their handshakes.
 *
 * libcoap alone lets a stranger's first ClientHello push out an authenticated session, and keeps up to 100 half-open
 * handshakes for 30 seconds. So it is given no limits of its own. Each of its sessions is looked at after each round of
 * I/O, which handles one datagram, and is in one of three phases:
 *
 *   hello      a ClientHello has come, the cookie has not come back. libcoap 4.3 has no call that frees such a session:
 *              it frees one itself, 30 seconds old or more, when the next stranger writes. What it holds of the TLS
 *              library can be freed, and is when it is given up. Some 600 bytes remain.
 *   handshake  the cookie has come back: the address is real, the peer is not known yet.
 *   open       the peer has shown that it holds the key. Only another completed handshake pushes it out.
 *
 * Hellos and handshakes share the places for handshakes under way. When these are full of young ones a stranger is
 * not answered and will ask again; else the oldest goes, one whose address is not proven before one whose address is.
 *
 * libcoap's events are not enough for this. With mbedTLS (component 4.3.5) a server is told of no completed handshake;
 * with OpenSSL a session that ends for want of a common cipher suite goes without an event. */
#pragma once

#include <coap3/coap.h>
#include <stdint.h>

#include "config.h"
#include "sdkconfig.h"

/* What the tables hold; config_t may ask for less. README.md has the arithmetic. */
#define SESSIONS_MAX CONFIG_MAX_SESSIONS
#define HANDSHAKES_MAX 6
#define HELLOS_MAX 48

typedef struct {
    uint32_t completed; /* handshakes since boot */
    uint32_t failed;    /* ... that ended otherwise, or were given up */
    uint32_t evicted;   /* open sessions that made room for a newly completed handshake */
    unsigned open;
    unsigned half_open; /* handshakes under way, from the first ClientHello on */
} sessions_counts_t;

/* The limits are read from *config each time. */
void sessions_start(coap_context_t *context, const config_t *config);

/* close_notify to everybody. */
void sessions_stop(void);

/* libcoap has made this session, for a first ClientHello. */
void sessions_begin(coap_session_t *session);

/* libcoap is about to free this session. */
void sessions_end(const coap_session_t *session);

/* The peer offered an identity that is not ours: its handshake ends at the next check. */
void sessions_refuse(const coap_session_t *session);

/* A request has come over this session: it is open, and not idle. */
void sessions_request(const coap_session_t *session);

/* Call after each coap_io_process(), and never from one of libcoap's callbacks. */
void sessions_check(void);

sessions_counts_t sessions_counts(void);
