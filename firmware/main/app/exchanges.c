#include "exchanges.h"

static exchange_t table[EXCHANGES_MAX];
static size_t next;

const exchange_t *exchanges_find(uint32_t peer, uint16_t message_id, uint64_t now_us)
{
    for (size_t i = 0; i < EXCHANGES_MAX; i++) {
        const exchange_t *exchange = &table[i];

        if (exchange->peer == peer && exchange->message_id == message_id &&
            now_us - exchange->time_us < EXCHANGE_LIFETIME_US) {
            return exchange;
        }
    }
    return NULL;
}

exchange_t *exchanges_add(uint32_t peer, uint16_t message_id, uint64_t now_us)
{
    exchange_t *exchange = &table[next];

    next = (next + 1) % EXCHANGES_MAX;
    *exchange = (exchange_t){.peer = peer, .message_id = message_id, .time_us = now_us};
    return exchange;
}
