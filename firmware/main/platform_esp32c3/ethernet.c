/* Ethernet of the emulator: OpenCores MAC and a DP83848, as QEMU has them. No real chip has this MAC. */
#include <stdio.h>

#include "esp_err.h"
#include "esp_eth.h"
#include "esp_event.h"
#include "esp_netif.h"
#include "freertos/FreeRTOS.h"
#include "freertos/event_groups.h"
#include "platform.h"

#define CONNECTED_BIT BIT0
/* QEMU's PHY: its address, and it is quick. */
#define PHY_ADDRESS 1
#define PHY_AUTONEGOTIATION_MS 100

static EventGroupHandle_t events;
static esp_eth_handle_t driver;
static char address[16];

static void on_address(void *arg, esp_event_base_t base, int32_t id, void *data)
{
    const ip_event_got_ip_t *event = data;

    (void)arg;
    (void)base;
    (void)id;
    snprintf(address, sizeof(address), IPSTR, IP2STR(&event->ip_info.ip));
    xEventGroupSetBits(events, CONNECTED_BIT);
}

static void install_driver(void)
{
    eth_mac_config_t mac_config = ETH_MAC_DEFAULT_CONFIG();
    eth_phy_config_t phy_config = ETH_PHY_DEFAULT_CONFIG();

    phy_config.phy_addr = PHY_ADDRESS;
    phy_config.reset_gpio_num = -1;
    phy_config.autonego_timeout_ms = PHY_AUTONEGOTIATION_MS;
    esp_eth_mac_t *mac = esp_eth_mac_new_openeth(&mac_config);
    esp_eth_phy_t *phy = esp_eth_phy_new_dp83848(&phy_config);
    ESP_ERROR_CHECK(mac == NULL || phy == NULL ? ESP_ERR_NO_MEM : ESP_OK);
    const esp_eth_config_t config = ETH_DEFAULT_CONFIG(mac, phy);
    ESP_ERROR_CHECK(esp_eth_driver_install(&config, &driver));
}

static void attach_interface(void)
{
    const esp_netif_config_t config = ESP_NETIF_DEFAULT_ETH();
    esp_netif_t *interface = esp_netif_new(&config);
    esp_eth_netif_glue_handle_t glue = esp_eth_new_netif_glue(driver);

    ESP_ERROR_CHECK(interface == NULL || glue == NULL ? ESP_ERR_NO_MEM : ESP_OK);
    ESP_ERROR_CHECK(esp_netif_attach(interface, glue));
    ESP_ERROR_CHECK(esp_event_handler_instance_register(IP_EVENT, IP_EVENT_ETH_GOT_IP, on_address, NULL, NULL));
}

static void prepare(void)
{
    events = xEventGroupCreate();
    ESP_ERROR_CHECK(events == NULL ? ESP_ERR_NO_MEM : ESP_OK);
    ESP_ERROR_CHECK(esp_netif_init());
    ESP_ERROR_CHECK(esp_event_loop_create_default());
    install_driver();
    attach_interface();
}

void platform_network_start(const char *ssid, const char *passphrase, platform_network_t *network)
{
    (void)ssid;
    (void)passphrase;
    if (events == NULL) {
        prepare();
    }
    xEventGroupClearBits(events, CONNECTED_BIT);
    ESP_ERROR_CHECK(esp_eth_start(driver));
    xEventGroupWaitBits(events, CONNECTED_BIT, pdFALSE, pdTRUE, portMAX_DELAY);
    snprintf(network->address, sizeof(network->address), "%s", address);
    /* Any address: DHCP may give another one later. */
    snprintf(network->listen_address, sizeof(network->listen_address), "0.0.0.0");
}

void platform_network_stop(void)
{
    ESP_ERROR_CHECK(esp_eth_stop(driver));
}
