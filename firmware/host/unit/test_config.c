#include <string.h>

#include "config.h"
#include "unit.h"

static config_t config;
static char problem[96];

static bool parse(const char *text, size_t length)
{
    /* A copy of just that length: a byte too far is a finding of the address sanitizer. */
    uint8_t *copy = malloc(length > 0 ? length : 1);
    writer_t writer = {.bytes = (uint8_t *)problem, .size = sizeof(problem) - 1};

    memcpy(copy, text, length);
    bool good = config_parse(copy, length, &config, &writer);
    CHECK(!writer.overflow);
    problem[writer.length] = '\0';
    free(copy);
    return good;
}

static void check_good(const char *text)
{
    CHECK(parse(text, strlen(text)));
    CHECK(problem[0] == '\0');
}

/* Refused, with that in the sentence, and nothing has changed. */
static void check_bad(const char *text, const char *says)
{
    config_t before = config;

    CHECK(!parse(text, strlen(text)));
    if (strstr(problem, says) == NULL) {
        fprintf(stderr, "%s: \"%s\" is not in \"%s\"\n", text, says, problem);
        exit(1);
    }
    CHECK(memcmp(&before, &config, sizeof(config)) == 0);
}

static void good_objects(void)
{
    config_defaults(&config);
    check_good("{}");
    check_good(" \t\r\n{ } \n");
    check_good("{\"max_sessions\":3}");
    CHECK(config.max_sessions == 3);
    check_good("{\"max_sessions\" : 12 ,\n\"idle_timeout_s\":10,\"telemetry_period_ms\":3600000}");
    CHECK(config.max_sessions == 12 && config.idle_timeout_s == 10 && config.telemetry_period_ms == 3600000);
    CHECK(config.max_handshakes == 4 && config.handshake_timeout_ms == 30000);
}

static void bad_values(void)
{
    check_bad("{\"max_sessions\":0}", "max_sessions: an integer from 1 to 12");
    check_bad("{\"max_sessions\":13}", "max_sessions");
    check_bad("{\"max_sessions\":4294967297}", "max_sessions");
    check_bad("{\"max_sessions\":18446744073709551617}", "max_sessions");
    check_bad("{\"max_sessions\":-1}", "max_sessions");
    check_bad("{\"max_sessions\":+1}", "max_sessions");
    check_bad("{\"max_sessions\":01}", "max_sessions");
    check_bad("{\"max_sessions\":1.5}", "max_sessions");
    check_bad("{\"max_sessions\":1e1}", "max_sessions");
    check_bad("{\"max_sessions\":\"3\"}", "max_sessions");
    check_bad("{\"max_sessions\":true}", "max_sessions");
    check_bad("{\"max_sessions\":null}", "max_sessions");
    check_bad("{\"max_sessions\":[3]}", "max_sessions");
    check_bad("{\"max_sessions\":{}}", "max_sessions");
    check_bad("{\"max_sessions\":}", "max_sessions");
    check_bad("{\"max_sessions\":", "max_sessions");
    check_bad("{\"handshake_timeout_ms\":999}", "handshake_timeout_ms: an integer from 1000 to 60000");
    check_bad("{\"telemetry_period_ms\":99}", "telemetry_period_ms");
}

static void bad_keys(void)
{
    check_bad("{\"max_session\":3}", "unknown key: max_session");
    check_bad("{\"\":3}", "unknown key: ");
    check_bad("{\"max_sessions_of_a_name_that_is_much_too_long_to_be_repeated\":3}", "unknown key: max_sessions_of_a_name");
    check_bad("{\"max_sessions\":3,\"max_sessions\":3}", "max_sessions is there twice");
    check_bad("{\"Max_sessions\":3}", "a key in quotes");
    check_bad("{\"max\\u005fsessions\":3}", "a key in quotes");
    check_bad("{max_sessions:3}", "a key in quotes");
    check_bad("{'max_sessions':3}", "a key in quotes");
    check_bad("{\"max_sessions\" 3}", "a colon");
    check_bad("{\"max_sessions", "a key in quotes");
}

static void bad_objects(void)
{
    check_bad("", "a JSON object");
    check_bad("   ", "a JSON object");
    check_bad("[]", "a JSON object");
    check_bad("3", "a JSON object");
    check_bad("{", "a key");
    check_bad("}", "a JSON object");
    check_bad("{,}", "a key");
    check_bad("{\"max_sessions\":3,}", "a key");
    check_bad("{\"max_sessions\":3", "the end of the object");
    check_bad("{\"max_sessions\":3 \"idle_timeout_s\":10}", "a comma");
    check_bad("{\"max_sessions\":3}}", "after the object");
    check_bad("{} x", "after the object");
    check_bad("\xef\xbb\xbf{}", "a JSON object");
}

/* The first setting is good and the second is not: neither holds. */
static void all_or_nothing(void)
{
    check_bad("{\"max_sessions\":5,\"max_handshakes\":99}", "max_handshakes");
    check_bad("{\"max_sessions\":5} {", "after the object");
}

/* Every beginning of a good text is bad, and NUL is no end. */
static void cut_off(void)
{
    const char *text = "{\"max_sessions\":5,\"idle_timeout_s\":60}";

    for (size_t length = 0; length < strlen(text); length++) {
        CHECK(!parse(text, length));
    }
    CHECK(!parse("{}\0", 3));
    CHECK(!parse("{\"max_sessions\":5\0}", 19));
}

static void what_is_printed_can_be_read(void)
{
    static const char expected[] = "{\"max_sessions\":12,\"max_handshakes\":4,\"handshake_timeout_ms\":30000,"
                                   "\"idle_timeout_s\":3600,\"telemetry_period_ms\":10000}";
    uint8_t text[160];
    writer_t writer = {.bytes = text, .size = sizeof(text)};

    config_defaults(&config);
    config_print(&config, &writer);
    CHECK(!writer.overflow && writer.length == strlen(expected) && memcmp(text, expected, writer.length) == 0);
    check_good("{\"max_sessions\":1}");
    check_good(expected);
    CHECK(config.max_sessions == 12);
}

void test_config(void)
{
    good_objects();
    bad_values();
    bad_keys();
    bad_objects();
    all_or_nothing();
    cut_off();
    what_is_printed_can_be_read();
}
