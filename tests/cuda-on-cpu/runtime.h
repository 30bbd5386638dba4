// What a compiled kernel and the runtime know of each other. No includes: kernels are compiled without any header.
#pragma once

struct cuda_on_cpu_size3 {
    unsigned int x, y, z;
};

// The thread that runs now.
struct cuda_on_cpu_thread {
    cuda_on_cpu_size3 thread, block, group, grid;
};

struct cuda_on_cpu_calls {
    // __syncthreads
    void (*barrier)();
    // A rendezvous of the lanes in mask; gives what all of them brought, by lane. Stays until two rendezvous later.
    const unsigned long long* (*meet)(unsigned int mask, unsigned long long value);
    // cp.async: the copy happens when its group is waited for; until then the place holds poison.
    void (*copy_later)(void* to, const void* from, int bytes, int sourceBytes);
    void (*commit)();
    void (*wait)(int left);
    unsigned char* shared;
};
