/* AES-128-GCM of the host: libcrypto, for the payload-encryption profile alone. */
#include "sdkconfig.h"

#ifdef CONFIG_PAYLOAD_ENCRYPTION

#include <openssl/evp.h>

#include "platform.h"

bool platform_aes_gcm_encrypt(const uint8_t key[PLATFORM_AES_KEY], const uint8_t nonce[PLATFORM_GCM_NONCE],
                              const uint8_t *plain, size_t length, uint8_t *cipher, uint8_t tag[PLATFORM_GCM_TAG])
{
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    int written;
    bool done = context != NULL && EVP_EncryptInit_ex(context, EVP_aes_128_gcm(), NULL, key, nonce) == 1 &&
                EVP_EncryptUpdate(context, cipher, &written, plain, (int)length) == 1 &&
                EVP_EncryptFinal_ex(context, cipher + length, &written) == 1 &&
                EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, PLATFORM_GCM_TAG, tag) == 1;

    EVP_CIPHER_CTX_free(context);
    return done;
}

bool platform_aes_gcm_decrypt(const uint8_t key[PLATFORM_AES_KEY], const uint8_t nonce[PLATFORM_GCM_NONCE],
                              const uint8_t *cipher, size_t length, const uint8_t tag[PLATFORM_GCM_TAG], uint8_t *plain)
{
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    int written;
    bool done = context != NULL && EVP_DecryptInit_ex(context, EVP_aes_128_gcm(), NULL, key, nonce) == 1 &&
                EVP_DecryptUpdate(context, plain, &written, cipher, (int)length) == 1 &&
                EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, PLATFORM_GCM_TAG, (void *)tag) == 1 &&
                EVP_DecryptFinal_ex(context, plain + length, &written) == 1;

    EVP_CIPHER_CTX_free(context);
    return done;
}

#endif
