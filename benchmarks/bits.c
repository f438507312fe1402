/* Learns recorded streams by the core alone, without Python: so that any compiler's core can run, also in an emulator.

   benchmarks/bits.py writes the streams to standard input, and compares the bits that come out. */
#include <stdio.h>
#include <stdlib.h>

#include "core.h"

void core_learn(const Options *options, Member *members, const State *state, const float *x, const float *y,
                const float *weight, long rows, long most, float *output, uint8_t *trained, void *work);
long core_step_bytes(const Options *options, long most);

typedef struct {
    int64_t size;
    void *bytes;
} Block;

static void must(int condition) {
    if (!condition) {
        fputs("cannot read the streams\n", stderr);
        exit(1);
    }
}

static void *memory(int64_t size) {
    void *bytes = aligned_alloc(64, (size_t)(size + 128) / 64 * 64);
    must(bytes != 0);
    return bytes;
}

static Block read_block(void) {
    Block block = {0, 0};
    must(fread(&block.size, sizeof block.size, 1, stdin) == 1);
    if (!block.size) return block;
    block.bytes = memory(block.size);
    must(fread(block.bytes, 1, (size_t)block.size, stdin) == (size_t)block.size);
    return block;
}

static void write_block(Block block) { must(fwrite(block.bytes, 1, (size_t)block.size, stdout) == (size_t)block.size); }

#define ARRAYS (sizeof(State) / sizeof(void *))

static void learn_stream(void) {
    Block options_ = read_block();
    must(options_.size == sizeof(Options));
    Options *options = options_.bytes;
    options->network.units = read_block().bytes;
    options->network.quantiles = read_block().bytes;
    options->class_weights = read_block().bytes;
    Member *members = memory(options->members * (int64_t)sizeof(Member));
    Block *vectors = memory(options->members * 4 * (int64_t)sizeof(Block)), arrays[ARRAYS];
    for (int k = 0; k < options->members; k++) {
        Block member = read_block();
        must(member.size == sizeof(Member));
        members[k] = *(Member *)member.bytes;
        members[k].initial = read_block().bytes;
        Block *own = vectors + 4 * k;
        for (int i = 0; i < 4; i++) own[i] = read_block();
        members[k].theta = own[0].bytes;
        members[k].first = own[1].bytes;
        members[k].second = own[2].bytes;
        members[k].powers = own[3].bytes;
    }
    State state;
    for (size_t i = 0; i < ARRAYS; i++) {
        arrays[i] = read_block();
        ((void **)&state)[i] = arrays[i].bytes;
    }
    Block x = read_block(), y = read_block(), weight = read_block(), sizes = read_block();
    must(sizes.size == 2 * sizeof(int64_t));
    int64_t rows = ((int64_t *)sizes.bytes)[0], most = ((int64_t *)sizes.bytes)[1];
    Block output = {rows * options->network.units[options->network.layers] * (int64_t)sizeof(float), 0};
    Block trained = {(rows + most - 1) / most, 0};
    output.bytes = memory(output.size);
    trained.bytes = memory(trained.size);
    core_learn(options, members, &state, x.bytes, y.bytes, weight.bytes, (long)rows, (long)most, output.bytes,
               trained.bytes, memory(core_step_bytes(options, (long)most)));
    for (int i = 0; i < 4 * options->members; i++) write_block(vectors[i]);
    for (size_t i = 0; i < ARRAYS; i++) write_block(arrays[i]);
    write_block(output);
    write_block(trained);
}

int main(void) {
    int more;
    while ((more = getchar()) != EOF) {
        ungetc(more, stdin);
        learn_stream();
    }
    return 0;
}
