#include "marks.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "platform.h"

/* The low time between two stretches that touch: long enough for an instrument's trigger input. */
#define RETRIGGER_GAP_US 20

static const void *line_owner;

static void print_mark(uint64_t time_us, const char *name, const char *format, va_list values)
{
    char text[128];

    if (vsnprintf(text, sizeof(text), format, values) < 0) {
        text[0] = '\0';
    }
    platform_log('I', "mark", "%s t_us=%" PRIu64 "%s%s", name, time_us, text[0] ? " " : "", text);
}

static uint64_t raise_line(const void *stretch)
{
    if (line_owner != NULL) {
        uint64_t low_us = platform_trigger(false);
        while (platform_time_us() - low_us < RETRIGGER_GAP_US) {
        }
    }
    line_owner = stretch;
    return platform_trigger(true);
}

static uint64_t lower_line(void)
{
    line_owner = NULL;
    return platform_trigger(false);
}

void mark(const char *name, const char *format, ...)
{
    uint64_t time_us = lower_line();
    va_list values;

    va_start(values, format);
    print_mark(time_us, name, format, values);
    va_end(values);
}

void mark_within(const char *name, const char *format, ...)
{
    uint64_t time_us = platform_time_us();
    va_list values;

    va_start(values, format);
    print_mark(time_us, name, format, values);
    va_end(values);
}

void mark_begin(const void *stretch, const char *name, const char *format, ...)
{
    uint64_t time_us = raise_line(stretch);
    va_list values;

    va_start(values, format);
    print_mark(time_us, name, format, values);
    va_end(values);
}

void mark_end(const void *stretch, const char *name, const char *format, ...)
{
    uint64_t time_us = line_owner == stretch ? lower_line() : platform_time_us();
    va_list values;

    va_start(values, format);
    print_mark(time_us, name, format, values);
    va_end(values);
}
