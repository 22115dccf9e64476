/* A coaps server that knows one identity, for the tests of the coaps client.
 *
 *   identity_server ADDRESS IDENTITY KEY
 *
 * /light  GET, PUT, observable with CON notifications
 * /mirror GET, observable: the same value, other token
 * /plain  GET, not observable
 * /mute   GET is acknowledged and never answered
 *
 * Prints the port once it listens. Ends on SIGTERM, closing its sessions.
 */
#include <coap3/coap.h>
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static coap_bin_const_t key;
static coap_bin_const_t identity;
static coap_resource_t *light, *mirror;
static uint8_t value[64] = "off";
static size_t value_length = 3;
static volatile sig_atomic_t quit;

static void on_signal(int number) {
  (void)number;
  quit = 1;
}

static const coap_bin_const_t *check_identity(coap_bin_const_t *offered, coap_session_t *session, void *argument) {
  (void)session;
  (void)argument;
  if (offered->length != identity.length || memcmp(offered->s, identity.s, identity.length) != 0)
    return NULL;
  return &key;
}

static void get(coap_resource_t *resource, coap_session_t *session, const coap_pdu_t *request,
                const coap_string_t *query, coap_pdu_t *response) {
  (void)resource;
  (void)session;
  (void)request;
  (void)query;
  coap_pdu_set_code(response, COAP_RESPONSE_CODE_CONTENT);
  coap_add_data(response, value_length, value);
}

static void put(coap_resource_t *resource, coap_session_t *session, const coap_pdu_t *request,
                const coap_string_t *query, coap_pdu_t *response) {
  (void)resource;
  (void)session;
  (void)query;
  size_t length = 0;
  const uint8_t *data = NULL;
  coap_get_data(request, &length, &data);
  if (length > sizeof value) {
    coap_pdu_set_code(response, COAP_RESPONSE_CODE_REQUEST_TOO_LARGE);
    return;
  }
  if (length > 0)
    memcpy(value, data, length);
  value_length = length;
  coap_pdu_set_code(response, COAP_RESPONSE_CODE_CHANGED);
  coap_resource_notify_observers(light, NULL);
  coap_resource_notify_observers(mirror, NULL);
}

static void mute(coap_resource_t *resource, coap_session_t *session, const coap_pdu_t *request,
                 const coap_string_t *query, coap_pdu_t *response) {
  (void)resource;
  (void)session;
  (void)request;
  (void)query;
  (void)response;
}

static coap_resource_t *add(coap_context_t *context, const char *path, coap_method_handler_t handler, int observable) {
  coap_resource_t *resource = coap_resource_init(coap_make_str_const(path), COAP_RESOURCE_FLAGS_NOTIFY_CON);
  coap_register_request_handler(resource, COAP_REQUEST_GET, handler);
  coap_resource_set_get_observable(resource, observable);
  coap_add_resource(context, resource);
  return resource;
}

static int listen_on(coap_context_t *context, const char *address) {
  coap_address_t local;
  coap_address_init(&local);
  local.size = sizeof local.addr.sin;
  local.addr.sin.sin_family = AF_INET;
  if (inet_pton(AF_INET, address, &local.addr.sin.sin_addr) != 1)
    return 0;
  coap_endpoint_t *endpoint = coap_new_endpoint(context, &local, COAP_PROTO_DTLS);
  if (!endpoint)
    return 0;
  const char *text = coap_endpoint_str(endpoint);
  puts(text);
  return fflush(stdout) == 0;
}

int main(int argc, char **argv) {
  if (argc != 4)
    return 2;
  identity.s = (const uint8_t *)argv[2];
  identity.length = strlen(argv[2]);
  key.s = (const uint8_t *)argv[3];
  key.length = strlen(argv[3]);
  signal(SIGTERM, on_signal);
  coap_startup();
  coap_context_t *context = coap_new_context(NULL);
  coap_dtls_spsk_t psk = {.version = COAP_DTLS_SPSK_SETUP_VERSION, .validate_id_call_back = check_identity};
  psk.psk_info.key = key;
  if (!context || !coap_context_set_psk2(context, &psk) || !listen_on(context, argv[1]))
    return 1;
  light = add(context, "light", get, 1);
  coap_register_request_handler(light, COAP_REQUEST_PUT, put);
  mirror = add(context, "mirror", get, 1);
  add(context, "plain", get, 0);
  add(context, "mute", mute, 0);
  while (!quit)
    coap_io_process(context, 100);
  coap_free_context(context);
  coap_cleanup();
  return 0;
}
