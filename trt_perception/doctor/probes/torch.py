"""torch: which CUDA it was built for, and whether that really computes."""

from __future__ import annotations

from typing import Any

from trt_perception.doctor.findings import Facts, Judgement, Level, missing
from trt_perception.doctor.probes.distributions import import_facts

_INSTALL = "`pip install torch`"


def look(argument: str) -> dict[str, Any]:
    """Versions, and for each GPU the result of one small computation."""
    facts = import_facts("torch")
    if "version" not in facts:
        return facts
    import torch

    cudnn: Any = torch.backends.cudnn
    facts |= {
        "cuda": torch.version.cuda,
        "cudnn": cudnn.version() if torch.version.cuda else None,
        "threads": torch.get_num_threads(),
        "cuda_is_available": torch.cuda.is_available(),
        "gpus": {},
    }
    for index in range(torch.cuda.device_count() if facts["cuda_is_available"] else 0):
        try:
            result = str(float((torch.ones(8, device=f"cuda:{index}") * 2).sum()))
        except RuntimeError as error:
            result = str(error).splitlines()[0]
        facts["gpus"][f"cuda:{index}"] = result
    return facts


def judge(facts: Facts, driver: Facts) -> Judgement:
    """A CPU build beside a GPU, and a GPU that does not compute, are named."""
    if (problem := missing(facts, _INSTALL)) is not None:
        return problem
    built = f"CUDA {facts['cuda']}, cuDNN {facts['cudnn']}" if facts["cuda"] else "CPU only"
    words = f"{facts['version']} ({built})"
    broken = {name: result for name, result in facts["gpus"].items() if result != "16.0"}
    if broken:
        told = "; ".join(f"{name}: {result}" for name, result in broken.items())
        return Judgement(Level.FAILED, f"{words}: {told}", "install a torch whose kernels know this GPU")
    if driver.get("gpus") and not facts["cuda"]:
        return Judgement(Level.WARNING, f"{words}, though there is a GPU", "install a CUDA build of torch")
    if facts["cuda"] and not facts["cuda_is_available"]:
        newest = driver.get("newest_cuda")
        why = f"the driver serves CUDA up to {newest}" if newest else "there is no NVIDIA driver"
        level = Level.WARNING if newest else Level.OK
        return Judgement(level, f"{words}, runs on the CPU only: {why}", "update the driver" if newest else None)
    return Judgement(Level.OK, words + "".join(f", {name} computes" for name in facts["gpus"]))
