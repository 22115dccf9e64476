/* Fault: the client of the newest session is pinged every 5 s, and the radio is kept awake for a second each time. */
#include <coap3/coap.h>
#include <stdbool.h>

#include "chip.h"
#include "platform.h"
#include "sessions.h"

#define PERIOD_US 5000000u
#define AWAKE_US 1000000u

void __real_sessions_check(void);
void __wrap_sessions_check(void);
void __real_sessions_request(const coap_session_t *session);
void __wrap_sessions_request(const coap_session_t *session);
void __real_sessions_end(const coap_session_t *session);
void __wrap_sessions_end(const coap_session_t *session);

static coap_session_t *newest;
static uint64_t pinged_us;
static bool awake;

void __wrap_sessions_request(const coap_session_t *session)
{
    if (newest == NULL) {
        pinged_us = platform_time_us();
    }
    newest = (coap_session_t *)session;
    __real_sessions_request(session);
}

void __wrap_sessions_end(const coap_session_t *session)
{
    newest = newest == session ? NULL : newest;
    __real_sessions_end(session);
}

void __wrap_sessions_check(void)
{
    uint64_t now_us = platform_time_us();

    __real_sessions_check();
    if (newest != NULL && now_us - pinged_us > PERIOD_US) {
        coap_session_send_ping(newest);
        chip_report(chip_now_ns(), "state wifi_connect");
        pinged_us = now_us;
        awake = true;
    } else if (awake && now_us - pinged_us > AWAKE_US) {
        chip_report(chip_now_ns(), "state wifi_idle");
        awake = false;
    }
}
