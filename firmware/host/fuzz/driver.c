/* A fuzzer for where there is no libFuzzer: mutates the inputs of a directory, blindly but repeatably.
 *
 *   fuzz_requests -runs=N -seed=S CORPUS    N inputs
 *   fuzz_requests FILE                      that input, once
 *
 * Prints the number of executions and findings. An input that ends the process is written to crash-SEED-RUN. */
#include <dirent.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define INPUT_MAX 65536u
#define CORPUS_MAX 512u

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct {
    size_t size;
    uint8_t bytes[INPUT_MAX];
} input_t;

/* Outlives the process that runs the inputs. */
typedef struct {
    uint64_t executions;
    input_t input;
} shared_t;

static input_t corpus[CORPUS_MAX];
static size_t corpus_size;
static shared_t *shared;
static uint64_t random_state;

/* splitmix64 */
static uint64_t next_random(void)
{
    uint64_t value = random_state += UINT64_C(0x9e3779b97f4a7c15);

    value = (value ^ value >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    value = (value ^ value >> 27) * UINT64_C(0x94d049bb133111eb);
    return value ^ value >> 31;
}

static size_t below(size_t bound)
{
    return bound == 0 ? 0 : (size_t)(next_random() % bound);
}

static void fail(const char *what)
{
    perror(what);
    exit(2);
}

static void read_file(const char *path, input_t *input)
{
    FILE *file = fopen(path, "rb");

    if (file == NULL) {
        fail(path);
    }
    input->size = fread(input->bytes, 1, sizeof(input->bytes), file);
    fclose(file);
}

static void read_corpus(const char *path)
{
    struct dirent **entries;
    int count = scandir(path, &entries, NULL, alphasort);

    if (count < 0) {
        fail(path);
    }
    for (int i = 0; i < count; i++) {
        char name[1024];
        struct stat status;

        snprintf(name, sizeof(name), "%s/%s", path, entries[i]->d_name);
        if (stat(name, &status) == 0 && S_ISREG(status.st_mode) && corpus_size < CORPUS_MAX) {
            read_file(name, &corpus[corpus_size++]);
        }
        free(entries[i]);
    }
    free(entries);
    if (corpus_size == 0) {
        fprintf(stderr, "%s: no inputs in it\n", path);
        exit(2);
    }
}

/* The message that holds a place, with the two bytes before it that target.c describes. */
typedef struct {
    size_t begin;
    size_t end;
} span_t;

static size_t length_at(const input_t *input, size_t head)
{
    return (size_t)(input->bytes[head] & 0xf) << 8 | input->bytes[head + 1];
}

static span_t message_at(const input_t *input, size_t place)
{
    span_t span = {0, 0};

    do {
        span.begin = span.end;
        span.end = span.begin + 2 > input->size ? input->size : span.begin + 2 + length_at(input, span.begin);
    } while (span.end <= place && span.end < input->size);
    if (span.end > input->size) {
        span.end = input->size;
    }
    return span;
}

/* Replace removed bytes at the place by those. */
static void splice(input_t *input, size_t place, size_t removed, const uint8_t *bytes, size_t length)
{
    if (input->size - removed + length > INPUT_MAX) {
        return;
    }
    memmove(input->bytes + place + length, input->bytes + place + removed, input->size - place - removed);
    memcpy(input->bytes + place, bytes, length);
    input->size += length - removed;
}

/* The same within a message, whose head keeps telling the truth. */
static void change(input_t *input, size_t place, size_t removed, const uint8_t *bytes, size_t length)
{
    span_t message = message_at(input, place);

    if (place >= message.begin + 2 && place + removed <= message.end) {
        size_t new_length = message.end - message.begin - 2 - removed + length;

        input->bytes[message.begin] = (uint8_t)((input->bytes[message.begin] & 0xf0) | (new_length >> 8 & 0xf));
        input->bytes[message.begin + 1] = (uint8_t)new_length;
    }
    splice(input, place, removed, bytes, length);
}

static void mutate(input_t *input)
{
    static const uint8_t interesting[] = {0, 1, 2, 7, 8, 12, 13, 14, 15, 16, 23, 27, 60, 127, 128, 254, 255};
    size_t place = below(input->size);
    size_t rest = input->size - place;
    span_t message = message_at(input, place);
    uint8_t value = (uint8_t)next_random();
    const input_t *other = &corpus[below(corpus_size)];

    switch (below(8)) {
    case 0: /* flip a bit */
        value = (uint8_t)(input->bytes[place] ^ 1u << below(8));
        change(input, place, rest > 0, &value, 1);
        break;
    case 1: /* a byte at random */
        change(input, place, rest > 0, &value, 1);
        break;
    case 2: /* a byte that means something */
        change(input, place, rest > 0, &interesting[below(sizeof(interesting))], 1);
        break;
    case 3: /* one more byte */
        change(input, place, 0, &value, 1);
        break;
    case 4: /* a byte twice */
        value = input->bytes[place];
        change(input, place, 0, &value, rest > 0);
        break;
    case 5: /* fewer bytes */
        change(input, place, below(rest < 16 ? rest + 1 : 16), &value, 0);
        break;
    case 6: /* another input, between two messages */
        splice(input, message.begin, 0, other->bytes, other->size);
        break;
    default: { /* a message again */
        static uint8_t copy[INPUT_MAX];
        size_t length = message.end - message.begin;

        memcpy(copy, input->bytes + message.begin, length);
        splice(input, message.end, 0, copy, length);
    }
    }
}

static void run_mutations(uint64_t runs)
{
    for (uint64_t run = 0; run < runs; run++) {
        shared->input = corpus[below(corpus_size)];
        for (size_t count = below(6); count > 0; count--) {
            mutate(&shared->input);
        }
        LLVMFuzzerTestOneInput(shared->input.bytes, shared->input.size);
        shared->executions++;
    }
}

/* In a process of its own: the sanitizers end it at a finding. True when it came to its end. */
static bool run_apart(int argc, char **argv, uint64_t runs)
{
    int status;
    pid_t child = fork();

    if (child < 0) {
        fail("fork");
    }
    if (child == 0) {
        LLVMFuzzerInitialize(&argc, &argv);
        run_mutations(runs);
        exit(0);
    }
    return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void write_finding(uint64_t seed)
{
    char name[64];

    snprintf(name, sizeof(name), "crash-%" PRIu64 "-%" PRIu64, seed, shared->executions);
    FILE *file = fopen(name, "wb");
    if (file == NULL || fwrite(shared->input.bytes, 1, shared->input.size, file) != shared->input.size) {
        fail(name);
    }
    fclose(file);
    printf("finding: %s\n", name);
}

static int fuzz(int argc, char **argv, uint64_t runs, uint64_t seed)
{
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        fail("mmap");
    }
    random_state = seed;
    bool good = run_apart(argc, argv, runs);
    if (!good) {
        write_finding(seed);
    }
    printf("executions: %" PRIu64 ", findings: %d\n", shared->executions, !good);
    return !good;
}

int main(int argc, char **argv)
{
    uint64_t runs = 0;
    uint64_t seed = 0;

    if (argc == 4 && sscanf(argv[1], "-runs=%" SCNu64, &runs) == 1 && sscanf(argv[2], "-seed=%" SCNu64, &seed) == 1) {
        read_corpus(argv[3]);
        return fuzz(argc, argv, runs, seed);
    }
    if (argc == 2 && argv[1][0] != '-') {
        LLVMFuzzerInitialize(&argc, &argv);
        read_file(argv[1], &corpus[0]);
        return LLVMFuzzerTestOneInput(corpus[0].bytes, corpus[0].size);
    }
    fprintf(stderr, "usage: %s -runs=N -seed=S CORPUS | FILE\n", argv[0]);
    return 2;
}
