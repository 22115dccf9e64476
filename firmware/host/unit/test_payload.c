#include <string.h>

#include "payload.h"
#include "unit.h"

#ifdef CONFIG_PAYLOAD_ENCRYPTION

#define LENGTH 37

static uint8_t sealed[LENGTH + PAYLOAD_OVERHEAD];

static void seal(uint8_t *into, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        into[PAYLOAD_HEAD + i] = (uint8_t)i;
    }
    CHECK(payload_seal(into, length));
}

static void what_is_sealed_opens(void)
{
    for (size_t length = 0; length <= LENGTH; length++) {
        uint8_t *plain = malloc(length > 0 ? length : 1);

        seal(sealed, length);
        CHECK(payload_open(sealed, length + PAYLOAD_OVERHEAD, plain));
        for (size_t i = 0; i < length; i++) {
            CHECK(plain[i] == i);
        }
        free(plain);
    }
}

static void a_changed_bit_is_found(void)
{
    uint8_t plain[LENGTH];

    seal(sealed, LENGTH);
    for (size_t bit = 0; bit < 8 * sizeof(sealed); bit++) {
        sealed[bit / 8] ^= (uint8_t)(1u << bit % 8);
        CHECK(!payload_open(sealed, sizeof(sealed), plain));
        sealed[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    CHECK(payload_open(sealed, sizeof(sealed), plain));
}

static void a_shorter_one_is_refused(void)
{
    uint8_t plain[LENGTH];

    seal(sealed, LENGTH);
    for (size_t length = 0; length < sizeof(sealed); length++) {
        CHECK(!payload_open(sealed, length, plain));
    }
}

static void equal_texts_look_different(void)
{
    uint8_t other[sizeof(sealed)];

    seal(sealed, LENGTH);
    seal(other, LENGTH);
    CHECK(memcmp(sealed, other, PAYLOAD_HEAD) != 0);
    CHECK(memcmp(sealed + PAYLOAD_HEAD, other + PAYLOAD_HEAD, LENGTH) != 0);
}

static void another_key_opens_nothing(void)
{
    uint8_t plain[LENGTH];

    seal(sealed, LENGTH);
    payload_set_key((const uint8_t *)"0123456789abcdeF");
    CHECK(!payload_open(sealed, sizeof(sealed), plain));
}

void test_payload(void)
{
    payload_set_key((const uint8_t *)"0123456789abcdef");
    what_is_sealed_opens();
    a_changed_bit_is_found();
    a_shorter_one_is_refused();
    equal_texts_look_different();
    another_key_opens_nothing();
}

#endif
