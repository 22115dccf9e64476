#include "server.h"

#include <arpa/inet.h>
#include <coap3/coap.h>
#include <stdlib.h>
#include <string.h>

#include "payload.h"
#include "platform.h"
#include "resources.h"
#include "sdkconfig.h"
#include "sessions.h"

/* Each idle session holds a DTLS context: about ten exhaust the heap of an ESP32-C3. The oldest idle one goes first. */
#define IDLE_SESSIONS_MAX 8
#define IO_WAIT_MS 1000u
/* libcoap 4.3.1 calls it LOG_WARNING, 4.3.5 COAP_LOG_WARN. */
#define LIBCOAP_LOG_WARNING ((coap_log_t)4)

static coap_context_t *context;
static app_state_t *app;
#ifndef CONFIG_PAYLOAD_ENCRYPTION
static const credentials_t *secrets;
static coap_bin_const_t psk;
#endif

static void log_of_libcoap(coap_log_t level, const char *message)
{
    int length = (int)strcspn(message, "\r\n");

    platform_log(level < LIBCOAP_LOG_WARNING ? 'E' : 'W', "libcoap", "%.*s", length, message);
}

/* libcoap makes the session at the first ClientHello, before the cookie has come back: this is where the radio and the
 * processor begin to work for a handshake. */
static int on_event(coap_session_t *session, const coap_event_t event)
{
    switch (event) {
    case COAP_EVENT_SERVER_SESSION_NEW:
        if (coap_session_get_proto(session) == COAP_PROTO_DTLS) {
            sessions_begin(session);
        }
        break;
    case COAP_EVENT_DTLS_CONNECTED:
        sessions_end(session, true);
        break;
    case COAP_EVENT_DTLS_ERROR:
    case COAP_EVENT_DTLS_CLOSED:
    case COAP_EVENT_SERVER_SESSION_DEL:
        sessions_end(session, false);
        break;
    default:
        break;
    }
    return 0;
}

static void fail(const char *what)
{
    platform_log('E', "app", "%s failed", what);
    abort();
}

#ifndef CONFIG_PAYLOAD_ENCRYPTION
static const coap_bin_const_t *key_of_identity(coap_bin_const_t *identity, coap_session_t *session, void *arg)
{
    (void)arg;
    if (!credentials_match_identity(secrets, identity->s, identity->length)) {
        sessions_refuse(session);
        return NULL;
    }
    return &psk;
}

static void set_psk(const credentials_t *credentials)
{
    coap_dtls_spsk_t setup;

    secrets = credentials;
    psk.s = credentials->psk;
    psk.length = credentials->psk_length;
    memset(&setup, 0, sizeof(setup));
    setup.version = COAP_DTLS_SPSK_SETUP_VERSION;
    /* No hint, and no key that would hold for any identity: the callback is the only way to a key. */
    setup.validate_id_call_back = key_of_identity;
    if (!coap_context_set_psk2(context, &setup)) {
        fail("coap_context_set_psk2");
    }
}
#endif

#ifdef CONFIG_PAYLOAD_ENCRYPTION
#define PORT COAP_PORT
#define PROTOCOL COAP_PROTO_UDP
#else
#define PORT COAPS_PORT
#define PROTOCOL COAP_PROTO_DTLS
#endif

static void open_endpoint(const char *listen_address)
{
    coap_address_t address;

    coap_address_init(&address);
    address.size = sizeof(address.addr.sin);
    address.addr.sin.sin_family = AF_INET;
    address.addr.sin.sin_port = htons(PORT);
    if (inet_pton(AF_INET, listen_address, &address.addr.sin.sin_addr) != 1) {
        fail("inet_pton");
    }
    if (coap_new_endpoint(context, &address, PROTOCOL) == NULL) {
        fail("coap_new_endpoint");
    }
}

void server_start(const char *listen_address, const credentials_t *credentials, app_state_t *state)
{
    app = state;
    coap_startup();
    coap_set_log_handler(log_of_libcoap);
    coap_set_log_level(LIBCOAP_LOG_WARNING);
    context = coap_new_context(NULL);
    if (context == NULL) {
        fail("coap_new_context");
    }
    coap_context_set_max_idle_sessions(context, IDLE_SESSIONS_MAX);
    coap_register_event_handler(context, on_event);
#ifdef CONFIG_PAYLOAD_ENCRYPTION
    if (credentials->psk_length != PLATFORM_AES_KEY) {
        fail("payload encryption with a psk that has not 16 bytes");
    }
    payload_set_key(credentials->psk);
#else
    set_psk(credentials);
#endif
    resources_add(context, state);
    open_endpoint(listen_address);
}

static uint32_t wait_ms(void)
{
    uint64_t now_us = platform_time_us();

    if (app->power.mode == POWER_AWAKE) {
        uint32_t tick_ms = resources_next_tick_ms();
        return tick_ms < IO_WAIT_MS ? tick_ms : IO_WAIT_MS;
    }
    /* 0 would mean for ever to libcoap. */
    return app->power.from_us > now_us ? (uint32_t)((app->power.from_us - now_us) / 1000) + 1 : 1;
}

static bool sleep_is_due(void)
{
    return app->power.mode != POWER_AWAKE && platform_time_us() >= app->power.from_us;
}

void server_run(void)
{
    while (!sleep_is_due()) {
        if (coap_io_process(context, wait_ms()) < 0) {
            fail("coap_io_process");
        }
        sessions_check(context);
        resources_request_sent();
        resources_tick();
        platform_watchdog_feed();
    }
}

void server_stop(void)
{
    resources_drop_observers();
    coap_free_context(context);
    coap_cleanup();
}
