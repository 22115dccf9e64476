#include "app.h"

#include <inttypes.h>

#include "credentials.h"
#include "marks.h"
#include "platform.h"
#include "sdkconfig.h"
#include "server.h"

#ifdef CONFIG_LIGHT_INITIAL_ON
#define LIGHT_INITIAL true
#else
#define LIGHT_INITIAL false
#endif

#ifdef CONFIG_PAYLOAD_ENCRYPTION
#define SERVICE "coap with encrypted payloads"
#define SERVICE_PORT COAP_PORT
#else
#define SERVICE "coaps"
#define SERVICE_PORT COAPS_PORT
#endif

/* A round of the server takes a second at most when nothing comes in, and a handshake some hundred milliseconds. */
#define WATCHDOG_MS 10000u

static app_state_t state = {.light_on = LIGHT_INITIAL};
static credentials_t credentials;
static platform_network_t network;
static uint64_t up_since_us; /* 0: the boot; else the latest wake */
static bool answered;

const char *app_wake_cause_name(int cause)
{
    switch (cause) {
    case PLATFORM_WAKE_NONE:
        return "none";
    case PLATFORM_WAKE_TIMER:
        return "timer";
    case PLATFORM_WAKE_GPIO:
        return "gpio";
    default:
        return "other";
    }
}

static const char *mode_name(power_mode_t mode)
{
    static const char *const names[] = {
        [POWER_AWAKE] = "awake",
        [POWER_DEEP_SLEEP] = "deep_sleep",
        [POWER_LIGHT_SLEEP] = "light_sleep",
        [POWER_RADIO_OFF] = "radio_off",
    };

    return names[mode];
}

void app_answered(void)
{
    if (!answered) {
        answered = true;
        platform_log('I', "app", "first answer after %" PRIu64 " ms", (platform_time_us() - up_since_us) / 1000);
    }
}

static void boot(void)
{
    state.retained = platform_retained();
    state.retained->boot_count++;
    state.reset_reason = platform_reset_reason();
    state.wake_cause = platform_wake_cause();
    mark_begin(&state, "boot", "reset_reason=%d boot_count=%" PRIu32, state.reset_reason, state.retained->boot_count);
    if (state.reset_reason == PLATFORM_RESET_DEEP_SLEEP) {
        mark_within("wake", "cause=%s mode=%s", app_wake_cause_name(state.wake_cause), mode_name(POWER_DEEP_SLEEP));
    }
}

static void start_network(void)
{
    platform_network_start(credentials.ssid, credentials.passphrase, &network);
}

static void tell_network_up(void)
{
    mark_end(&state, "network_up", "address=%s port=%d", network.address, SERVICE_PORT);
}

/* The watchdog watches the server's rounds and nothing else: joining a network may take as long as it takes. */
static void serve(void)
{
    platform_watchdog_start(WATCHDOG_MS);
    server_run();
    platform_watchdog_stop();
}

static void leave_network(void)
{
    platform_network_stop();
    mark("sleep_entry", "mode=%s duration_ms=%" PRIu32, mode_name(state.power.mode), state.power.duration_ms);
}

static void sleep_deep(void)
{
    server_stop();
    leave_network();
    platform_deep_sleep(state.power.duration_ms);
}

/* RAM stays, and so do the sessions. */
static void sleep_light(void)
{
    leave_network();
    platform_light_sleep(state.power.duration_ms);
    state.wake_cause = platform_wake_cause();
}

static void stay_without_radio(void)
{
    leave_network();
    platform_wait(state.power.duration_ms);
    state.wake_cause = PLATFORM_WAKE_NONE;
}

static void come_back(void)
{
    up_since_us = platform_time_us();
    answered = false;
    mark_begin(&state, "wake", "cause=%s mode=%s", app_wake_cause_name(state.wake_cause), mode_name(state.power.mode));
    start_network();
    tell_network_up();
    state.power.mode = POWER_AWAKE;
}

static void obey_power_request(void)
{
    switch (state.power.mode) {
    case POWER_DEEP_SLEEP:
        sleep_deep();
        break;
    case POWER_LIGHT_SLEEP:
        sleep_light();
        come_back();
        break;
    case POWER_RADIO_OFF:
        stay_without_radio();
        come_back();
        break;
    case POWER_AWAKE:
        break;
    }
}

void app_run(void)
{
    boot();
    config_defaults(&state.config);
    if (!credentials_load(&credentials)) {
        platform_trigger(false);
        platform_halt();
    }
    start_network();
    server_start(network.listen_address, &credentials, &state);
    platform_log('I', "app", "serving " SERVICE ", %zu bytes of heap free", platform_free_heap());
    tell_network_up();
    for (;;) {
        serve();
        obey_power_request();
    }
}
