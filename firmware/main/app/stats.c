/* /stats: counters and state, for who judges the device. */
#include "platform.h"
#include "route.h"
#include "sessions.h"

static uint32_t duplicates;

void stats_count_duplicate(void)
{
    duplicates++;
}

static const char *reset_reason_name(int reason)
{
    switch (reason) {
    case PLATFORM_RESET_POWER_ON:
        return "power on";
    case PLATFORM_RESET_SOFTWARE:
        return "software";
    case PLATFORM_RESET_DEEP_SLEEP:
        return "deep sleep";
    case PLATFORM_RESET_BROWNOUT:
        return "brownout";
    default: /* the watchdogs too: the application did not run to an end that it chose */
        return "panic";
    }
}

static void get(app_state_t *app, const request_t *request, answer_t *answer)
{
    sessions_counts_t counts = sessions_counts();
    object_t object = object_begin(&answer->text, NOTATION_JSON, 11);

    (void)request;
    object_number(&object, "boot_count", app->retained->boot_count);
    object_text(&object, "reset_reason", reset_reason_name(app->reset_reason));
    object_text(&object, "wake_cause", app_wake_cause_name(app->wake_cause));
    object_number(&object, "free_heap", platform_free_heap());
    object_number(&object, "handshakes", counts.completed);
    object_number(&object, "failed_handshakes", counts.failed);
    object_number(&object, "sessions", counts.open);
    object_number(&object, "half_open", counts.half_open);
    object_number(&object, "evicted", counts.evicted);
    object_number(&object, "duplicates", duplicates);
    object_number(&object, "uptime_ms", platform_time_us() / 1000);
    object_end(&object);
}

const route_t stats_route = {
    .path = "stats",
    .attributes = ";rt=\"stats\";if=\"core.s\";ct=50",
    .get = {get, FORMATS(COAP_MEDIATYPE_APPLICATION_JSON), NO_FORMATS},
};
