// The CUDA driver API, as far as the server uses it, on the processor. Commands wait in their stream until somebody waits for them, as on
// a device: who writes over pinned memory too early, or reads it too early, sees it here too. Memory holds poison until it is written,
// and stands between guards.
#include <dlfcn.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "blocks.h"

#define API extern "C" __attribute__((visibility("default"))) int

namespace {

enum { Success = 0, InvalidValue = 1, OutOfMemory = 2, NotInitialized = 3, InvalidDevice = 101, InvalidImage = 200, InvalidContext = 201,
    NotFound = 500, IllegalAddress = 700, LaunchFailed = 719, CaptureUnsupported = 900 };

typedef std::function<int()> Command;

struct Stream {
    std::deque<Command> queue;
    long long done = 0;
    int sticky = Success;
    bool isCapturing = false;
    std::vector<Command> captured;

    long long end() const { return done + (long long)queue.size(); }
};

struct Event {
    Stream* stream = nullptr;
    long long at = 0;
};

struct Graph {
    std::vector<Command> commands;
};

struct Module {
    void* library;
    std::map<std::string, std::unique_ptr<Kernel>> kernels;
};

struct Memory {
    size_t bytes;
    unsigned char* whole;
};

std::recursive_mutex the_lock;
std::map<uintptr_t, Memory> the_memory;
std::map<uintptr_t, size_t> the_pinned;
std::vector<Stream*> the_streams;
size_t the_used;
bool is_initialized;
thread_local bool has_context;
thread_local bool refuses_captures;
int the_context;

const size_t Guard = 256;

size_t total_memory()
{
    const char* chosen = getenv("CUDA_ON_CPU_MEMORY");
    return chosen ? strtoull(chosen, nullptr, 10) : (size_t)4 << 30;
}

// After every kernel: the one that wrote there is known, and streams beside it go on.
bool guards_hold(const Kernel& kernel)
{
    bool hold = true;
    for (auto& [address, memory] : the_memory)
        if (!is_poison(memory.whole, Guard) || !is_poison((void*)(address + memory.bytes), Guard)) {
            fprintf(stderr, "cuda-on-cpu: %s wrote outside of a buffer of %zu bytes\n", kernel.name.c_str(), memory.bytes);
            fill_with_poison(memory.whole, Guard);
            fill_with_poison((void*)(address + memory.bytes), Guard);
            hold = false;
        }
    return hold;
}

bool is_pinned(const void* at)
{
    auto next = the_pinned.upper_bound((uintptr_t)at);
    return next != the_pinned.begin() && (--next, (uintptr_t)at < next->first + next->second);
}

bool is_device(uintptr_t at, size_t bytes)
{
    auto next = the_memory.upper_bound(at);
    return next != the_memory.begin() && (--next, at + bytes <= next->first + next->second.bytes);
}

int run_to(Stream* stream, long long end)
{
    while (stream->done < end && !stream->queue.empty()) {
        Command command = std::move(stream->queue.front());
        stream->queue.pop_front();
        stream->done++;
        if (stream->sticky == Success) stream->sticky = command();
    }
    return stream->sticky;
}

int put(Stream* stream, Command command)
{
    if (!has_context) return InvalidContext;
    if (stream->sticky != Success) return stream->sticky;
    if (stream->isCapturing) stream->captured.push_back(std::move(command));
    else stream->queue.push_back(std::move(command));
    return Success;
}

}  // namespace

#define ENTER std::lock_guard<std::recursive_mutex> entered(the_lock); if (!is_initialized) return NotInitialized
#define ENTER_CONTEXT ENTER; if (!has_context) return InvalidContext

API cuInit(unsigned int flags) { is_initialized = true; return flags ? InvalidValue : Success; }
API cuDriverGetVersion(int* version) { *version = 12040; return Success; }
API cuDeviceGetCount(int* count) { ENTER; *count = 1; return Success; }
API cuDeviceGet(int* device, int ordinal) { ENTER; *device = 0; return ordinal == 0 ? Success : InvalidDevice; }
API cuDeviceGetName(char* name, int length, int) { ENTER; snprintf(name, length, "CUDA on the processor"); return Success; }
API cuDeviceTotalMem_v2(size_t* bytes, int) { ENTER; *bytes = total_memory(); return Success; }
API cuDeviceGetAttribute(int* value, int attribute, int)
{
    ENTER;
    switch (attribute) {
    case 1: *value = 1024; return Success;     // MAX_THREADS_PER_BLOCK
    case 8: *value = 49152; return Success;    // MAX_SHARED_MEMORY_PER_BLOCK
    case 10: *value = 32; return Success;      // WARP_SIZE
    case 16: *value = 8; return Success;       // MULTIPROCESSOR_COUNT
    case 75: *value = 9; return Success;       // COMPUTE_CAPABILITY_MAJOR
    case 76: *value = 0; return Success;       // COMPUTE_CAPABILITY_MINOR
    case 97: *value = 232448; return Success;  // MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
    default: return InvalidValue;
    }
}
API cuDevicePrimaryCtxRetain(void** context, int) { ENTER; *context = &the_context; return Success; }
API cuDevicePrimaryCtxRelease_v2(int) { ENTER; return Success; }
API cuCtxSetCurrent(void* context) { ENTER; has_context = context == &the_context; return Success; }

API cuGetErrorName(int error, const char** name)
{
    switch (error) {
    case Success: *name = "CUDA_SUCCESS"; return Success;
    case InvalidValue: *name = "CUDA_ERROR_INVALID_VALUE"; return Success;
    case OutOfMemory: *name = "CUDA_ERROR_OUT_OF_MEMORY"; return Success;
    case NotInitialized: *name = "CUDA_ERROR_NOT_INITIALIZED"; return Success;
    case InvalidDevice: *name = "CUDA_ERROR_INVALID_DEVICE"; return Success;
    case InvalidImage: *name = "CUDA_ERROR_INVALID_IMAGE"; return Success;
    case InvalidContext: *name = "CUDA_ERROR_INVALID_CONTEXT"; return Success;
    case NotFound: *name = "CUDA_ERROR_NOT_FOUND"; return Success;
    case IllegalAddress: *name = "CUDA_ERROR_ILLEGAL_ADDRESS"; return Success;
    case LaunchFailed: *name = "CUDA_ERROR_LAUNCH_FAILED"; return Success;
    case CaptureUnsupported: *name = "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"; return Success;
    default: *name = nullptr; return InvalidValue;
    }
}
API cuGetErrorString(int error, const char** text)
{
    const int known = cuGetErrorName(error, text);
    if (known == Success) *text = error == OutOfMemory ? "out of memory" : error == IllegalAddress ? "an illegal memory access was encountered" : "as its name says";
    return known;
}

API cuMemGetInfo_v2(size_t* free, size_t* total)
{
    ENTER_CONTEXT;
    *total = total_memory();
    *free = *total - the_used;
    return Success;
}
API cuMemAlloc_v2(uintptr_t* address, size_t bytes)
{
    ENTER_CONTEXT;
    for (Stream* stream : the_streams)
        if (stream->isCapturing) return CaptureUnsupported;
    if (bytes == 0) return InvalidValue;
    if (the_used + bytes > total_memory()) return OutOfMemory;
    unsigned char* whole = (unsigned char*)aligned_alloc(256, (bytes + 2 * Guard + 255) / 256 * 256);
    if (!whole) return OutOfMemory;
    fill_with_poison(whole, Guard);
    // Whole pages of poison cost time: a large buffer gets it at its ends.
    fill_with_poison(whole + Guard, bytes < (1 << 20) ? bytes : 4096);
    if (bytes >= (1 << 20)) fill_with_poison(whole + Guard + bytes - 4096, 4096);
    fill_with_poison(whole + Guard + bytes, Guard);
    *address = (uintptr_t)whole + Guard;
    the_memory[*address] = {bytes, whole};
    the_used += bytes;
    return Success;
}
API cuMemFree_v2(uintptr_t address)
{
    ENTER_CONTEXT;
    auto found = the_memory.find(address);
    if (found == the_memory.end()) return InvalidValue;
    // As on a device: what is queued still has it.
    int error = Success;
    for (Stream* stream : the_streams)
        if (!stream->isCapturing) error = run_to(stream, stream->end());
    the_used -= found->second.bytes;
    free(found->second.whole);
    the_memory.erase(found);
    return error;
}
API cuMemHostAlloc(void** pointer, size_t bytes, unsigned int)
{
    ENTER_CONTEXT;
    *pointer = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    the_pinned[(uintptr_t)*pointer] = bytes;
    return Success;
}
API cuMemFreeHost(void* pointer)
{
    ENTER_CONTEXT;
    if (!the_pinned.erase((uintptr_t)pointer)) return InvalidValue;
    free(pointer);
    return Success;
}
API cuMemcpyHtoDAsync_v2(uintptr_t to, const void* from, size_t bytes, Stream* stream)
{
    ENTER_CONTEXT;
    if (!is_device(to, bytes)) return InvalidValue;
    if (is_pinned(from)) return put(stream, [=] { memcpy((void*)to, from, bytes); return (int)Success; });
    auto copy = std::make_shared<std::vector<char>>((const char*)from, (const char*)from + bytes);
    return put(stream, [=] { memcpy((void*)to, copy->data(), bytes); return (int)Success; });
}
API cuMemcpyDtoHAsync_v2(void* to, uintptr_t from, size_t bytes, Stream* stream)
{
    ENTER_CONTEXT;
    if (!is_device(from, bytes)) return InvalidValue;
    int error = put(stream, [=] { memcpy(to, (void*)from, bytes); return (int)Success; });
    return error == Success && !is_pinned(to) && !stream->isCapturing ? run_to(stream, stream->end()) : error;
}
API cuMemcpyDtoDAsync_v2(uintptr_t to, uintptr_t from, size_t bytes, Stream* stream)
{
    ENTER_CONTEXT;
    if (!is_device(to, bytes) || !is_device(from, bytes)) return InvalidValue;
    return put(stream, [=] { memcpy((void*)to, (void*)from, bytes); return (int)Success; });
}
API cuMemsetD8Async(uintptr_t to, unsigned char value, size_t bytes, Stream* stream)
{
    ENTER_CONTEXT;
    if (!is_device(to, bytes)) return InvalidValue;
    return put(stream, [=] { memset((void*)to, value, bytes); return (int)Success; });
}

API cuStreamCreate(Stream** stream, unsigned int)
{
    ENTER_CONTEXT;
    the_streams.push_back(*stream = new Stream());
    return Success;
}
API cuStreamDestroy_v2(Stream* stream)
{
    ENTER_CONTEXT;
    for (size_t i = 0; i < the_streams.size(); i++)
        if (the_streams[i] == stream) the_streams.erase(the_streams.begin() + i);
    delete stream;
    return Success;
}
API cuStreamSynchronize(Stream* stream)
{
    ENTER_CONTEXT;
    return stream->isCapturing ? (int)CaptureUnsupported : run_to(stream, stream->end());
}
API cuEventCreate(Event** event, unsigned int) { ENTER_CONTEXT; *event = new Event(); return Success; }
API cuEventDestroy_v2(Event* event) { ENTER_CONTEXT; delete event; return Success; }
API cuEventRecord(Event* event, Stream* stream)
{
    ENTER_CONTEXT;
    if (stream->isCapturing) return CaptureUnsupported;
    *event = {stream, stream->end()};
    return stream->sticky;
}
API cuEventSynchronize(Event* event) { ENTER_CONTEXT; return event->stream ? run_to(event->stream, event->at) : (int)Success; }

// The image is a shared library; its length stands in its own header, because the call is not told it.
API cuModuleLoadDataEx(Module** module, const unsigned char* image, unsigned int, int*, void**)
{
    ENTER_CONTEXT;
    uint64_t sections;
    uint16_t size, count;
    if (memcmp(image, "\177ELF", 4) != 0) return InvalidImage;
    memcpy(&sections, image + 40, 8);
    memcpy(&size, image + 58, 2);
    memcpy(&count, image + 60, 2);
    char path[] = "/tmp/cuda-on-cpu-XXXXXX";
    const int file = mkstemp(path);
    const size_t bytes = sections + (size_t)size * count;
    const bool isWritten = file >= 0 && write(file, image, bytes) == (ssize_t)bytes;
    close(file);
    void* library = isWritten ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : nullptr;
    unlink(path);
    if (!library) {
        fprintf(stderr, "cuda-on-cpu: %s\n", isWritten ? dlerror() : "could not write the module");
        return InvalidImage;
    }
    *(const cuda_on_cpu_calls**)dlsym(library, "cuda_on_cpu_runtime") = &the_calls;
    *module = new Module{library, {}};
    return Success;
}
API cuModuleUnload(Module* module)
{
    ENTER_CONTEXT;
    dlclose(module->library);
    delete module;
    return Success;
}
API cuModuleGetFunction(Kernel** function, Module* module, const char* name)
{
    ENTER_CONTEXT;
    std::unique_ptr<Kernel>& kernel = module->kernels[name];
    if (!kernel) {
        const std::string text = name;
        void* call = dlsym(module->library, (text + "__call").c_str());
        if (!call) return NotFound;
        kernel = std::make_unique<Kernel>();
        kernel->name = text;
        kernel->call = (void (*)(void**))call;
        kernel->current = (cuda_on_cpu_thread**)dlsym(module->library, "cuda_on_cpu_current");
        kernel->parameters = ((int (*)(int*))dlsym(module->library, (text + "__sizes").c_str()))(kernel->sizes);
        kernel->bounds = ((int (*)())dlsym(module->library, (text + "__bounds").c_str()))();
        kernel->allowedShared = 49152;
    }
    *function = kernel.get();
    return Success;
}
API cuFuncGetAttribute(int* value, int, Kernel*) { ENTER_CONTEXT; *value = 0; return Success; }
API cuFuncSetAttribute(Kernel* kernel, int attribute, int value)
{
    ENTER_CONTEXT;
    if (attribute != 8 || value > 232448) return InvalidValue;
    kernel->allowedShared = value;
    return Success;
}
API cuLaunchKernel(Kernel* kernel, unsigned int x, unsigned int y, unsigned int z, unsigned int threads, unsigned int threadsY, unsigned int threadsZ,
    unsigned int sharedBytes, Stream* stream, void** values, void** extra)
{
    ENTER_CONTEXT;
    if (x == 0 || y == 0 || z == 0 || y > 65535 || z > 65535 || threads == 0 || threads > (unsigned)kernel->bounds || threadsY != 1 || threadsZ != 1) return InvalidValue;
    if ((int)sharedBytes > kernel->allowedShared || extra) return InvalidValue;
    // The arguments' values are the caller's again after the call.
    auto kept = std::make_shared<std::vector<unsigned long long>>(kernel->parameters + 1);
    for (int i = 0; i < kernel->parameters; i++) memcpy(kept->data() + i, values[i], kernel->sizes[i]);
    return put(stream, [=] {
        void* places[64];
        for (int i = 0; i < kernel->parameters; i++) places[i] = kept->data() + i;
        const std::string error = run_blocks(*kernel, {x, y, z}, threads, sharedBytes, places);
        if (error.empty()) return guards_hold(*kernel) ? (int)Success : (int)IllegalAddress;
        fprintf(stderr, "cuda-on-cpu: %s: %s\n", kernel->name.c_str(), error.c_str());
        return (int)LaunchFailed;
    });
}

API cuStreamBeginCapture_v2(Stream* stream, int)
{
    ENTER_CONTEXT;
    if (refuses_captures) return CaptureUnsupported;
    if (stream->isCapturing) return InvalidValue;
    stream->captured.clear();
    stream->isCapturing = true;
    return Success;
}
API cuStreamEndCapture(Stream* stream, Graph** graph)
{
    ENTER_CONTEXT;
    if (!stream->isCapturing) return InvalidValue;
    stream->isCapturing = false;
    *graph = new Graph{std::move(stream->captured)};
    return Success;
}
API cuGraphInstantiateWithFlags(Graph** executable, Graph* graph, unsigned long long)
{
    ENTER_CONTEXT;
    *executable = new Graph(*graph);
    return Success;
}
API cuGraphLaunch(Graph* executable, Stream* stream)
{
    ENTER_CONTEXT;
    for (const Command& command : executable->commands)
        if (int error = put(stream, command)) return error;
    return Success;
}
API cuGraphDestroy(Graph* graph) { ENTER_CONTEXT; delete graph; return Success; }
API cuGraphExecDestroy(Graph* executable) { ENTER_CONTEXT; delete executable; return Success; }

// For tests: from now on this thread's captures fail.
extern "C" __attribute__((visibility("default"))) void cuda_on_cpu_refuse_captures(int refuse) { refuses_captures = refuse != 0; }
