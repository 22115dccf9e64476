#include "surroundings.h"

#include <string.h>

#include "app.h"
#include "platform.h"
#include "sessions.h"

static uint64_t now_us = 1;

void surroundings_advance_ms(uint64_t duration_ms)
{
    now_us += duration_ms * 1000;
}

uint64_t platform_time_us(void)
{
    return now_us++;
}

uint64_t platform_trigger(bool high)
{
    (void)high;
    return now_us++;
}

void platform_log(char level, const char *tag, const char *format, ...)
{
    (void)level;
    (void)tag;
    (void)format;
}

size_t platform_free_heap(void)
{
    return 100000;
}

void platform_random(void *buffer, size_t size)
{
    memset(buffer, 0x5a, size);
}

void sessions_request(const coap_session_t *session)
{
    (void)session;
}

sessions_counts_t sessions_counts(void)
{
    return (sessions_counts_t){0};
}

void app_answered(void)
{
}

const char *app_wake_cause_name(int cause)
{
    (void)cause;
    return "none";
}
