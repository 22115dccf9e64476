/* Fault: after a handshake that failed the radio stays awake. */
#include "chip.h"
#include "sessions.h"

void __real_sessions_check(void);
void __wrap_sessions_check(void);

void __wrap_sessions_check(void)
{
    static uint32_t failed;

    __real_sessions_check();
    if (sessions_counts().failed != failed) {
        failed = sessions_counts().failed;
        chip_report(chip_now_ns(), "state wifi_connect");
    }
}
