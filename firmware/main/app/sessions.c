#include "sessions.h"

#include "marks.h"

/* More at once and the oldest counts as given up. */
#define HANDSHAKES_MAX 16

typedef struct {
    const coap_session_t *session; /* NULL: free. Compared, and used only after libcoap has confirmed it. */
    coap_address_t peer;
    int interface;
    bool refused;
    uint32_t order;
} handshake_t;

static handshake_t table[HANDSHAKES_MAX];
static uint32_t begun;
static uint32_t completed;

static void end(handshake_t *handshake, bool ok)
{
    handshake->session = NULL;
    completed += ok;
    mark_end(handshake, "handshake_end", "ok=%d", ok);
}

static handshake_t *find(const coap_session_t *session)
{
    for (size_t i = 0; i < HANDSHAKES_MAX; i++) {
        if (table[i].session == session) {
            return &table[i];
        }
    }
    return NULL;
}

static handshake_t *oldest(void)
{
    handshake_t *found = &table[0];

    for (size_t i = 1; i < HANDSHAKES_MAX; i++) {
        if (begun - table[i].order > begun - found->order) {
            found = &table[i];
        }
    }
    return found;
}

static handshake_t *free_place(void)
{
    handshake_t *place = find(NULL);

    if (place == NULL) {
        place = oldest();
        end(place, false);
    }
    return place;
}

void sessions_begin(const coap_session_t *session)
{
    sessions_end(session, false); /* its memory was another session's, which ended unseen */
    handshake_t *handshake = free_place();

    handshake->session = session;
    handshake->peer = *coap_session_get_addr_remote(session);
    handshake->interface = coap_session_get_ifindex(session);
    handshake->refused = false;
    handshake->order = begun++;
    mark_begin(handshake, "handshake_start", "%s", "");
}

void sessions_end(const coap_session_t *session, bool ok)
{
    handshake_t *handshake = find(session);

    if (handshake != NULL) {
        end(handshake, ok);
    }
}

void sessions_refuse(const coap_session_t *session)
{
    handshake_t *handshake = find(session);

    if (handshake != NULL) {
        handshake->refused = true;
    }
}

static void check(const coap_context_t *context, handshake_t *handshake)
{
    const coap_session_t *now = coap_session_get_by_peer(context, &handshake->peer, handshake->interface);

    if (now != handshake->session || handshake->refused) {
        end(handshake, false);
    } else if (coap_session_get_state(now) == COAP_SESSION_STATE_ESTABLISHED) {
        end(handshake, true);
    }
}

void sessions_check(const coap_context_t *context)
{
    for (size_t i = 0; i < HANDSHAKES_MAX; i++) {
        if (table[i].session != NULL) {
            check(context, &table[i]);
        }
    }
}

void sessions_request(coap_session_t *session)
{
    sessions_end(session, true);
}

sessions_counts_t sessions_counts(void)
{
    return (sessions_counts_t){.completed = completed};
}
