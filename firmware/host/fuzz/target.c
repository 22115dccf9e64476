/* One input is what one client sends: messages, each with two bytes before it. Their upper four bits tell how much time
 * passes first (0: none, n: 4^n ms), the other twelve how long the message is.
 *
 * They go through the real libcoap, over a UDP socket on the loopback, to the real handlers. Each input has a server of
 * its own. At the end the device must answer another client as ever, and its settings must be within their ranges. */
#include <arpa/inet.h>
#include <coap3/coap.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "resources.h"
#include "surroundings.h"

#define ROUNDS 2 /* one to receive, one for the notifications that this brought about */

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct sockaddr_in address;

static void demand(bool good, const char *what)
{
    if (!good) {
        fprintf(stderr, "fuzz: %s\n", what);
        abort();
    }
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    coap_startup();
    coap_set_log_level(0);
    /* An address of this process alone. */
    unsigned process = (unsigned)getpid();
    address.sin_family = AF_INET;
    address.sin_port = htons(COAP_DEFAULT_PORT);
    address.sin_addr.s_addr = htonl(0x7f000001u | (process & 0x3fffff) << 2);
    return 0;
}

static coap_context_t *start(app_state_t *state)
{
    coap_address_t listen;
    coap_context_t *context = coap_new_context(NULL);

    demand(context != NULL, "no context");
    coap_address_init(&listen);
    listen.size = sizeof(listen.addr.sin);
    listen.addr.sin = address;
    demand(coap_new_endpoint(context, &listen, COAP_PROTO_UDP) != NULL, "no endpoint");
    resources_add(context, state);
    return context;
}

static int connect_client(void)
{
    int client = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);

    demand(client >= 0 && connect(client, (const struct sockaddr *)&address, sizeof(address)) == 0, "no client");
    return client;
}

static void let_it_work(coap_context_t *context)
{
    for (int round = 0; round < ROUNDS; round++) {
        demand(coap_io_process(context, COAP_IO_NO_WAIT) >= 0, "coap_io_process");
        resources_request_sent();
        resources_tick();
    }
}

static void drain(int client)
{
    uint8_t answer[1500];
    ssize_t length;

    while ((length = recv(client, answer, sizeof(answer), 0)) >= 0) {
        demand(length >= 4 && answer[0] >> 6 == 1, "an answer that is no CoAP message");
    }
}

static void send_all(coap_context_t *context, int client, const uint8_t *data, size_t size)
{
    while (size >= 2) {
        unsigned head = (unsigned)data[0] << 8 | data[1];
        size_t length = head & 0xfff;

        data += 2;
        size -= 2;
        if (length > size) {
            length = size;
        }
        if (head >> 12 != 0) {
            surroundings_advance_ms(UINT64_C(1) << (head >> 12) * 2);
        }
        (void)!send(client, data, length, 0);
        let_it_work(context);
        drain(client);
        data += length;
        size -= length;
    }
}

static void demand_life(coap_context_t *context)
{
    static const uint8_t get_light[] = "\x40\x01\x12\x34\xb5light";
    uint8_t answer[64];
    int client = connect_client();

    (void)!send(client, get_light, sizeof(get_light) - 1, 0);
    let_it_work(context);
    ssize_t length = recv(client, answer, sizeof(answer), 0);
    demand(length >= 8 && memcmp(answer, "\x60\x45\x12\x34", 4) == 0, "no answer to GET /light");
    close(client);
}

static void demand_good_config(const config_t *config)
{
    uint8_t bytes[256];
    writer_t writer = {.bytes = bytes, .size = sizeof(bytes)};
    config_t again = *config;

    config_print(config, &writer);
    demand(!writer.overflow && config_parse(writer.bytes, writer.length, &again, &writer), "/config holds what it refuses");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    app_retained_t retained = {.boot_count = 1};
    app_state_t state = {.retained = &retained, .reset_reason = 1};

    config_defaults(&state.config);
    coap_context_t *context = start(&state);
    int client = connect_client();
    send_all(context, client, data, size);
    demand_life(context);
    demand_good_config(&state.config);
    close(client);
    resources_drop_observers();
    coap_free_context(context);
    return 0;
}
