#include "config.h"

#include <inttypes.h>
#include <string.h>

#include "number.h"
#include "sdkconfig.h"

typedef struct {
    const char *name;
    size_t offset;
    uint32_t initial;
    number_range_t range;
} setting_t;

static const setting_t settings[] = {
    {"max_sessions", offsetof(config_t, max_sessions), CONFIG_MAX_SESSIONS, {1, CONFIG_MAX_SESSIONS}},
    {"max_handshakes", offsetof(config_t, max_handshakes), 4, {2, 6}},
    {"handshake_timeout_ms", offsetof(config_t, handshake_timeout_ms), 30000, {1000, 60000}},
    {"idle_timeout_s", offsetof(config_t, idle_timeout_s), 3600, {10, 86400}},
    {"telemetry_period_ms", offsetof(config_t, telemetry_period_ms), 10000, {100, 3600000}},
};

#define SETTINGS (sizeof(settings) / sizeof(settings[0]))

typedef struct {
    const uint8_t *at;
    const uint8_t *end;
} reader_t;

typedef struct {
    const uint8_t *bytes;
    size_t length;
} span_t;

static uint32_t *value_of(config_t *config, const setting_t *setting)
{
    return (uint32_t *)(void *)((uint8_t *)config + setting->offset);
}

void config_defaults(config_t *config)
{
    for (size_t i = 0; i < SETTINGS; i++) {
        *value_of(config, &settings[i]) = settings[i].initial;
    }
}

void config_print(const config_t *config, writer_t *writer)
{
    config_t copy = *config;
    object_t object = object_begin(writer, NOTATION_JSON, SETTINGS);

    for (size_t i = 0; i < SETTINGS; i++) {
        object_number(&object, settings[i].name, *value_of(&copy, &settings[i]));
    }
    object_end(&object);
}

static void skip_space(reader_t *reader)
{
    while (reader->at < reader->end && memchr(" \t\r\n", *reader->at, 4) != NULL) {
        reader->at++;
    }
}

/* Take this character, with white space before it. */
static bool take(reader_t *reader, char character)
{
    skip_space(reader);
    if (reader->at == reader->end || *reader->at != (uint8_t)character) {
        return false;
    }
    reader->at++;
    return true;
}

/* The bytes up to the first that is not in the set. */
static span_t take_while(reader_t *reader, const char *set)
{
    span_t span = {reader->at, 0};

    while (reader->at < reader->end && memchr(set, *reader->at, strlen(set)) != NULL) {
        reader->at++;
        span.length++;
    }
    return span;
}

static bool take_key(reader_t *reader, span_t *key)
{
    if (!take(reader, '"')) {
        return false;
    }
    *key = take_while(reader, "abcdefghijklmnopqrstuvwxyz_");
    return reader->at < reader->end && *reader->at++ == '"' && take(reader, ':');
}

static const setting_t *find(span_t key)
{
    for (size_t i = 0; i < SETTINGS; i++) {
        if (strlen(settings[i].name) == key.length && memcmp(settings[i].name, key.bytes, key.length) == 0) {
            return &settings[i];
        }
    }
    return NULL;
}

/* The word up to the next separator. JSON has no numbers with a leading zero, and number_parse takes them. */
static bool take_value(reader_t *reader, number_range_t range, uint32_t *value)
{
    skip_space(reader);
    span_t word = {reader->at, 0};

    while (reader->at < reader->end && memchr(",} \t\r\n", *reader->at, 6) == NULL) {
        reader->at++;
        word.length++;
    }
    return !(word.length > 1 && word.bytes[0] == '0') && number_parse(word.bytes, word.length, range, value);
}

static bool take_member(reader_t *reader, config_t *config, unsigned *seen, writer_t *problem)
{
    span_t key;

    if (!take_key(reader, &key)) {
        write_text(problem, "a key in quotes and a colon were expected");
        return false;
    }
    const setting_t *setting = find(key);
    if (setting == NULL) {
        write_text(problem, "unknown key: ");
        write_bytes(problem, key.bytes, key.length < 32 ? key.length : 32);
        return false;
    }
    unsigned bit = 1u << (setting - settings);
    if (*seen & bit) {
        write_format(problem, "%s is there twice", setting->name);
        return false;
    }
    *seen |= bit;
    if (!take_value(reader, setting->range, value_of(config, setting))) {
        write_format(problem, "%s: an integer from %" PRIu32 " to %" PRIu32 " was expected", setting->name,
                     setting->range.min, setting->range.max);
        return false;
    }
    return true;
}

static bool take_members(reader_t *reader, config_t *config, writer_t *problem)
{
    unsigned seen = 0;

    if (take(reader, '}')) {
        return true;
    }
    do {
        if (!take_member(reader, config, &seen, problem)) {
            return false;
        }
    } while (take(reader, ','));
    if (!take(reader, '}')) {
        write_text(problem, "a comma or the end of the object was expected");
        return false;
    }
    return true;
}

bool config_parse(const uint8_t *text, size_t length, config_t *config, writer_t *problem)
{
    reader_t reader = {text, text + length};
    config_t changed = *config;

    if (!take(&reader, '{')) {
        write_text(problem, "a JSON object was expected");
        return false;
    }
    if (!take_members(&reader, &changed, problem)) {
        return false;
    }
    skip_space(&reader);
    if (reader.at != reader.end) {
        write_text(problem, "there is something after the object");
        return false;
    }
    *config = changed;
    return true;
}
