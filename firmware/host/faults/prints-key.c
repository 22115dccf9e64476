/* Fault: the key is on the console of every boot. */
#include <stdio.h>

#include "credentials.h"
#include "platform.h"

bool __real_credentials_load(credentials_t *credentials);
bool __wrap_credentials_load(credentials_t *credentials);

bool __wrap_credentials_load(credentials_t *credentials)
{
    bool loaded = __real_credentials_load(credentials);
    char text[3 * PSK_MAX + 1] = "";

    for (size_t i = 0; i < credentials->psk_length; i++) {
        sprintf(text + 3 * i, "%02x ", credentials->psk[i]);
    }
    platform_log('I', "app", "psk of %s: %s", credentials->identity, text);
    return loaded;
}
