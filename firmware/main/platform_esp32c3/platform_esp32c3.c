/* The platform of the real chip: ESP32-C3 under ESP-IDF 5.3 or later. */
#include "platform.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "app.h"
#include "driver/gpio.h"
#include "esp_attr.h"
#include "esp_err.h"
#include "esp_log.h"
#include "esp_sleep.h"
#include "esp_system.h"
#include "esp_timer.h"
#include "freertos/FreeRTOS.h"
#include "freertos/task.h"
#include "nvs_flash.h"
#include "sdkconfig.h"
#include "wifi.h"

#define RETAINED_SIZE 64
/* The last datagrams, the close_notify alerts, are in the driver's queue when the server returns. */
#define RADIO_DRAIN_MS 20

static RTC_DATA_ATTR uint32_t retained[RETAINED_SIZE / sizeof(uint32_t)];

uint64_t platform_time_us(void)
{
    return (uint64_t)esp_timer_get_time();
}

uint64_t platform_trigger(bool high)
{
    gpio_set_level(CONFIG_TRIGGER_GPIO, high);
    return platform_time_us();
}

void platform_log(char level, const char *tag, const char *format, ...)
{
    const esp_log_level_t esp_level = level == 'E' ? ESP_LOG_ERROR : level == 'W' ? ESP_LOG_WARN : ESP_LOG_INFO;
    char text[192];
    va_list values;

    va_start(values, format);
    vsnprintf(text, sizeof(text), format, values);
    va_end(values);
    ESP_LOG_LEVEL(esp_level, tag, "%s", text);
}

int platform_reset_reason(void)
{
    return (int)esp_reset_reason();
}

size_t platform_free_heap(void)
{
    return esp_get_free_heap_size();
}

void *platform_retained(void)
{
    return retained;
}

void platform_network_start(const char *ssid, const char *passphrase, platform_network_t *network)
{
    wifi_join(ssid, passphrase, network);
}

void platform_network_stop(void)
{
    vTaskDelay(pdMS_TO_TICKS(RADIO_DRAIN_MS));
    wifi_leave();
}

void platform_deep_sleep(uint32_t duration_ms)
{
    fflush(stdout);
    fsync(fileno(stdout));
    gpio_hold_en(CONFIG_TRIGGER_GPIO);
    gpio_deep_sleep_hold_en();
    esp_deep_sleep((uint64_t)duration_ms * 1000);
}

void platform_watchdog_feed(void)
{
}

void platform_halt(void)
{
    for (;;) {
        vTaskDelay(portMAX_DELAY);
    }
}

/* Low before the hold of the last sleep ends, so that waking makes no edge of its own. */
static void trigger_init(void)
{
    const gpio_config_t output = {
        .pin_bit_mask = 1ULL << CONFIG_TRIGGER_GPIO,
        .mode = GPIO_MODE_OUTPUT,
    };

    gpio_set_level(CONFIG_TRIGGER_GPIO, 0);
    ESP_ERROR_CHECK(gpio_config(&output));
    gpio_hold_dis(CONFIG_TRIGGER_GPIO);
    gpio_deep_sleep_hold_dis();
}

void app_main(void)
{
    trigger_init();
    /* No erase when it fails: that would delete the board's credentials. A blank partition is formatted. */
    ESP_ERROR_CHECK(nvs_flash_init());
    ESP_ERROR_CHECK(nvs_flash_init_partition("creds"));
    app_run();
}
