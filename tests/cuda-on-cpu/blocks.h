// Runs the blocks of a kernel one after another, the threads of a block as fibers.
#pragma once
#include <string>

#include "runtime.h"

struct Kernel {
    std::string name;
    void (*call)(void** values);
    cuda_on_cpu_thread** current;
    int parameters;
    int sizes[64];
    int bounds;
    int allowedShared;
};

extern const cuda_on_cpu_calls the_calls;

// What fresh and foreign memory holds: NaN as a float and in both halves, a large negative number as an int.
const unsigned int Poison = 0xFFFBFFFBu;
void fill_with_poison(void* at, size_t bytes);
bool is_poison(const void* at, size_t bytes);

// Empty, or what went wrong.
std::string run_blocks(const Kernel& kernel, cuda_on_cpu_size3 grid, unsigned int threads, unsigned int sharedBytes, void** values);
