#include "chip.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "environment.h"

uint64_t chip_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void chip_report(uint64_t time_ns, const char *format, ...)
{
    char message[96];
    int stamp_length = snprintf(message, sizeof(message), "%" PRIu64 " ", time_ns);
    va_list values;

    va_start(values, format);
    int length = vsnprintf(message + stamp_length, sizeof(message) - (size_t)stamp_length, format, values);
    va_end(values);
    /* write, not send: send is the radio's. A board that has gone takes this process along. */
    if (write(environment.chip_fd, message, (size_t)(stamp_length + length)) < 0) {
        _exit(1);
    }
}
