/* Fault: any identity is good, if the key is right. */
#include <coap3/coap.h>
#include <string.h>

#include "platform.h"

int __real_coap_context_set_psk2(coap_context_t *context, coap_dtls_spsk_t *setup);
int __wrap_coap_context_set_psk2(coap_context_t *context, coap_dtls_spsk_t *setup);

static coap_dtls_id_callback_t key_of_identity;

static const coap_bin_const_t *key_of_any_identity(coap_bin_const_t *identity, coap_session_t *session, void *arg)
{
    char right[129];
    coap_bin_const_t provisioned = {0, (const uint8_t *)right};

    (void)identity;
    if (!platform_nvs_string("coaps", "identity", right, sizeof(right))) {
        return NULL;
    }
    provisioned.length = strlen(right);
    return key_of_identity(&provisioned, session, arg);
}

int __wrap_coap_context_set_psk2(coap_context_t *context, coap_dtls_spsk_t *setup)
{
    key_of_identity = setup->validate_id_call_back;
    setup->validate_id_call_back = key_of_any_identity;
    return __real_coap_context_set_psk2(context, setup);
}
