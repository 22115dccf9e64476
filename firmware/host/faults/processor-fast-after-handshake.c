/* Fault: the processor is set to its full clock for a handshake, and left there. */
#include "chip.h"
#include "sessions.h"

void __real_sessions_check(void);
void __wrap_sessions_check(void);

void __wrap_sessions_check(void)
{
    static uint32_t completed;

    __real_sessions_check();
    if (sessions_counts().completed != completed) {
        completed = sessions_counts().completed;
        chip_report(chip_now_ns(), "state wifi_busy");
    }
}
