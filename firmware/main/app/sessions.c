#include "sessions.h"

#include <stdbool.h>
#include <stddef.h>

#include "marks.h"
#include "platform.h"

/* A cookie comes back within a round trip. One that comes later is answered with another HelloVerifyRequest. */
#define COOKIE_TIMEOUT_US 5000000u
/* For so long a handshake under way is not disturbed: many clients that come at once are served in turns. */
#define GRACE_US 200000u
/* When libcoap frees a session that is still a hello: 30 s of silence, and its clock's resolution. */
#define HELLO_REAPED_US 30010000u
/* Beyond HELLOS_MAX, for a hello that was thought old enough to be freed and had spoken since. */
#define HELLOS_SPARE 4
#define TABLE_SIZE (HELLOS_MAX + HELLOS_SPARE + HANDSHAKES_MAX + 1 + SESSIONS_MAX + 1)
/* libcoap does not answer a stranger when it counts more hellos and handshakes than this. */
#define ADMIT_ALL 0xffffu
#define ADMIT_NONE 1u
/* The door closes at two, so fewer cannot be kept: the second would be given up just after it was told its cookie, come
 * back with it at once, and so on. */
#define HANDSHAKES_MIN (ADMIT_NONE + 1)

typedef enum { PHASE_NONE, PHASE_HELLO, PHASE_HANDSHAKE, PHASE_OPEN } phase_t;

typedef struct {
    /* A hello may be gone without an event: its pointer is used only after libcoap has confirmed it. One in the
     * handshake phase is freed by libcoap with an event. To an open one this file holds a reference. */
    coap_session_t *session;
    coap_address_t peer;
    int interface;
    phase_t phase;
    bool marked; /* between handshake_start and handshake_end */
    bool refused;
    uint64_t since_us; /* of the handshake's start; when open, of the last request */
} entry_t;

static entry_t table[TABLE_SIZE];
static coap_context_t *context;
static const config_t *limits;
static sessions_counts_t totals;

static uint32_t at_most(uint32_t value, uint32_t most)
{
    return value < most ? value : most;
}

static entry_t *find(const coap_session_t *session)
{
    for (size_t i = 0; i < TABLE_SIZE; i++) {
        if (table[i].phase != PHASE_NONE && table[i].session == session) {
            return &table[i];
        }
    }
    return NULL;
}

static entry_t *free_place(void)
{
    for (size_t i = 0; i < TABLE_SIZE; i++) {
        if (table[i].phase == PHASE_NONE) {
            return &table[i];
        }
    }
    return NULL;
}

typedef bool (*kind_t)(const entry_t *entry);

static bool is_hello(const entry_t *entry)
{
    return entry->phase == PHASE_HELLO;
}

static bool awaits_cookie(const entry_t *entry)
{
    return entry->phase == PHASE_HELLO && entry->marked;
}

static bool is_handshake(const entry_t *entry)
{
    return entry->phase == PHASE_HANDSHAKE;
}

static bool is_open(const entry_t *entry)
{
    return entry->phase == PHASE_OPEN;
}

static bool is_half_open(const entry_t *entry)
{
    return entry->marked;
}

static bool is_past_grace(const entry_t *entry)
{
    return platform_time_us() - entry->since_us > GRACE_US;
}

static bool is_fresh(const entry_t *entry)
{
    return entry->marked && !is_past_grace(entry);
}

static bool is_stale_hello(const entry_t *entry)
{
    return awaits_cookie(entry) && is_past_grace(entry);
}

static bool is_stale_handshake(const entry_t *entry)
{
    return is_handshake(entry) && is_past_grace(entry);
}

static unsigned count(kind_t kind)
{
    unsigned found = 0;

    for (size_t i = 0; i < TABLE_SIZE; i++) {
        found += kind(&table[i]);
    }
    return found;
}

static entry_t *oldest(kind_t kind)
{
    entry_t *found = NULL;

    for (size_t i = 0; i < TABLE_SIZE; i++) {
        if (kind(&table[i]) && (found == NULL || table[i].since_us < found->since_us)) {
            found = &table[i];
        }
    }
    return found;
}

static entry_t *youngest(kind_t kind)
{
    entry_t *found = NULL;

    for (size_t i = 0; i < TABLE_SIZE; i++) {
        if (kind(&table[i]) && (found == NULL || table[i].since_us > found->since_us)) {
            found = &table[i];
        }
    }
    return found;
}

static void begin_handshake(entry_t *entry)
{
    entry->marked = true;
    entry->refused = false;
    entry->since_us = platform_time_us();
    mark_begin(entry, "handshake_start", "%s", "");
}

static void end_handshake(entry_t *entry, bool ok)
{
    if (!entry->marked) {
        return;
    }
    entry->marked = false;
    totals.completed += ok;
    totals.failed += !ok;
    mark_end(entry, "handshake_end", "ok=%d", ok);
}

static void forget(entry_t *entry)
{
    end_handshake(entry, false);
    entry->phase = PHASE_NONE;
    entry->session = NULL;
}

/* With close_notify if the session is open. libcoap frees it when the next round begins. */
static void close_session(entry_t *entry)
{
    coap_session_t *session = entry->session;
    bool was_open = entry->phase == PHASE_OPEN;

    forget(entry);
    coap_session_disconnected(session, COAP_NACK_NOT_DELIVERABLE);
    if (was_open) {
        coap_session_release(session);
    }
}

static void give_up(entry_t *entry)
{
    if (entry->phase == PHASE_HANDSHAKE) {
        close_session(entry);
        return;
    }
    end_handshake(entry, false);
    coap_session_disconnected(entry->session, COAP_NACK_NOT_DELIVERABLE);
}

static void open_session(entry_t *entry)
{
    entry->phase = PHASE_OPEN;
    coap_session_reference(entry->session);
    entry->since_us = platform_time_us();
    end_handshake(entry, true);
    while (count(is_open) > at_most(limits->max_sessions, SESSIONS_MAX)) {
        totals.evicted++;
        close_session(oldest(is_open));
    }
}

static void check_hello(entry_t *entry)
{
    coap_session_t *session = coap_session_get_by_peer(context, &entry->peer, entry->interface);

    if (session != entry->session) {
        forget(entry);
        return;
    }
    bool is_verified = coap_session_get_type(session) == COAP_SESSION_TYPE_SERVER;

    /* A hello that was given up has come to life again. */
    if (!entry->marked && (is_verified || coap_session_get_tls(session, NULL) != NULL)) {
        begin_handshake(entry);
    }
    if (is_verified) {
        entry->phase = PHASE_HANDSHAKE;
    } else if (entry->marked && platform_time_us() - entry->since_us > COOKIE_TIMEOUT_US) {
        give_up(entry);
    }
}

static void check_handshake(entry_t *entry)
{
    if (entry->refused || platform_time_us() - entry->since_us > limits->handshake_timeout_ms * UINT64_C(1000)) {
        close_session(entry);
    } else if (coap_session_get_state(entry->session) == COAP_SESSION_STATE_ESTABLISHED) {
        open_session(entry);
    }
}

static void check_open(entry_t *entry)
{
    if (platform_time_us() - entry->since_us > limits->idle_timeout_s * UINT64_C(1000000)) {
        close_session(entry);
    }
}

static void check(entry_t *entry)
{
    if (entry->phase == PHASE_HELLO) {
        check_hello(entry);
    }
    if (entry->phase >= PHASE_HANDSHAKE && coap_session_get_state(entry->session) == COAP_SESSION_STATE_NONE) {
        close_session(entry); /* its TLS has ended: close_notify, an alert, too many retransmissions */
    }
    if (entry->phase == PHASE_HANDSHAKE) {
        check_handshake(entry);
    } else if (entry->phase == PHASE_OPEN) {
        check_open(entry);
    }
}

/* The one that makes room when there are too many handshakes under way. */
static entry_t *least_worthy(void)
{
    entry_t *found = oldest(is_stale_hello);

    if (found == NULL) {
        found = oldest(is_stale_handshake);
    }
    return found != NULL ? found : youngest(is_half_open);
}

/* libcoap frees at most one hello when a stranger writes, and only an old one. */
static bool can_take_another_hello(void)
{
    unsigned hellos = count(is_hello);

    if (hellos < HELLOS_MAX) {
        return true;
    }
    return hellos < HELLOS_MAX + HELLOS_SPARE &&
           platform_time_us() - oldest(is_hello)->since_us > HELLO_REAPED_US;
}

void sessions_start(coap_context_t *of, const config_t *config)
{
    context = of;
    limits = config;
    coap_context_set_max_idle_sessions(context, 0); /* no limit */
    coap_context_set_max_handshake_sessions(context, ADMIT_ALL);
}

void sessions_stop(void)
{
    for (size_t i = 0; i < TABLE_SIZE; i++) {
        if (table[i].phase >= PHASE_HANDSHAKE) {
            close_session(&table[i]);
        } else if (table[i].phase == PHASE_HELLO) {
            forget(&table[i]);
        }
    }
}

void sessions_begin(coap_session_t *session)
{
    entry_t *entry = free_place();

    if (entry == NULL) {
        return; /* not before libcoap has let in more than it was allowed to; it frees this one after 30 s */
    }
    entry->session = session;
    entry->peer = *coap_session_get_addr_remote(session);
    entry->interface = coap_session_get_ifindex(session);
    entry->phase = PHASE_HELLO;
    begin_handshake(entry);
}

void sessions_end(const coap_session_t *session)
{
    entry_t *entry = find(session);

    if (entry != NULL) {
        forget(entry);
    }
}

void sessions_refuse(const coap_session_t *session)
{
    entry_t *entry = find(session);

    if (entry != NULL) {
        entry->refused = true;
    }
}

void sessions_request(const coap_session_t *session)
{
    entry_t *entry = find(session);

    if (entry != NULL && entry->phase == PHASE_OPEN) {
        entry->since_us = platform_time_us();
    }
}

/* Few at a time when memory runs short: what is held already, and the network's own buffers, come first. */
static unsigned handshakes_allowed(void)
{
    return platform_heap_is_low() ? HANDSHAKES_MIN : at_most(limits->max_handshakes, HANDSHAKES_MAX);
}

void sessions_check(void)
{
    unsigned most = handshakes_allowed();

    for (size_t i = 0; i < TABLE_SIZE; i++) {
        check(&table[i]);
    }
    while (count(is_half_open) > most) {
        give_up(least_worthy());
    }
    bool admit = count(is_fresh) < most && can_take_another_hello();
    coap_context_set_max_handshake_sessions(context, admit ? ADMIT_ALL : ADMIT_NONE);
}

sessions_counts_t sessions_counts(void)
{
    sessions_counts_t counts = totals;

    counts.open = count(is_open);
    counts.half_open = count(is_half_open);
    return counts;
}
