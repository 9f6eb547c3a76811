// As much of the CUDA driver as the frame path calls, with the kernels compiled for the processor: "device" memory is
// the host's, a stream is done with everything that was queued, and a graph is a list of what was recorded.
// test/driver_on_processor.py loads it in place of libcuda.
#include "kernels_on_processor.cpp"

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <map>
#include <string>
#include <vector>

typedef std::vector<std::function<void()>> Work;

static std::map<uintptr_t, size_t> device_blocks, host_blocks;
// Each thread's own, as the driver's.
static thread_local std::vector<void*> contexts;
static Work* recording = nullptr;
static int live_objects = 0, calls_without_context = 0, failing_synchronizations = 0;
static int allowed_allocations = -1;
static std::string kernel_names[4] = {"prepare", "gather", "suppress", "mark"};

enum { OUT_OF_MEMORY = 2, NOT_FOUND = 500, INVALID_HANDLE = 400, ILLEGAL_ADDRESS = 700, INVALID_PTX = 218 };
static const size_t ALL_MEMORY = (size_t)1 << 30;

static size_t in_use() {
    size_t sum = 0;
    for (const auto& block : device_blocks) sum += block.second;
    return sum;
}

static bool may_allocate() { return allowed_allocations < 0 || allowed_allocations-- > 0; }

static int later(std::function<void()> work) {
    if (contexts.empty()) ++calls_without_context;
    if (recording) recording->push_back(work); else work();
    return 0;
}

static bool inside(const std::map<uintptr_t, size_t>& blocks, uintptr_t first, size_t size) {
    auto after = blocks.upper_bound(first);
    if (after == blocks.begin()) return false;
    --after;
    return first + size <= after->first + after->second;
}

extern "C" {

// What the tests ask of it.
int test_live_objects() { return live_objects + (int)device_blocks.size() + (int)host_blocks.size(); }
int test_calls_without_context() { return calls_without_context + (int)contexts.size(); }
void test_fail_synchronizations(int count) { failing_synchronizations = count; }
// Of memory, the host's too; below 0 there is no end of them.
void test_allow_allocations(int count) { allowed_allocations = count; }

int cuInit(unsigned) { return 0; }
int cuDeviceGetCount(int* count) { *count = 1; return 0; }
int cuDriverGetVersion(int* version) { *version = 12040; return 0; }
int cuDeviceGet(int* device, int index) { *device = index; return 0; }
int cuDeviceGetAttribute(int* value, int, int) { *value = 0; return 0; }
int cuDevicePrimaryCtxRetain(void** context, int) { *context = (void*)0x1000; return 0; }
int cuCtxPushCurrent_v2(void* context) { contexts.push_back(context); return 0; }
int cuCtxPopCurrent_v2(void** context) { *context = contexts.back(); contexts.pop_back(); return 0; }
int cuGetErrorName(int code, const char** name) {
    *name = code == ILLEGAL_ADDRESS ? "CUDA_ERROR_ILLEGAL_ADDRESS" : "CUDA_ERROR_OUT_OF_MEMORY";
    return 0;
}

int cuMemAlloc_v2(u64* address, size_t size) {
    if (in_use() + size > ALL_MEMORY || !may_allocate()) return OUT_OF_MEMORY;
    *address = (u64)(uintptr_t)std::malloc(size);
    device_blocks[(uintptr_t)*address] = size;
    return 0;
}
int cuMemFree_v2(u64 address) {
    if (!device_blocks.erase((uintptr_t)address)) return INVALID_HANDLE;
    std::free((void*)(uintptr_t)address);
    return 0;
}
int cuMemHostAlloc(void** address, size_t size, unsigned) {
    if (!may_allocate()) return OUT_OF_MEMORY;
    *address = std::malloc(size);
    host_blocks[(uintptr_t)*address] = size;
    return 0;
}
int cuMemHostGetDevicePointer_v2(u64* device, void* host, unsigned) { *device = (u64)(uintptr_t)host; return 0; }
int cuMemFreeHost(void* address) {
    if (!host_blocks.erase((uintptr_t)address)) return INVALID_HANDLE;
    std::free(address);
    return 0;
}
int cuMemGetInfo_v2(size_t* free, size_t* total) { *total = ALL_MEMORY; *free = ALL_MEMORY - in_use(); return 0; }
int cuPointerGetAttribute(unsigned* kind, int, u64 address) {
    if (!inside(host_blocks, (uintptr_t)address, 1)) return 1;
    *kind = 1;
    return 0;
}

int cuMemsetD8Async(u64 address, unsigned char value, size_t size, void*) {
    return later([=] { std::memset((void*)(uintptr_t)address, value, size); });
}
int cuMemcpyHtoDAsync_v2(u64 device, const void* host, size_t size, void*) {
    if (!inside(device_blocks, (uintptr_t)device, size)) return ILLEGAL_ADDRESS;
    return later([=] { std::memcpy((void*)(uintptr_t)device, host, size); });
}
int cuMemcpyDtoHAsync_v2(void* host, u64 device, size_t size, void*) {
    if (!inside(device_blocks, (uintptr_t)device, size)) return ILLEGAL_ADDRESS;
    return later([=] { std::memcpy(host, (void*)(uintptr_t)device, size); });
}
struct Side { size_t x_bytes, y; unsigned type; const void* host; u64 device; void* array; size_t pitch; };
struct Copy2D { Side from, to; size_t width_bytes, height; };
int cuMemcpy2DAsync_v2(const Copy2D* given, void*) {
    const Copy2D copy = *given;
    if (!inside(device_blocks, (uintptr_t)copy.to.device, copy.to.pitch * (copy.height - 1) + copy.width_bytes))
        return ILLEGAL_ADDRESS;
    return later([=] {
        for (size_t row = 0; row < copy.height; ++row)
            std::memcpy((char*)(uintptr_t)copy.to.device + row * copy.to.pitch,
                        (const char*)copy.from.host + row * copy.from.pitch, copy.width_bytes);
    });
}

int cuModuleLoadData(void** module, const char* ptx) {
    if (std::string(ptx).find(".version") == std::string::npos) return INVALID_PTX;
    ++live_objects;
    *module = &live_objects;
    return 0;
}
int cuModuleUnload(void*) { --live_objects; return 0; }
int cuModuleGetFunction(void** function, void*, const char* name) {
    for (std::string& known : kernel_names)
        if (known == name) { *function = &known; return 0; }
    return NOT_FOUND;
}
// The grid's size along z, or along y, is the batch; what is inside is up to kernels_on_processor.cpp.
int cuLaunchKernel(void* function, unsigned x, unsigned y, unsigned z, unsigned, unsigned, unsigned, unsigned, void*,
                   void** given, void**) {
    auto place = [&](int i) { return (void*)(uintptr_t)*(u64*)given[i]; };
    const std::string name = *(std::string*)function;
    if (name == "prepare") {
        const u8* staged = (const u8*)place(0);
        const u64 stride = *(u64*)given[1];
        void* tensor = place(2);
        Times* times = (Times*)place(3);
        const Input input = *(const Input*)given[4];
        return later([=] { run_prepare(staged, stride, tensor, &input, z, times); });
    }
    if (name == "mark") {
        Times* times = (Times*)place(0);
        const int step = *(int*)given[1];
        u8* results = (u8*)place(2);
        return later([=] { mark(times, step, results); });
    }
    const Output out = *(const Output*)given[0];
    const Choice* choice = (const Choice*)place(1);
    Candidate* candidates = (Candidate*)place(2);
    Counter* counters = (Counter*)place(3);
    Times* times = (Times*)place(4);
    if (name == "gather") return later([=] { run_gather(&out, choice, candidates, counters, times, y); });
    u8* results = (u8*)place(5);
    return later([=] { run_suppress(&out, choice, candidates, counters, times, results, x); });
}

int cuStreamCreate(void** stream, unsigned) { *stream = new int(); ++live_objects; return 0; }
int cuStreamDestroy_v2(void* stream) { delete (int*)stream; --live_objects; return 0; }
int cuStreamSynchronize(void*) {
    if (failing_synchronizations > 0) { --failing_synchronizations; return ILLEGAL_ADDRESS; }
    return 0;
}
int cuStreamBeginCapture_v2(void*, int) { recording = new Work(); return 0; }
int cuStreamEndCapture(void*, void** graph) { *graph = recording; recording = nullptr; ++live_objects; return 0; }
int cuGraphInstantiateWithFlags(void** run, void* graph, u64) { *run = new Work(*(Work*)graph); ++live_objects; return 0; }
int cuGraphDestroy(void* graph) { delete (Work*)graph; --live_objects; return 0; }
int cuGraphExecDestroy(void* run) { delete (Work*)run; --live_objects; return 0; }
int cuGraphLaunch(void* run, void*) {
    for (const auto& work : *(Work*)run) later(work);
    return 0;
}
int cuStreamGetCaptureInfo_v2(void*, int* status, u64*, void** graph, const void**, size_t* count) {
    *status = recording != nullptr;
    *graph = recording;
    *count = 0;
    return 0;
}
int cuGraphAddChildGraphNode(void**, void* graph, const void*, size_t, void* child) {
    for (const auto& work : *(Work*)child) ((Work*)graph)->push_back(work);
    return 0;
}
int cuStreamUpdateCaptureDependencies(void*, void**, size_t, unsigned) { return 0; }

typedef std::chrono::steady_clock Clock;
int cuEventCreate(void** event, unsigned) { *event = new Clock::time_point(); ++live_objects; return 0; }
int cuEventDestroy_v2(void* event) { delete (Clock::time_point*)event; --live_objects; return 0; }
int cuEventRecordWithFlags(void* event, void*, unsigned) {
    return later([=] { *(Clock::time_point*)event = Clock::now(); });
}
int cuEventRecord(void* event, void* stream) { return cuEventRecordWithFlags(event, stream, 0); }
int cuEventSynchronize(void*) { return 0; }
int cuEventElapsedTime(float* milliseconds, void* from, void* to) {
    *milliseconds = std::chrono::duration<float, std::milli>(*(Clock::time_point*)to - *(Clock::time_point*)from).count();
    return 0;
}

}
