#include "credentials.h"

#include <string.h>

#include "platform.h"
#include "sdkconfig.h"

static bool load_psk(credentials_t *credentials)
{
    if (!platform_nvs_string("coaps", "identity", credentials->identity, sizeof(credentials->identity)) ||
        !platform_nvs_blob("coaps", "psk", credentials->psk, sizeof(credentials->psk), &credentials->psk_length)) {
        platform_log('E', "app", "no credentials in NVS (namespace coaps: identity, psk); refusing to start");
        return false;
    }
    credentials->identity_length = strlen(credentials->identity);
    if (credentials->identity_length == 0) {
        platform_log('E', "app", "the identity in NVS is empty; refusing to start");
        return false;
    }
    if (credentials->psk_length < PSK_MIN) {
        platform_log('E', "app", "the psk in NVS has %zu bytes, at least %d are needed; refusing to start",
                     credentials->psk_length, PSK_MIN);
        return false;
    }
    return true;
}

#ifdef CONFIG_NETWORK_WIFI_STATION
static bool load_network(credentials_t *credentials)
{
    if (!platform_nvs_string("wifi", "ssid", credentials->ssid, sizeof(credentials->ssid)) ||
        !platform_nvs_string("wifi", "passphrase", credentials->passphrase, sizeof(credentials->passphrase))) {
        platform_log('E', "app", "no wireless network in NVS (namespace wifi: ssid, passphrase); refusing to start");
        return false;
    }
    return true;
}
#else
static bool load_network(credentials_t *credentials)
{
    (void)credentials;
    return true;
}
#endif

bool credentials_load(credentials_t *credentials)
{
    memset(credentials, 0, sizeof(*credentials));
    return load_psk(credentials) && load_network(credentials);
}

bool credentials_match_identity(const credentials_t *credentials, const uint8_t *identity, size_t length)
{
    /* The loop runs over the offered identity, whose length the peer knows anyway. */
    unsigned difference = length != credentials->identity_length;

    for (size_t i = 0; i < length; i++) {
        difference |= identity[i] ^ (uint8_t)credentials->identity[i % credentials->identity_length];
    }
    return difference == 0;
}
