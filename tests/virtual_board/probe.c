/* A small application for the virtual board: it says what the chip gave it, and does what it is told on its UART. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static int ram_counter;

static void report(const char *format, long argument)
{
    char message[96];
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    int length = sprintf(message, "%llu ", (unsigned long long)now.tv_sec * 1000000000ull + now.tv_nsec);
    length += sprintf(message + length, format, argument);
    if (write(atoi(getenv("RIG_CHIP_FD")), message, length) != length) {
        exit(3);
    }
}

static void print_nvs(void)
{
    static char text[65536];
    ssize_t length = pread(atoi(getenv("RIG_NVS_FD")), text, sizeof(text) - 1, 0);

    for (char *line = strtok(text, "\n"); length > 0 && line != NULL; line = strtok(NULL, "\n")) {
        printf("nvs %s\n", line);
    }
}

static void obey(const char *command)
{
    long number = 0;

    if (sscanf(command, "sleep %ld", &number) == 1) {
        report("sleep %ld", number);
        exit(0);
    } else if (strcmp(command, "restart") == 0) {
        report("restart", 0);
        exit(0);
    } else if (sscanf(command, "wdt %ld", &number) == 1) {
        report("wdt %ld", number);
    } else if (strcmp(command, "light sleep") == 0) {
        report("state light_sleep", 0);
    } else if (strcmp(command, "crash") == 0) {
        *(volatile int *)8 = 1;
    } else if (strcmp(command, "abort") == 0) {
        abort();
    } else if (strcmp(command, "network") == 0) {
        report("state wifi_connect", 0);
        report("gpio %ld 1", 4);
        report("state wifi_idle", 0);
        report("tx %ld", 100);
        report("gpio %ld 0", 4);
    } else if (sscanf(command, "say %ld", &number) == 1) {
        printf("said %ld\n", number);
    } else if (strcmp(command, "bytes") == 0) {
        fwrite("\xff\xc0\xff\xff end\n", 1, 9, stdout);
    }
}

int main(void)
{
    char command[256];
    uint32_t *rtc = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, atoi(getenv("RIG_RTC_FD")), 0);

    setvbuf(stdout, NULL, _IOLBF, 0);
    print_nvs();
    printf("wake=%s\n", getenv("RIG_WAKE_CAUSE"));
    printf("probe pid=%d reason=%s address=%s rtc=%u ram=%d\n", getpid(), getenv("RIG_RESET_REASON"),
           getenv("RIG_ADDRESS"), ++*rtc, ++ram_counter);
    while (fgets(command, sizeof(command), stdin) != NULL) {
        command[strcspn(command, "\r\n")] = '\0';
        obey(command);
    }
    return 0;
}
