/* The platform of the real chip: ESP32-C3 under ESP-IDF 5.3 or later. The network is in wifi.c or ethernet.c. */
#include "platform.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "app.h"
#include "driver/gpio.h"
#include "esp_attr.h"
#include "esp_bit_defs.h"
#include "esp_err.h"
#include "esp_log.h"
#include "esp_random.h"
#include "esp_sleep.h"
#include "esp_system.h"
#include "esp_task_wdt.h"
#include "esp_timer.h"
#include "freertos/FreeRTOS.h"
#include "freertos/task.h"
#include "nvs_flash.h"
#include "sdkconfig.h"

#define RETAINED_SIZE 64
/* For the network driver, which cannot go on without buffers, and for requests of the sessions that there are. */
#define HEAP_RESERVE (32 * 1024)

static const char *const TAG = "platform";

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

int platform_wake_cause(void)
{
    return (int)esp_sleep_get_wakeup_cause();
}

size_t platform_free_heap(void)
{
    return esp_get_free_heap_size();
}

bool platform_heap_is_low(void)
{
    return esp_get_free_heap_size() < HEAP_RESERVE;
}

void platform_random(void *buffer, size_t size)
{
    esp_fill_random(buffer, size);
}

void *platform_retained(void)
{
    return retained;
}

/* The idle task is watched too, as ESP-IDF sets it up: a task that never yields is a hang as well. */
void platform_watchdog_start(uint32_t timeout_ms)
{
    const esp_task_wdt_config_t config = {
        .timeout_ms = timeout_ms,
        .idle_core_mask = BIT(0),
        .trigger_panic = true,
    };

    ESP_ERROR_CHECK(esp_task_wdt_reconfigure(&config));
    ESP_ERROR_CHECK(esp_task_wdt_add(NULL));
}

void platform_watchdog_feed(void)
{
    ESP_ERROR_CHECK(esp_task_wdt_reset());
}

void platform_watchdog_stop(void)
{
    ESP_ERROR_CHECK(esp_task_wdt_delete(NULL));
}

/* Not pdMS_TO_TICKS, whose product may overflow within a day. */
void platform_wait(uint32_t duration_ms)
{
    vTaskDelay(duration_ms / portTICK_PERIOD_MS);
}

static void flush_console(void)
{
    fflush(stdout);
    fsync(fileno(stdout));
}

void platform_light_sleep(uint32_t duration_ms)
{
    flush_console();
    ESP_ERROR_CHECK(gpio_hold_en(CONFIG_TRIGGER_GPIO));
    ESP_ERROR_CHECK(esp_sleep_enable_timer_wakeup((uint64_t)duration_ms * 1000));
    esp_err_t result = esp_light_sleep_start();
    ESP_ERROR_CHECK(gpio_hold_dis(CONFIG_TRIGGER_GPIO));
    if (result != ESP_OK) {
        ESP_LOGW(TAG, "no light sleep: %s", esp_err_to_name(result));
    }
}

/* GPIO 0 to 5 are held by the RTC domain, each by itself; the others are held in deep sleep only all at once. */
void platform_deep_sleep(uint32_t duration_ms)
{
    flush_console();
    ESP_ERROR_CHECK(gpio_hold_en(CONFIG_TRIGGER_GPIO));
    if (CONFIG_TRIGGER_GPIO > GPIO_NUM_5) {
        gpio_deep_sleep_hold_en();
    }
    esp_deep_sleep((uint64_t)duration_ms * 1000);
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
    ESP_ERROR_CHECK(gpio_hold_dis(CONFIG_TRIGGER_GPIO));
    gpio_deep_sleep_hold_dis();
}

/* ESP-IDF's own partition, which holds nothing of value: what cannot be read is made anew. */
static void nvs_init(void)
{
    esp_err_t result = nvs_flash_init();

    if (result == ESP_ERR_NVS_NO_FREE_PAGES || result == ESP_ERR_NVS_NEW_VERSION_FOUND) {
        ESP_ERROR_CHECK(nvs_flash_erase());
        result = nvs_flash_init();
    }
    ESP_ERROR_CHECK(result);
}

/* Never erased here: that would delete the board's credentials. Without them the application tells and halts. */
static void credentials_init(void)
{
    esp_err_t result = nvs_flash_init_partition("creds");

    if (result != ESP_OK) {
        ESP_LOGE(TAG, "partition creds cannot be read: %s", esp_err_to_name(result));
    }
}

void app_main(void)
{
    trigger_init();
    nvs_init();
    credentials_init();
    app_run();
}
