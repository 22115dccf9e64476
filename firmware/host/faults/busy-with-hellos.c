/* Fault: every stranger's ClientHello keeps the radio awake for 200 ms. */
#include <stdbool.h>

#include "chip.h"
#include "platform.h"
#include "sessions.h"

#define AWAKE_US 200000u

void __real_sessions_begin(coap_session_t *session);
void __wrap_sessions_begin(coap_session_t *session);
int __real_coap_io_process(coap_context_t *context, uint32_t timeout_ms);
int __wrap_coap_io_process(coap_context_t *context, uint32_t timeout_ms);

static uint64_t heard_us;
static bool awake;

void __wrap_sessions_begin(coap_session_t *session)
{
    heard_us = platform_time_us();
    awake = true;
    chip_report(chip_now_ns(), "state wifi_connect");
    __real_sessions_begin(session);
}

int __wrap_coap_io_process(coap_context_t *context, uint32_t timeout_ms)
{
    int passed_ms = __real_coap_io_process(context, awake ? AWAKE_US / 1000 : timeout_ms);

    if (awake && platform_time_us() - heard_us > AWAKE_US) {
        awake = false;
        chip_report(chip_now_ns(), "state wifi_idle");
    }
    return passed_ms;
}
