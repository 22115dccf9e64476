/* AES-128-GCM of the payload profile, by mbedTLS and the chip's AES accelerator. */
#include "mbedtls/cipher.h"
#include "mbedtls/gcm.h"
#include "platform.h"

static bool set_key(mbedtls_gcm_context *gcm, const uint8_t *key)
{
    mbedtls_gcm_init(gcm);
    return mbedtls_gcm_setkey(gcm, MBEDTLS_CIPHER_ID_AES, key, PLATFORM_AES_KEY * 8) == 0;
}

bool platform_aes_gcm_encrypt(const uint8_t key[PLATFORM_AES_KEY], const uint8_t nonce[PLATFORM_GCM_NONCE],
                              const uint8_t *plain, size_t length, uint8_t *cipher, uint8_t tag[PLATFORM_GCM_TAG])
{
    mbedtls_gcm_context gcm;
    bool done = set_key(&gcm, key) &&
                mbedtls_gcm_crypt_and_tag(&gcm, MBEDTLS_GCM_ENCRYPT, length, nonce, PLATFORM_GCM_NONCE, NULL, 0, plain,
                                          cipher, PLATFORM_GCM_TAG, tag) == 0;

    mbedtls_gcm_free(&gcm);
    return done;
}

bool platform_aes_gcm_decrypt(const uint8_t key[PLATFORM_AES_KEY], const uint8_t nonce[PLATFORM_GCM_NONCE],
                              const uint8_t *cipher, size_t length, const uint8_t tag[PLATFORM_GCM_TAG], uint8_t *plain)
{
    mbedtls_gcm_context gcm;
    bool done = set_key(&gcm, key) && mbedtls_gcm_auth_decrypt(&gcm, length, nonce, PLATFORM_GCM_NONCE, NULL, 0, tag,
                                                               PLATFORM_GCM_TAG, cipher, plain) == 0;

    mbedtls_gcm_free(&gcm);
    return done;
}
