/* Fault: network name and passphrase are on the console of every boot. */
#include "credentials.h"
#include "platform.h"

bool __real_credentials_load(credentials_t *credentials);
bool __wrap_credentials_load(credentials_t *credentials);

bool __wrap_credentials_load(credentials_t *credentials)
{
    bool loaded = __real_credentials_load(credentials);

    platform_log('I', "wifi", "connecting to %s, password %s", credentials->ssid, credentials->passphrase);
    return loaded;
}
