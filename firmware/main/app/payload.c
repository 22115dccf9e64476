#include "payload.h"

#ifdef CONFIG_PAYLOAD_ENCRYPTION

#include <string.h>

static uint8_t psk[PLATFORM_AES_KEY];

void payload_set_key(const uint8_t key[PLATFORM_AES_KEY])
{
    memcpy(psk, key, sizeof(psk));
}

bool payload_seal(uint8_t *sealed, size_t length)
{
    uint8_t *text = sealed + PAYLOAD_HEAD;

    platform_random(sealed, PLATFORM_GCM_NONCE);
    return platform_aes_gcm_encrypt(psk, sealed, text, length, text, text + length);
}

bool payload_open(const uint8_t *sealed, size_t length, uint8_t *plain)
{
    if (length < PAYLOAD_OVERHEAD) {
        return false;
    }
    const uint8_t *text = sealed + PAYLOAD_HEAD;
    size_t text_length = length - PAYLOAD_OVERHEAD;

    return platform_aes_gcm_decrypt(psk, sealed, text, text_length, text + text_length, plain);
}

#endif
