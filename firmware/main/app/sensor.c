/* /sensor: a reading every telemetry_period_ms.
 *
 * There is no sensor on the board. What is read is the device's own state, which is true: the heap that is free, when
 * it was read, and how many readings there have been. */
#include "platform.h"
#include "route.h"

static struct {
    uint32_t sequence; /* of the reading, from 1; 0: there is none yet */
    uint64_t time_us;
    size_t free_heap;
} reading;

static uint64_t due_us(const app_state_t *app)
{
    return reading.sequence == 0 ? 0 : reading.time_us + app->config.telemetry_period_ms * UINT64_C(1000);
}

bool sensor_tick(const app_state_t *app, uint64_t now_us)
{
    if (now_us < due_us(app)) {
        return false;
    }
    reading.sequence++;
    reading.time_us = now_us;
    reading.free_heap = platform_free_heap();
    return true;
}

uint32_t sensor_next_ms(const app_state_t *app, uint64_t now_us)
{
    uint64_t due = due_us(app);

    return due > now_us ? (uint32_t)((due - now_us) / 1000) + 1 : 1;
}

static void get(app_state_t *app, const request_t *request, answer_t *answer)
{
    bool cbor = request->answer_format == COAP_MEDIATYPE_APPLICATION_CBOR;
    object_t object = object_begin(&answer->text, cbor ? NOTATION_CBOR : NOTATION_JSON, 3);

    (void)app;
    object_number(&object, "sequence", reading.sequence);
    object_number(&object, "uptime_ms", reading.time_us / 1000);
    object_number(&object, "free_heap", reading.free_heap);
    object_end(&object);
}

const route_t sensor_route = {
    .path = "sensor",
    .attributes = ";rt=\"telemetry\";if=\"core.s\";ct=\"50 60\"",
    .flags = COAP_RESOURCE_FLAGS_NOTIFY_NON, /* a lost reading is followed by a newer one */
    .observable = true,
    .get = {get, FORMATS(COAP_MEDIATYPE_APPLICATION_JSON, COAP_MEDIATYPE_APPLICATION_CBOR), NO_FORMATS},
};
