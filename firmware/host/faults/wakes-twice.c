/* Fault: half-way through each deep sleep the device wakes, and sleeps again. */
#include "app.h"
#include "chip.h"
#include "platform.h"

/* In the retained memory, behind what the application keeps there; 0: the whole of it has been slept. */
#define LEFT_AT 8
#define AWAKE_MS 200

void __real_app_run(void);
void __wrap_app_run(void);
void __real_platform_deep_sleep(uint32_t duration_ms);
void __wrap_platform_deep_sleep(uint32_t duration_ms);

/* Asked for once a boot: each call clears what no deep sleep has kept. */
static uint32_t *left_ms(void)
{
    static uint32_t *retained;

    if (retained == NULL) {
        retained = platform_retained();
    }
    return retained + LEFT_AT;
}

void __wrap_platform_deep_sleep(uint32_t duration_ms)
{
    *left_ms() = duration_ms / 2;
    __real_platform_deep_sleep(duration_ms - duration_ms / 2);
}

void __wrap_app_run(void)
{
    uint32_t left = *left_ms();

    *left_ms() = 0;
    if (left > 0) {
        platform_wait(AWAKE_MS);
        __real_platform_deep_sleep(left);
    }
    __real_app_run();
}
