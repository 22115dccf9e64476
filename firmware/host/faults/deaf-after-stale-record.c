/* Fault: a record of a session from before the restart makes the device deaf for more than a minute. */
#include "platform.h"
#include "radio.h"
#include "sessions.h"
#include "waiting.h"

#define APPLICATION_DATA 23
#define DEAF_US 70000000u

int __real_coap_io_process(coap_context_t *context, uint32_t timeout_ms);
int __wrap_coap_io_process(coap_context_t *context, uint32_t timeout_ms);

int __wrap_coap_io_process(coap_context_t *context, uint32_t timeout_ms)
{
    static uint64_t deaf_until_us;
    uint8_t bytes[1];
    size_t length = waiting_datagram(bytes, sizeof(bytes));

    (void)timeout_ms;
    if (length > 0 && bytes[0] == APPLICATION_DATA && sessions_counts().completed == 0) {
        deaf_until_us = platform_time_us() + DEAF_US;
    }
    if (platform_time_us() < deaf_until_us) {
        radio_lose_received();
    }
    return __real_coap_io_process(context, COAP_IO_NO_WAIT);
}
