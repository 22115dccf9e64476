/* AES-128-GCM of the payload profile, by libcrypto. */
#include <limits.h>
#include <openssl/evp.h>

#include "platform.h"

bool platform_aes_gcm_encrypt(const uint8_t key[PLATFORM_AES_KEY], const uint8_t nonce[PLATFORM_GCM_NONCE],
                              const uint8_t *plain, size_t length, uint8_t *cipher, uint8_t tag[PLATFORM_GCM_TAG])
{
    EVP_CIPHER_CTX *gcm = EVP_CIPHER_CTX_new();
    int written;
    bool done = gcm != NULL && length <= INT_MAX && EVP_EncryptInit_ex(gcm, EVP_aes_128_gcm(), NULL, key, nonce) == 1 &&
                EVP_EncryptUpdate(gcm, cipher, &written, plain, (int)length) == 1 &&
                EVP_EncryptFinal_ex(gcm, cipher + length, &written) == 1 &&
                EVP_CIPHER_CTX_ctrl(gcm, EVP_CTRL_GCM_GET_TAG, PLATFORM_GCM_TAG, tag) == 1;

    EVP_CIPHER_CTX_free(gcm);
    return done;
}

bool platform_aes_gcm_decrypt(const uint8_t key[PLATFORM_AES_KEY], const uint8_t nonce[PLATFORM_GCM_NONCE],
                              const uint8_t *cipher, size_t length, const uint8_t tag[PLATFORM_GCM_TAG], uint8_t *plain)
{
    EVP_CIPHER_CTX *gcm = EVP_CIPHER_CTX_new();
    int written;
    bool done = gcm != NULL && length <= INT_MAX && EVP_DecryptInit_ex(gcm, EVP_aes_128_gcm(), NULL, key, nonce) == 1 &&
                EVP_DecryptUpdate(gcm, plain, &written, cipher, (int)length) == 1 &&
                EVP_CIPHER_CTX_ctrl(gcm, EVP_CTRL_GCM_SET_TAG, PLATFORM_GCM_TAG, (void *)tag) == 1 &&
                EVP_DecryptFinal_ex(gcm, plain + length, &written) == 1;

    EVP_CIPHER_CTX_free(gcm);
    return done;
}
