#include "blocks.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstring>
#include <deque>
#include <vector>
#ifndef __x86_64__
#include <ucontext.h>
#endif

namespace {

const size_t StackBytes = 128 << 10;
const unsigned int MostThreads = 1024;
const unsigned int MostShared = 232448;

enum class State { Ready, AtBarrier, AtMeeting, Done };

// The lanes of a warp that named the same mask. Two rows of values, because a lane may bring its next one while another still reads.
struct Meeting {
    unsigned int mask;
    unsigned int arrived;
    unsigned int round;
    unsigned long long values[2][32];
};

struct Copy {
    void* to;
    const void* from;
    int bytes, sourceBytes;
};

struct Fiber {
    cuda_on_cpu_thread thread;
    State state;
    Meeting* meeting;
    unsigned int round;
    std::vector<Copy> open;
    std::deque<std::vector<Copy>> groups;
    unsigned char* stack;
#ifdef __x86_64__
    void* sp;
#else
    ucontext_t context;
#endif
};

std::vector<Fiber> fibers;
std::vector<std::deque<Meeting>> warps;
unsigned char* shared;
Fiber* current;
const Kernel* kernel;
void** arguments;
#ifdef __x86_64__
void* scheduler;
// Keeps the registers that a call must keep; the new stack holds the same below its return address.
asm(R"(
.text
.globl cuda_on_cpu_switch
.hidden cuda_on_cpu_switch
.type cuda_on_cpu_switch, @function
cuda_on_cpu_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");
extern "C" void cuda_on_cpu_switch(void** save, void* to);

void leave() { cuda_on_cpu_switch(&current->sp, scheduler); }
void enter(Fiber& fiber) { cuda_on_cpu_switch(&scheduler, fiber.sp); }
#else
ucontext_t scheduler;

void leave() { swapcontext(&current->context, &scheduler); }
void enter(Fiber& fiber) { swapcontext(&scheduler, &fiber.context); }
#endif

void body()
{
    kernel->call(arguments);
    current->state = State::Done;
    leave();
    __builtin_trap();
}

void prepare(Fiber& fiber)
{
    // A canary at the far end.
    memset(fiber.stack, 0x5a, 64);
#ifdef __x86_64__
    void** top = (void**)(fiber.stack + StackBytes);
    // A function begins with its stack 8 bytes off a multiple of 16.
    *--top = nullptr;
    *--top = (void*)body;
    for (int i = 0; i < 6; i++) *--top = nullptr;
    fiber.sp = top;
#else
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack;
    fiber.context.uc_stack.ss_size = StackBytes;
    fiber.context.uc_link = &scheduler;
    makecontext(&fiber.context, body, 0);
#endif
}

void barrier()
{
    current->state = State::AtBarrier;
    leave();
}

const unsigned long long* meet(unsigned int mask, unsigned long long value)
{
    const unsigned int lane = current->thread.thread.x & 31u, warp = current->thread.thread.x / 32, threads = current->thread.group.x;
    // Lanes that the block does not have are nowhere.
    if (threads - 32 * warp < 32) mask &= (1u << (threads - 32 * warp)) - 1;
    Meeting* meeting = nullptr;
    for (Meeting& m : warps[warp])
        if (m.mask == mask) meeting = &m;
    if (!meeting) {
        warps[warp].push_back(Meeting{mask, 0, 0, {}});
        meeting = &warps[warp].back();
    }
    const unsigned int round = meeting->round;
    meeting->values[round & 1][lane] = value;
    meeting->arrived |= 1u << lane;
    if (meeting->arrived == mask) {
        meeting->arrived = 0;
        meeting->round++;
    } else {
        current->state = State::AtMeeting;
        current->meeting = meeting;
        current->round = round;
        leave();
    }
    return meeting->values[round & 1];
}

void copy_later(void* to, const void* from, int bytes, int sourceBytes)
{
    if ((uintptr_t)to % bytes != 0 || (sourceBytes > 0 && (uintptr_t)from % bytes != 0)) __builtin_trap();
    fill_with_poison(to, bytes);
    current->open.push_back(Copy{to, from, bytes, sourceBytes});
}

void commit()
{
    current->groups.push_back(std::move(current->open));
    current->open.clear();
}

void wait(int left)
{
    while ((int)current->groups.size() > left) {
        for (const Copy& copy : current->groups.front()) {
            if (copy.sourceBytes > 0) memcpy(copy.to, copy.from, copy.sourceBytes);
            memset((char*)copy.to + copy.sourceBytes, 0, copy.bytes - copy.sourceBytes);
        }
        current->groups.pop_front();
    }
}

std::string run_block(unsigned int threads)
{
    for (unsigned int i = 0; i < threads; i++) prepare(fibers[i]);
    for (auto& warp : warps) warp.clear();
    unsigned int left = threads;
    while (left > 0) {
        bool moved = false;
        unsigned int waiting = 0;
        for (unsigned int i = 0; i < threads; i++) {
            Fiber& fiber = fibers[i];
            if (fiber.state == State::AtMeeting && fiber.meeting->round != fiber.round) fiber.state = State::Ready;
            if (fiber.state == State::Ready) {
                current = &fiber;
                *kernel->current = &fiber.thread;
                enter(fiber);
                moved = true;
                if (fiber.state == State::Done) left--;
            }
            if (fiber.state == State::AtBarrier) waiting++;
        }
        if (left > 0 && waiting == left) {
            for (unsigned int i = 0; i < threads; i++)
                if (fibers[i].state == State::AtBarrier) fibers[i].state = State::Ready;
            moved = true;
        }
        if (!moved) return "threads wait for others that never come: a barrier or a warp's meeting stands in a condition";
    }
    for (unsigned int i = 0; i < threads; i++) {
        for (int b = 0; b < 64; b++)
            if (fibers[i].stack[b] != 0x5a) return "a thread's stack overflowed";
        fibers[i].groups.clear();
        fibers[i].open.clear();
    }
    return "";
}

}  // namespace

void fill_with_poison(void* at, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) ((unsigned char*)at)[i] = (unsigned char)(Poison >> (8 * (i % 4)));
}

bool is_poison(const void* at, size_t bytes)
{
    // Looked at after every kernel, at every buffer's ends.
    static const std::vector<unsigned char> all = [] {
        std::vector<unsigned char> bytes(256);
        fill_with_poison(bytes.data(), bytes.size());
        return bytes;
    }();
    return memcmp(at, all.data(), bytes) == 0;
}

static unsigned char* shared_memory()
{
    // 128 bytes more, where nobody may write.
    static unsigned char* memory = (unsigned char*)mmap(nullptr, (MostShared + 128 + 4095) / 4096 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory;
}

const cuda_on_cpu_calls the_calls = {barrier, meet, copy_later, commit, wait, shared_memory()};

std::string run_blocks(const Kernel& k, cuda_on_cpu_size3 grid, unsigned int threads, unsigned int sharedBytes, void** values)
{
    if (fibers.size() < threads) {
        const size_t had = fibers.size();
        fibers.resize(threads);
        unsigned char* stacks = (unsigned char*)mmap(nullptr, (threads - had) * StackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        for (size_t i = had; i < threads; i++) fibers[i].stack = stacks + (i - had) * StackBytes;
        warps.resize((threads + 31) / 32);
    }
    kernel = &k;
    arguments = values;
    shared = the_calls.shared;
    for (unsigned int z = 0; z < grid.z; z++)
        for (unsigned int y = 0; y < grid.y; y++)
            for (unsigned int x = 0; x < grid.x; x++) {
                for (unsigned int i = 0; i < threads; i++) {
                    fibers[i].thread = {{i, 0, 0}, {x, y, z}, {threads, 1, 1}, grid};
                    fibers[i].state = State::Ready;
                }
                if (sharedBytes > 0) fill_with_poison(shared, sharedBytes + 128);
                std::string error = run_block(threads);
                if (error.empty() && sharedBytes > 0 && !is_poison(shared + (sharedBytes + 3) / 4 * 4, 96)) error = "written behind the dynamic shared memory";
                if (!error.empty()) return error + " (block " + std::to_string(x) + ", " + std::to_string(y) + ", " + std::to_string(z) + ")";
            }
    return "";
}
