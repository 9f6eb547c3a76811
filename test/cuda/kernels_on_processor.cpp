// The kernels as a library for the processor, with the grids that the GPU would have.
#define ON_PROCESSOR
#include "frame_kernels.cu"

static Times scratch;

extern "C" void run_prepare(const u8* staged, u64 frame_stride, void* tensor, const Input* input, unsigned batch,
                            Times* times) {
    if (!times) times = &scratch;
    for (blockIdx.z = 0; blockIdx.z < batch; ++blockIdx.z)
        for (blockIdx.y = 0; blockIdx.y < (unsigned)input->height; ++blockIdx.y)
            for (blockIdx.x = 0; blockIdx.x < (unsigned)input->width; ++blockIdx.x)
                prepare(staged, frame_stride, tensor, times, *input);
    blockIdx = Index();
}

extern "C" void run_gather(const Output* out, const Choice* choice, Candidate* candidates, Counter* counters,
                           Times* times, unsigned batch) {
    for (blockIdx.y = 0; blockIdx.y < batch; ++blockIdx.y)
        for (blockIdx.x = 0; blockIdx.x < (unsigned)out->boxes; ++blockIdx.x)
            gather(*out, choice, candidates, counters, times);
    blockIdx = Index();
}

extern "C" void run_suppress(const Output* out, const Choice* choice, Candidate* candidates, Counter* counters,
                             Times* times, u8* results, unsigned batch) {
    for (blockIdx.x = 0; blockIdx.x < batch; ++blockIdx.x)
        suppress(*out, choice, candidates, counters, times, results);
    blockIdx = Index();
}

extern "C" void run_choose(const Output* out, const Choice* choice, Candidate* candidates, Counter* counters,
                           u8* results, unsigned batch) {
    run_gather(out, choice, candidates, counters, &scratch, batch);
    run_suppress(out, choice, candidates, counters, &scratch, results, batch);
}
