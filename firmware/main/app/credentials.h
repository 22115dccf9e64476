/* The board's own secrets, provisioned in NVS: one PSK identity with its key, and the wireless network, for which an
 * Ethernet build does not look. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* RFC 4279 section 5.3: identities to 128 octets, keys to 64. RFC 7925 section 4.2 uses 128-bit keys: no shorter ones. */
#define IDENTITY_MAX 128
#define PSK_MIN 16
#define PSK_MAX 64
#define SSID_MAX 32
#define PASSPHRASE_MAX 64

typedef struct {
    char identity[IDENTITY_MAX + 1];
    size_t identity_length;
    uint8_t psk[PSK_MAX];
    size_t psk_length;
    char ssid[SSID_MAX + 1];
    char passphrase[PASSPHRASE_MAX + 1];
} credentials_t;

/* False, with a line on the console that names what is missing, if the board cannot serve. */
bool credentials_load(credentials_t *credentials);

/* Compare in a time that depends on nothing secret. */
bool credentials_match_identity(const credentials_t *credentials, const uint8_t *identity, size_t length);
