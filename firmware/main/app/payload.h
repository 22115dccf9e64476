/* The payload-encryption profile (CONFIG_PAYLOAD_ENCRYPTION): plain CoAP, and AES-128-GCM on the payloads alone.
 *
 * It exists to show what that leaks, and is no way to protect a device: method, path, query, options, lengths and
 * timing are in the clear, anybody may send requests without a payload, and a recorded request works again. The key is
 * the board's PSK.
 *
 * A sealed payload is nonce || ciphertext || tag, the nonce random. It is sealed as a whole and then cut into blocks. */
#pragma once

#include "sdkconfig.h"

#ifdef CONFIG_PAYLOAD_ENCRYPTION

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "platform.h"

#define PAYLOAD_HEAD PLATFORM_GCM_NONCE
#define PAYLOAD_OVERHEAD (PLATFORM_GCM_NONCE + PLATFORM_GCM_TAG)

void payload_set_key(const uint8_t key[PLATFORM_AES_KEY]);

/* In place: the plain text of that length stands PAYLOAD_HEAD bytes into sealed, which has room for
 * length + PAYLOAD_OVERHEAD bytes. False if the platform has no memory for it. */
bool payload_seal(uint8_t *sealed, size_t length);

/* False if it is too short or was not sealed with our key. plain has room for length - PAYLOAD_OVERHEAD bytes. */
bool payload_open(const uint8_t *sealed, size_t length, uint8_t *plain);

#else

#define PAYLOAD_HEAD 0
#define PAYLOAD_OVERHEAD 0

#endif
