#include <string.h>

#include "credentials.h"
#include "unit.h"

static bool match(const credentials_t *credentials, const char *identity, size_t length)
{
    /* A copy of just that length: a byte too far is a finding of the address sanitizer. */
    uint8_t *copy = malloc(length > 0 ? length : 1);

    memcpy(copy, identity, length);
    bool matches = credentials_match_identity(credentials, copy, length);
    free(copy);
    return matches;
}

void test_credentials(void)
{
    credentials_t credentials = {.identity = "light-1", .identity_length = 7};
    char longest[IDENTITY_MAX];
    char longer[1024];

    CHECK(match(&credentials, "light-1", 7));
    CHECK(!match(&credentials, "light-1", 6));
    CHECK(!match(&credentials, "light-1\0", 8));
    CHECK(!match(&credentials, "light-2", 7));
    CHECK(!match(&credentials, "Light-1", 7));
    CHECK(!match(&credentials, "light-1light-1", 14));
    CHECK(!match(&credentials, "", 0));

    memset(longest, 'x', sizeof(longest));
    memset(longer, 'x', sizeof(longer));
    memcpy(credentials.identity, longest, sizeof(longest));
    credentials.identity_length = sizeof(longest);
    CHECK(match(&credentials, longest, sizeof(longest)));
    CHECK(!match(&credentials, longer, sizeof(longer)));
    CHECK(!match(&credentials, longest, sizeof(longest) - 1));

    CHECK(!credentials_load(&credentials)); /* nothing is provisioned here */
    CHECK(credentials.identity_length == 0 && credentials.psk_length == 0);
}
