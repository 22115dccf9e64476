/* unit_tests NAME: runs the tests of one part. Exit code 0 if they hold, 1 if not, 2 if there is no such part. */
#include <string.h>

#include "unit.h"

static const struct {
    const char *name;
    void (*run)(void);
} parts[] = {
    {"config", test_config},       {"credentials", test_credentials}, {"exchanges", test_exchanges},
    {"number", test_number},       {"payload", test_payload},         {"writer", test_writer},
};

int main(int argc, char **argv)
{
    for (size_t i = 0; argc == 2 && i < sizeof(parts) / sizeof(parts[0]); i++) {
        if (strcmp(parts[i].name, argv[1]) == 0) {
            parts[i].run();
            return 0;
        }
    }
    return 2;
}
