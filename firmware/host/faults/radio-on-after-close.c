/* Fault: when a session ends the radio does not go back to modem sleep. */
#include "chip.h"
#include "sessions.h"

void __real_sessions_check(void);
void __wrap_sessions_check(void);

void __wrap_sessions_check(void)
{
    static unsigned open;

    __real_sessions_check();
    if (sessions_counts().open < open) {
        chip_report(chip_now_ns(), "state wifi_connect");
    }
    open = sessions_counts().open;
}
