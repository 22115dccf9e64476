#include <string.h>

#include "crc32.h"
#include "unit.h"
#include "writer.h"

static uint8_t bytes[64];

static writer_t writer_of(size_t size)
{
    memset(bytes, 0xee, sizeof(bytes));
    return (writer_t){.bytes = bytes, .size = size};
}

static void check_is(const writer_t *writer, const void *expected, size_t length)
{
    CHECK(!writer->overflow);
    CHECK(writer->length == length);
    CHECK(memcmp(bytes, expected, length) == 0);
}

static void what_does_not_fit_is_left_out(void)
{
    writer_t writer = writer_of(5);

    write_text(&writer, "12345");
    CHECK(!writer.overflow);
    write_bytes(&writer, "", 0);
    CHECK(!writer.overflow);
    write_text(&writer, "6");
    CHECK(writer.overflow && writer.length == 5 && bytes[5] == 0xee);

    writer = writer_of(5);
    write_format(&writer, "%s", "123456");
    CHECK(writer.overflow && writer.length == 0 && bytes[0] == 0xee);

    writer = writer_of(sizeof(bytes));
    write_format(&writer, "%200d", 1);
    CHECK(writer.overflow && writer.length == 0);
}

static void json(void)
{
    const char *expected = "{\"a\":0,\"b\":18446744073709551615,\"c\":\"on\"}";
    writer_t writer = writer_of(sizeof(bytes));
    object_t object = object_begin(&writer, NOTATION_JSON, 3);

    object_number(&object, "a", 0);
    object_number(&object, "b", UINT64_MAX);
    object_text(&object, "c", "on");
    object_end(&object);
    check_is(&writer, expected, strlen(expected));

    writer = writer_of(sizeof(bytes));
    object = object_begin(&writer, NOTATION_JSON, 0);
    object_end(&object);
    check_is(&writer, "{}", 2);
}

/* The numbers of RFC 8949 appendix A. */
static void cbor(void)
{
    static const struct {
        uint64_t value;
        const char *expected;
        size_t length;
    } numbers[] = {
        {0, "\x00", 1},
        {10, "\x0a", 1},
        {23, "\x17", 1},
        {24, "\x18\x18", 2},
        {100, "\x18\x64", 2},
        {255, "\x18\xff", 2},
        {256, "\x19\x01\x00", 3},
        {1000, "\x19\x03\xe8", 3},
        {65535, "\x19\xff\xff", 3},
        {65536, "\x1a\x00\x01\x00\x00", 5},
        {1000000, "\x1a\x00\x0f\x42\x40", 5},
        {UINT32_MAX, "\x1a\xff\xff\xff\xff", 5},
        {1000000000000, "\x1b\x00\x00\x00\xe8\xd4\xa5\x10\x00", 9},
        {UINT64_MAX, "\x1b\xff\xff\xff\xff\xff\xff\xff\xff", 9},
    };

    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        writer_t writer = writer_of(sizeof(bytes));
        object_t object = object_begin(&writer, NOTATION_CBOR, 1);

        object_number(&object, "a", numbers[i].value);
        object_end(&object);
        CHECK(writer.length == 3 + numbers[i].length && memcmp(bytes, "\xa1\x61\x61", 3) == 0);
        CHECK(memcmp(bytes + 3, numbers[i].expected, numbers[i].length) == 0);
    }

    writer_t writer = writer_of(sizeof(bytes));
    object_t object = object_begin(&writer, NOTATION_CBOR, 1);
    object_text(&object, "a", "twenty-four characters..");
    object_end(&object);
    check_is(&writer, "\xa1\x61\x61\x78\x18twenty-four characters..", 29);
}

/* Every size that is too small gives an overflow, and never a byte behind the end. */
static void every_size(void)
{
    for (notation_t notation = NOTATION_JSON; notation <= NOTATION_CBOR; notation++) {
        bool fitted = false;

        for (size_t size = 0; size < sizeof(bytes); size++) {
            writer_t writer = writer_of(size);
            object_t object = object_begin(&writer, notation, 2);

            object_number(&object, "number", 70000);
            object_text(&object, "text", "text");
            object_end(&object);
            CHECK(bytes[size] == 0xee && writer.length <= size);
            CHECK(!fitted || !writer.overflow);
            fitted = !writer.overflow;
        }
        CHECK(fitted);
    }
}

static void crc(void)
{
    CHECK(crc32_update(0, (const uint8_t *)"123456789", 9) == 0xcbf43926);
    CHECK(crc32_update(crc32_update(0, (const uint8_t *)"1234", 4), (const uint8_t *)"56789", 5) == 0xcbf43926);
    CHECK(crc32_update(0, bytes, 0) == 0);
}

void test_writer(void)
{
    what_does_not_fit_is_left_out();
    json();
    cbor();
    every_size();
    crc();
}
