/* /power: what the device does to save energy, and for how long. */
#include <string.h>

#include "platform.h"
#include "route.h"

/* A day. */
#define DURATION_MAX_MS 86400000u
/* Between the answer and the end of the radio: the acknowledgement must have left it. */
#define DELAY_US 50000u

static const struct {
    const char *name;
    power_mode_t mode;
} modes[] = {
    {"deep_sleep", POWER_DEEP_SLEEP},
    {"light_sleep", POWER_LIGHT_SLEEP},
    {"radio_off", POWER_RADIO_OFF},
};

/* POWER_AWAKE for a mode that there is not. */
static power_mode_t mode_of(const request_t *request)
{
    const uint8_t *name;
    size_t length;

    if (!request_query(request, "mode", &name, &length)) {
        return POWER_DEEP_SLEEP;
    }
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        if (strlen(modes[i].name) == length && memcmp(modes[i].name, name, length) == 0) {
            return modes[i].mode;
        }
    }
    return POWER_AWAKE;
}

static void put(app_state_t *app, const request_t *request, answer_t *answer)
{
    power_mode_t mode = mode_of(request);
    uint32_t duration_ms;

    if (mode == POWER_AWAKE) {
        answer_error(answer, COAP_RESPONSE_CODE_BAD_REQUEST, "mode: deep_sleep, light_sleep or radio_off was expected");
        return;
    }
    if (!number_parse(request->body.bytes, request->body.length, (number_range_t){1, DURATION_MAX_MS}, &duration_ms)) {
        answer_error(answer, COAP_RESPONSE_CODE_BAD_REQUEST, "1 to 86400000 milliseconds were expected");
        return;
    }
    app->power = (power_request_t){mode, duration_ms, platform_time_us() + DELAY_US};
}

const route_t power_route = {
    .path = "power",
    .attributes = ";rt=\"power\";if=\"core.a\";ct=0",
    .put = {put, NO_FORMATS, FORMATS(COAP_MEDIATYPE_TEXT_PLAIN)},
};
