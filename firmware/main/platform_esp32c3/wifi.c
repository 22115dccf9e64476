/* Wi-Fi station. Lost connections come back by themselves, with a growing pause between attempts. */
#include <stdio.h>
#include <string.h>

#include "esp_err.h"
#include "esp_event.h"
#include "esp_log.h"
#include "esp_netif.h"
#include "esp_timer.h"
#include "esp_wifi.h"
#include "freertos/FreeRTOS.h"
#include "freertos/event_groups.h"
#include "freertos/task.h"
#include "platform.h"

#define CONNECTED_BIT BIT0
#define RETRY_FIRST_US 500000u
#define RETRY_LAST_US 32000000u
/* The last datagrams, close_notify alerts among them, are in the driver's queue when the application stops. */
#define RADIO_DRAIN_MS 20

static const char *const TAG = "wifi_station";

static EventGroupHandle_t events;
static esp_timer_handle_t retry_timer;
static uint64_t retry_us = RETRY_FIRST_US;
static volatile bool leaving;
static char address[16];

static void connect_again(void *arg)
{
    (void)arg;
    esp_wifi_connect();
}

static void on_disconnected(const wifi_event_sta_disconnected_t *event)
{
    xEventGroupClearBits(events, CONNECTED_BIT);
    if (leaving) {
        return;
    }
    ESP_LOGW(TAG, "disconnected, reason %d; next attempt in %u ms", event->reason, (unsigned)(retry_us / 1000));
    /* Fails only if an attempt is waiting already. */
    (void)esp_timer_start_once(retry_timer, retry_us);
    retry_us = retry_us * 2 > RETRY_LAST_US ? RETRY_LAST_US : retry_us * 2;
}

static void on_wifi(void *arg, esp_event_base_t base, int32_t id, void *data)
{
    (void)arg;
    (void)base;
    if (id == WIFI_EVENT_STA_START) {
        esp_wifi_connect();
    } else if (id == WIFI_EVENT_STA_DISCONNECTED) {
        on_disconnected(data);
    }
}

static void on_address(void *arg, esp_event_base_t base, int32_t id, void *data)
{
    const ip_event_got_ip_t *event = data;

    (void)arg;
    (void)base;
    (void)id;
    snprintf(address, sizeof(address), IPSTR, IP2STR(&event->ip_info.ip));
    retry_us = RETRY_FIRST_US;
    xEventGroupSetBits(events, CONNECTED_BIT);
}

static void prepare(void)
{
    const wifi_init_config_t init = WIFI_INIT_CONFIG_DEFAULT();
    const esp_timer_create_args_t timer = {.callback = connect_again, .name = "wifi_retry"};

    events = xEventGroupCreate();
    ESP_ERROR_CHECK(events == NULL ? ESP_ERR_NO_MEM : ESP_OK);
    ESP_ERROR_CHECK(esp_timer_create(&timer, &retry_timer));
    ESP_ERROR_CHECK(esp_netif_init());
    ESP_ERROR_CHECK(esp_event_loop_create_default());
    ESP_ERROR_CHECK(esp_netif_create_default_wifi_sta() == NULL ? ESP_ERR_NO_MEM : ESP_OK);
    ESP_ERROR_CHECK(esp_wifi_init(&init));
    ESP_ERROR_CHECK(esp_event_handler_instance_register(WIFI_EVENT, ESP_EVENT_ANY_ID, on_wifi, NULL, NULL));
    ESP_ERROR_CHECK(esp_event_handler_instance_register(IP_EVENT, IP_EVENT_STA_GOT_IP, on_address, NULL, NULL));
}

static void configure(const char *ssid, const char *passphrase)
{
    wifi_config_t config = {0};

    /* Both fields may be full, without a NUL at the end; the sources are no longer than the fields. */
    memcpy(config.sta.ssid, ssid, strnlen(ssid, sizeof(config.sta.ssid)));
    memcpy(config.sta.password, passphrase, strnlen(passphrase, sizeof(config.sta.password)));
    config.sta.threshold.authmode = passphrase[0] == '\0' ? WIFI_AUTH_OPEN : WIFI_AUTH_WPA2_PSK;
    /* The credentials are in NVS already, in a place of their own. */
    ESP_ERROR_CHECK(esp_wifi_set_storage(WIFI_STORAGE_RAM));
    ESP_ERROR_CHECK(esp_wifi_set_mode(WIFI_MODE_STA));
    ESP_ERROR_CHECK(esp_wifi_set_config(WIFI_IF_STA, &config));
}

void platform_network_start(const char *ssid, const char *passphrase, platform_network_t *network)
{
    if (events == NULL) {
        prepare();
        configure(ssid, passphrase);
    }
    leaving = false;
    retry_us = RETRY_FIRST_US;
    xEventGroupClearBits(events, CONNECTED_BIT);
    ESP_ERROR_CHECK(esp_wifi_start());
    ESP_ERROR_CHECK(esp_wifi_set_ps(WIFI_PS_MIN_MODEM));
    xEventGroupWaitBits(events, CONNECTED_BIT, pdFALSE, pdTRUE, portMAX_DELAY);
    snprintf(network->address, sizeof(network->address), "%s", address);
    /* Any address: DHCP may give another one later. */
    snprintf(network->listen_address, sizeof(network->listen_address), "0.0.0.0");
}

void platform_network_stop(void)
{
    vTaskDelay(pdMS_TO_TICKS(RADIO_DRAIN_MS));
    leaving = true;
    /* Fails only if no attempt is waiting. */
    (void)esp_timer_stop(retry_timer);
    ESP_ERROR_CHECK(esp_wifi_stop());
}
