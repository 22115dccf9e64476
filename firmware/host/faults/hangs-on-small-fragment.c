/* Fault: a handshake fragment of one to three bytes is an endless loop, which the task watchdog ends. */
#include <stdbool.h>
#include <string.h>

#include "waiting.h"

#define HANDSHAKE 22
#define RECORD_HEADER 13
#define MESSAGE_LENGTH 1
#define FRAGMENT_LENGTH 9 /* both in the handshake header, RFC 6347 section 4.2.2 */
#define HANDSHAKE_HEADER 12
#define SMALL 3u

int __real_coap_io_process(coap_context_t *context, uint32_t timeout_ms);
int __wrap_coap_io_process(coap_context_t *context, uint32_t timeout_ms);

static bool is_small_fragment(const uint8_t *record, size_t length)
{
    const uint8_t *total = record + RECORD_HEADER + MESSAGE_LENGTH, *size = record + RECORD_HEADER + FRAGMENT_LENGTH;

    if (length < RECORD_HEADER + HANDSHAKE_HEADER || record[0] != HANDSHAKE || record[3] != 0 || record[4] != 0) {
        return false;
    }
    return size[0] == 0 && size[1] == 0 && size[2] > 0 && size[2] <= SMALL && memcmp(total, size, 3) != 0;
}

int __wrap_coap_io_process(coap_context_t *context, uint32_t timeout_ms)
{
    uint8_t bytes[RECORD_HEADER + HANDSHAKE_HEADER];
    size_t length = waiting_datagram(bytes, sizeof(bytes));

    (void)timeout_ms;
    while (is_small_fragment(bytes, length)) {
        poll(NULL, 0, 100);
    }
    return __real_coap_io_process(context, COAP_IO_NO_WAIT);
}
