#include "environment.h"

#include <stdio.h>
#include <stdlib.h>

environment_t environment;

static const char *text_of(const char *name)
{
    const char *value = getenv(name);

    if (value == NULL || value[0] == '\0') {
        fprintf(stderr, "%s is not set: this program is started by the virtual board\n", name);
        exit(2);
    }
    return value;
}

static int number_of(const char *name)
{
    char *end;
    long value = strtol(text_of(name), &end, 10);

    if (*end != '\0' || value < 0 || value > 1 << 20) {
        fprintf(stderr, "%s is not a small number: this program is started by the virtual board\n", name);
        exit(2);
    }
    return (int)value;
}

void environment_read(void)
{
    environment.chip_fd = number_of("RIG_CHIP_FD");
    environment.nvs_fd = number_of("RIG_NVS_FD");
    environment.rtc_fd = number_of("RIG_RTC_FD");
    environment.reset_reason = number_of("RIG_RESET_REASON");
    environment.wake_cause = getenv("RIG_WAKE_CAUSE") != NULL ? number_of("RIG_WAKE_CAUSE") : 0;
    environment.address = text_of("RIG_ADDRESS");
}
