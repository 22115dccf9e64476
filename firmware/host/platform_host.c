/* The platform of the virtual bench: a Linux process that speaks the board's wire. */
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "app.h"
#include "chip.h"
#include "environment.h"
#include "nvs.h"
#include "platform.h"
#include "radio.h"
#include "sdkconfig.h"

#define RTC_MEMORY_SIZE 8192u
#define RETAINED_SIZE 64u
/* What an ESP32-C3 with Wi-Fi up has left. */
#define CHIP_HEAP_SIZE (290u * 1024u)
/* Scan, association and DHCP of a network with a good signal. */
#define WIFI_CONNECT_MS 300

static uint64_t start_ns;
static int wake_cause;
static uint32_t watchdog_ms;

uint64_t platform_time_us(void)
{
    return (chip_now_ns() - start_ns) / 1000;
}

uint64_t platform_trigger(bool high)
{
    uint64_t edge_ns = chip_now_ns();

    chip_report(edge_ns, "gpio %d %d", CONFIG_TRIGGER_GPIO, high);
    return (edge_ns - start_ns) / 1000;
}

void platform_log(char level, const char *tag, const char *format, ...)
{
    va_list values;

    flockfile(stdout);
    printf("%c (%llu) %s: ", level, (unsigned long long)(platform_time_us() / 1000), tag);
    va_start(values, format);
    vprintf(format, values);
    va_end(values);
    putchar('\n');
    funlockfile(stdout);
}

int platform_reset_reason(void)
{
    return environment.reset_reason;
}

int platform_wake_cause(void)
{
    return wake_cause;
}

/* The host has enough; and OpenSSL's sessions are so large that the chip's figure above soon is 0. */
bool platform_heap_is_low(void)
{
    return false;
}

void platform_random(void *buffer, size_t size)
{
    if (getrandom(buffer, size, 0) != (ssize_t)size) {
        abort();
    }
}

/* The chip's heap less what this process has allocated since the first call, at which the server is up. */
size_t platform_free_heap(void)
{
    static size_t at_first_call;
    size_t in_use = mallinfo2().uordblks;

    if (at_first_call == 0) {
        at_first_call = in_use;
    }
    size_t grown = in_use > at_first_call ? in_use - at_first_call : 0;
    return grown < CHIP_HEAP_SIZE ? CHIP_HEAP_SIZE - grown : 0;
}

void *platform_retained(void)
{
    void *memory = mmap(NULL, RTC_MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, environment.rtc_fd, 0);

    if (memory == MAP_FAILED) {
        perror("RIG_RTC_FD");
        exit(2);
    }
    /* As RTC_DATA_ATTR: the bootloader loads it anew after every reset but deep sleep's. */
    if (environment.reset_reason != PLATFORM_RESET_DEEP_SLEEP) {
        memset(memory, 0, RETAINED_SIZE);
    }
    return memory;
}

bool platform_nvs_string(const char *name_space, const char *key, char *value, size_t size)
{
    size_t length;

    if (!nvs_get(name_space, key, "str", (uint8_t *)value, size - 1, &length)) {
        return false;
    }
    value[length] = '\0';
    return true;
}

bool platform_nvs_blob(const char *name_space, const char *key, uint8_t *value, size_t size, size_t *length)
{
    return nvs_get(name_space, key, "blob", value, size, length);
}

static void pass_time(uint32_t duration_ms)
{
    const struct timespec duration = {.tv_sec = duration_ms / 1000, .tv_nsec = duration_ms % 1000 * 1000000L};

    nanosleep(&duration, NULL);
}

void platform_network_start(const char *ssid, const char *passphrase, platform_network_t *network)
{
    (void)ssid;
    (void)passphrase;
    chip_report(chip_now_ns(), "state wifi_connect");
    pass_time(WIFI_CONNECT_MS);
    radio_lose_received();
    chip_report(chip_now_ns(), "state wifi_idle");
    snprintf(network->address, sizeof(network->address), "%s", environment.address);
    snprintf(network->listen_address, sizeof(network->listen_address), "%s", environment.address);
}

void platform_network_stop(void)
{
    chip_report(chip_now_ns(), "state cpu");
}

void platform_watchdog_start(uint32_t timeout_ms)
{
    watchdog_ms = timeout_ms;
    platform_watchdog_feed();
}

void platform_watchdog_feed(void)
{
    chip_report(chip_now_ns(), "wdt %lu", (unsigned long)watchdog_ms);
}

void platform_watchdog_stop(void)
{
    chip_report(chip_now_ns(), "wdt 0");
}

void platform_wait(uint32_t duration_ms)
{
    pass_time(duration_ms);
}

void platform_light_sleep(uint32_t duration_ms)
{
    fflush(stdout);
    chip_report(chip_now_ns(), "state light_sleep");
    pass_time(duration_ms);
    chip_report(chip_now_ns(), "state cpu");
    wake_cause = PLATFORM_WAKE_TIMER;
}

void platform_deep_sleep(uint32_t duration_ms)
{
    fflush(stdout);
    chip_report(chip_now_ns(), "sleep %lu", (unsigned long)duration_ms);
    exit(0); /* not _exit: a sanitized build looks for leaks now */
}

void platform_halt(void)
{
    for (;;) {
        pause();
    }
}

/* The console's receive line. It closes when the board goes, however that happens. */
static void *read_console(void *unused)
{
    char bytes[256];

    (void)unused;
    while (read(STDIN_FILENO, bytes, sizeof(bytes)) > 0) {
    }
    _exit(0);
}

static void live_with_board(void)
{
    pthread_t reader;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (pthread_create(&reader, NULL, read_console, NULL) != 0) {
        perror("pthread_create");
        exit(2);
    }
}

int main(void)
{
    start_ns = chip_now_ns();
    setvbuf(stdout, NULL, _IOLBF, 0);
    environment_read();
    wake_cause = environment.wake_cause;
    live_with_board();
    nvs_read(environment.nvs_fd);
    chip_report(start_ns, "state cpu");
    app_run();
}
