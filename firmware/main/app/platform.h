/* What the application needs of the chip it runs on.
 *
 * Two implementations: main/platform_esp32c3 (ESP-IDF) and host (the virtual bench). Nothing in main/app may include
 * an ESP-IDF header; sdkconfig.h holds plain numbers and exists in both builds. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* esp_reset_reason_t's numbers; only those that the application tells apart. */
enum {
    PLATFORM_RESET_POWER_ON = 1,
    PLATFORM_RESET_SOFTWARE = 3,
    PLATFORM_RESET_PANIC = 4,
    PLATFORM_RESET_TASK_WATCHDOG = 6,
    PLATFORM_RESET_DEEP_SLEEP = 8,
    PLATFORM_RESET_BROWNOUT = 9,
};

/* esp_sleep_source_t's numbers; only those that the application tells apart. */
enum {
    PLATFORM_WAKE_NONE = 0,
    PLATFORM_WAKE_TIMER = 4,
    PLATFORM_WAKE_GPIO = 7,
};

typedef struct {
    char address[16];        /* IPv4, dotted, as DHCP gave it */
    char listen_address[16]; /* the address that a server binds to */
} platform_network_t;

/* Microseconds since the application started; light sleep counts. */
uint64_t platform_time_us(void);

/* Drive the trigger line; returns the instant of the edge as platform_time_us() counts. */
uint64_t platform_trigger(bool high);

/* One console line in ESP-IDF's log format. level is 'E', 'W' or 'I'. */
void platform_log(char level, const char *tag, const char *format, ...) __attribute__((format(printf, 3, 4)));

int platform_reset_reason(void);

/* What ended the last sleep, deep or light; PLATFORM_WAKE_NONE if there was none since the power came on. */
int platform_wake_cause(void);

size_t platform_free_heap(void);

/* So little is free that nothing new should be begun. */
bool platform_heap_is_low(void);

/* Random numbers of the hardware, good for keys and nonces. */
void platform_random(void *buffer, size_t size);

/* Memory that outlives deep sleep and nothing else: zero after every other reset. At most 64 bytes. */
void *platform_retained(void);

/* Read a value of non-volatile storage. False if there is none, if it has another type, or if it does not fit.
 * A string is NUL terminated within size; a blob's length goes to *length. */
bool platform_nvs_string(const char *name_space, const char *key, char *value, size_t size);
bool platform_nvs_blob(const char *name_space, const char *key, uint8_t *value, size_t size, size_t *length);

/* Join the network; returns when there is an address, however long that takes. Ethernet has no use for the names.
 * Sockets outlive a stop; what is sent to the board while the radio is off is lost. */
void platform_network_start(const char *ssid, const char *passphrase, platform_network_t *network);
void platform_network_stop(void);

/* The task watchdog: from start to stop the calling task must feed it within the time, else the chip resets. */
void platform_watchdog_start(uint32_t timeout_ms);
void platform_watchdog_feed(void);
void platform_watchdog_stop(void);

/* Do nothing; the processor stays up. */
void platform_wait(uint32_t duration_ms);

/* Light sleep: RAM is kept and the trigger line held. Stop network and watchdog before. Returns after the wake. */
void platform_light_sleep(uint32_t duration_ms);

/* Trigger line held, then deep sleep; the next thing to run is the bootloader. */
void platform_deep_sleep(uint32_t duration_ms) __attribute__((noreturn));

/* Stay up and do nothing more. */
void platform_halt(void) __attribute__((noreturn));

#define PLATFORM_AES_KEY 16
#define PLATFORM_GCM_NONCE 12
#define PLATFORM_GCM_TAG 16

/* AES-128-GCM without additional data; plain and cipher may be the same. Only with CONFIG_PAYLOAD_ENCRYPTION.
 * False if it could not be done, and from decrypt also if the tag is wrong: plain then holds nothing of use. */
bool platform_aes_gcm_encrypt(const uint8_t key[PLATFORM_AES_KEY], const uint8_t nonce[PLATFORM_GCM_NONCE],
                              const uint8_t *plain, size_t length, uint8_t *cipher, uint8_t tag[PLATFORM_GCM_TAG]);
bool platform_aes_gcm_decrypt(const uint8_t key[PLATFORM_AES_KEY], const uint8_t nonce[PLATFORM_GCM_NONCE],
                              const uint8_t *cipher, size_t length, const uint8_t tag[PLATFORM_GCM_TAG],
                              uint8_t *plain);
