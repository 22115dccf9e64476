#include "exchanges.h"
#include "unit.h"

static void add(uint32_t peer, uint16_t message_id, uint64_t now_us)
{
    exchanges_add(peer, message_id, now_us)->code = 0x44;
}

void test_exchanges(void)
{
    CHECK(exchanges_find(1, 0, 0) == NULL);

    add(1, 7, 1000);
    CHECK(exchanges_find(1, 7, 1000) != NULL);
    CHECK(exchanges_find(1, 7, 1000)->code == 0x44);
    CHECK(exchanges_find(1, 7, 1000)->length == 0);
    CHECK(exchanges_find(1, 8, 1000) == NULL);
    CHECK(exchanges_find(2, 7, 1000) == NULL); /* another session, also of the same client */

    CHECK(exchanges_find(1, 7, 1000 + EXCHANGE_LIFETIME_US - 1) != NULL);
    CHECK(exchanges_find(1, 7, 1000 + EXCHANGE_LIFETIME_US) == NULL);

    /* the oldest makes room */
    for (uint16_t message_id = 0; message_id < EXCHANGES_MAX; message_id++) {
        add(3, message_id, 2000);
        CHECK(exchanges_find(3, message_id, 2000) != NULL);
    }
    CHECK(exchanges_find(1, 7, 2000) == NULL);
    CHECK(exchanges_find(3, 0, 2000) != NULL);
    add(3, EXCHANGES_MAX, 2000);
    CHECK(exchanges_find(3, 0, 2000) == NULL);
    CHECK(exchanges_find(3, 1, 2000) != NULL);

    /* nothing of an earlier entry is left in its place */
    exchange_t *exchange = exchanges_add(4, 1, 3000);
    CHECK(exchange->code == 0 && exchange->length == 0 && !exchange->has_format);
}
