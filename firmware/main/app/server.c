#include "server.h"

#include <arpa/inet.h>
#include <coap3/coap.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "payload.h"
#include "platform.h"
#include "resources.h"
#include "sdkconfig.h"
#include "sessions.h"

#define IO_WAIT_MS 1000u
/* libcoap 4.3.1 calls it LOG_WARNING, 4.3.5 COAP_LOG_WARN. */
#define LIBCOAP_LOG_WARNING ((coap_log_t)4)
#define ANY_ADDRESS "0.0.0.0"
#define ALL_COAP_NODES "224.0.1.187" /* RFC 7252 section 12.8 */

static coap_context_t *context;
static app_state_t *app;

static void log_of_libcoap(coap_log_t level, const char *message)
{
    int length = (int)strcspn(message, "\r\n");

    platform_log(level < LIBCOAP_LOG_WARNING ? 'E' : 'W', "libcoap", "%.*s", length, message);
}

/* libcoap answers a message beyond its MTU, by default 1152 bytes, with a Reset of Message ID 0. No message that the
 * application sends is that long, and what libcoap reads ends here. */
#define DATAGRAM_MAX 1472

static void fail(const char *what)
{
    platform_log('E', "app", "%s failed", what);
    abort();
}

static void open_endpoint(const char *listen_address, uint16_t port, coap_proto_t protocol)
{
    coap_address_t address;

    coap_address_init(&address);
    address.size = sizeof(address.addr.sin);
    address.addr.sin.sin_family = AF_INET;
    address.addr.sin.sin_port = htons(port);
    if (inet_pton(AF_INET, listen_address, &address.addr.sin.sin_addr) != 1) {
        fail("inet_pton");
    }
    coap_endpoint_t *endpoint = coap_new_endpoint(context, &address, protocol);
    if (endpoint == NULL) {
        fail("coap_new_endpoint");
    }
    coap_endpoint_set_default_mtu(endpoint, DATAGRAM_MAX);
}

#ifdef CONFIG_PAYLOAD_ENCRYPTION

/* No session here is worth more than another: libcoap's own limits do. */
static void open_service(const char *listen_address, const credentials_t *credentials)
{
    if (credentials->psk_length != PLATFORM_AES_KEY) {
        fail("payload encryption with a psk of other than 16 bytes");
    }
    payload_set_key(credentials->psk);
    open_endpoint(listen_address, COAP_PORT, COAP_PROTO_UDP);
    if (coap_join_mcast_group_intf(context, ALL_COAP_NODES, NULL) != 0) {
        platform_log('W', "app", "no membership of %s: discovery is answered at the board's own address only",
                     ALL_COAP_NODES);
    }
    /* A socket that is bound to one address gets nothing that is sent to the group. */
    if (strcmp(listen_address, ANY_ADDRESS) != 0) {
        open_endpoint(ALL_COAP_NODES, COAP_PORT, COAP_PROTO_UDP);
    }
}

static void check_sessions(void)
{
    coap_context_set_max_idle_sessions(context, app->config.max_sessions);
    coap_context_set_session_timeout(context, app->config.idle_timeout_s);
}

static void close_sessions(void)
{
}

#else

static const credentials_t *secrets;
static coap_bin_const_t psk;

static const coap_bin_const_t *key_of_identity(coap_bin_const_t *identity, coap_session_t *session, void *arg)
{
    (void)arg;
    if (!credentials_match_identity(secrets, identity->s, identity->length)) {
        sessions_refuse(session);
        return NULL;
    }
    return &psk;
}

static int on_event(coap_session_t *session, const coap_event_t event)
{
    if (event == COAP_EVENT_SERVER_SESSION_NEW) {
        sessions_begin(session);
    } else if (event == COAP_EVENT_SERVER_SESSION_DEL) {
        sessions_end(session);
    }
    return 0;
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

static void open_service(const char *listen_address, const credentials_t *credentials)
{
    coap_register_event_handler(context, on_event);
    set_psk(credentials);
    sessions_start(context, &app->config);
    open_endpoint(listen_address, COAPS_PORT, COAP_PROTO_DTLS);
}

static void check_sessions(void)
{
    sessions_check();
}

static void close_sessions(void)
{
    sessions_stop();
}

#endif

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
    resources_add(context, state);
    open_service(listen_address, credentials);
}

static bool power_is_due(void)
{
    return app->power.mode != POWER_AWAKE && platform_time_us() >= app->power.from_us;
}

static uint32_t time_to_power_ms(void)
{
    uint64_t now_us = platform_time_us();

    if (app->power.mode == POWER_AWAKE) {
        return IO_WAIT_MS;
    }
    return app->power.from_us > now_us ? (uint32_t)((app->power.from_us - now_us) / 1000) + 1 : 0;
}

static uint32_t shorter(uint32_t one, uint32_t other)
{
    return one < other ? one : other;
}

static uint32_t wait_ms(void)
{
    uint32_t wait = shorter(IO_WAIT_MS, shorter(time_to_power_ms(), resources_next_tick_ms()));

    return wait > 0 ? wait : COAP_IO_NO_WAIT;
}

void server_run(void)
{
    while (!power_is_due()) {
        resources_tick();
        if (coap_io_process(context, wait_ms()) < 0) {
            fail("coap_io_process");
        }
        check_sessions();
        resources_request_sent();
        platform_watchdog_feed();
    }
}

void server_stop(void)
{
    resources_drop_observers();
    close_sessions();
    coap_free_context(context);
    coap_cleanup();
}
