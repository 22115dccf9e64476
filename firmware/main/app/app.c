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

static app_state_t state = {.light_on = LIGHT_INITIAL};
static credentials_t credentials;

static void boot(void)
{
    state.retained = platform_retained();
    state.retained->boot_count++;
    state.reset_reason = platform_reset_reason();
    state.wake_cause = platform_wake_cause();
    config_defaults(&state.config);
    mark_begin(&state, "boot", "reset_reason=%d boot_count=%" PRIu32, state.reset_reason, state.retained->boot_count);
}

void app_run(void)
{
    platform_network_t network;

    boot();
    if (!credentials_load(&credentials)) {
        platform_trigger(false);
        platform_halt();
    }
    platform_network_start(credentials.ssid, credentials.passphrase, &network);
    server_start(network.listen_address, &credentials, &state);
    platform_log('I', "app", "serving coaps, %zu bytes of heap free", platform_free_heap());
    mark_end(&state, "network_up", "address=%s port=%d", network.address, COAPS_PORT);

    server_run();

    platform_network_stop();
    mark("sleep_entry", "duration_ms=%" PRIu32, state.power.duration_ms);
    platform_deep_sleep(state.power.duration_ms);
}
