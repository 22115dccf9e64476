#include <string.h>

#include "number.h"
#include "unit.h"

static bool parse(const char *text, uint32_t *value)
{
    return number_parse((const uint8_t *)text, strlen(text), (number_range_t){1, 86400000}, value);
}

static void check_good(const char *text, uint32_t expected)
{
    uint32_t value = 0;

    CHECK(parse(text, &value));
    CHECK(value == expected);
}

static void check_bad(const char *text)
{
    uint32_t value = 77;

    CHECK(!parse(text, &value));
    CHECK(value == 77);
}

void test_number(void)
{
    check_good("1", 1);
    check_good("0001500", 1500);
    check_good("86400000", 86400000);
    check_bad("");
    check_bad("0");
    check_bad("86400001");
    check_bad("4294967297"); /* 1, if it went round */
    check_bad("18446744073709551617");
    check_bad("00000000001");
    check_bad("+5");
    check_bad("-1");
    check_bad(" 5");
    check_bad("5 ");
    check_bad("5\n");
    check_bad("1e3");
    check_bad("0x10");

    uint32_t value;
    CHECK(number_parse((const uint8_t *)"4294967295", 10, (number_range_t){0, UINT32_MAX}, &value));
    CHECK(value == UINT32_MAX);
    CHECK(!number_parse((const uint8_t *)"4294967296", 10, (number_range_t){0, UINT32_MAX}, &value));
    CHECK(!number_parse((const uint8_t *)"1\0", 2, (number_range_t){0, UINT32_MAX}, &value));
}
