"""pycuda, which the TensorRT backend takes its CUDA context, stream and memory from."""

from __future__ import annotations

from typing import Any

from trt_perception.doctor.findings import Facts, Judgement, Level, missing
from trt_perception.doctor.probes.distributions import import_facts, installed

_INSTALL = "`pip install pycuda` (needs nvcc and a C++ compiler)"


def look(argument: str) -> dict[str, Any]:
    """Versions, and the GPUs that it sees."""
    facts = {**import_facts("pycuda.driver"), "distributions": installed("pycuda")}
    if "version" in facts:
        import pycuda.driver as cuda

        facts["built_for_cuda"] = ".".join(str(part) for part in cuda.get_version())
        try:
            cuda.init()
            facts["gpus"] = [cuda.Device(index).name() for index in range(cuda.Device.count())]
        except (cuda.Error, RuntimeError) as error:
            facts["init_error"] = str(error)
    return facts


def judge(facts: Facts, driver: Facts) -> Judgement:
    """Built for another CUDA shows as an import that fails."""
    if (problem := missing(facts, _INSTALL)) is not None:
        return problem
    words = f"{', '.join(facts['distributions'].values())}, built for CUDA {facts['built_for_cuda']}"
    if "init_error" in facts:
        return Judgement(Level.FAILED, f"{words}: {facts['init_error']}", "see the driver's line")
    return Judgement(Level.OK, f"{words}, {len(facts['gpus'])} GPUs")
