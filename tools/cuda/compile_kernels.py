"""Compiles data/cuda/*.cu to PTX that the drivers of CUDA 11.4 and newer load, for sm_72 and newer.

    pip install nvidia-cuda-nvrtc-cu11==11.8.89
    python -m tools.cuda.compile_kernels [--check-with PTXAS]

NVRTC of CUDA 11 is the newest that knows sm_72 (Jetson Xavier), and no nvcc or GPU is needed. It names its own PTX
version, which drivers of CUDA 11.4 do not know; the kernels use nothing newer than PTX ISA 7.0, so that version is
written instead. ptxas refuses an instruction that is newer than the version, which --check-with lets it look for.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import importlib.util
import re
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "trt_perception" / "data" / "cuda"
TARGET = "72"
PTX_VERSION = "7.0"
_OPTIONS = (f"--gpu-architecture=compute_{TARGET}", "--std=c++14", "--fmad=false")


def compile_to_ptx(source: Path, library: Path) -> str:
    """The PTX of one file, with the hash of its source in front; raises RuntimeError with the compiler's log."""
    nvrtc = ctypes.CDLL(str(library))
    text = source.read_bytes()
    program = ctypes.c_void_p()
    _must(nvrtc.nvrtcCreateProgram(ctypes.byref(program), text, source.name.encode(), 0, None, None))
    options = (ctypes.c_char_p * len(_OPTIONS))(*(o.encode() for o in _OPTIONS))
    code = nvrtc.nvrtcCompileProgram(program, len(_OPTIONS), options)
    if code:
        raise RuntimeError(_text(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, program))
    ptx = _text(nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX, program)
    ptx, replaced = re.subn(r"^\.version \S+$", f".version {PTX_VERSION}", ptx, flags=re.MULTILINE)
    if replaced != 1:
        raise RuntimeError("the compiler's PTX does not have one .version line")
    body = "\n".join(line for line in ptx.splitlines() if line.strip() and not line.startswith("//"))
    return f"// {source_hash(source)} of {source.name}; made by tools/cuda/compile_kernels.py\n{body}\n"


def source_hash(source: Path) -> str:
    """What the first line of the PTX says: the SHA-256 of the source it was made from."""
    return "sha256:" + hashlib.sha256(source.read_bytes()).hexdigest()


def nvrtc_library() -> Path:
    """libnvrtc of the installed wheel of CUDA 11; raises FileNotFoundError that says what to install."""
    spec = importlib.util.find_spec("nvidia")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for path in sorted((Path(folder) / "cuda_nvrtc" / "lib").glob("libnvrtc.so.11*")):
            return path
    raise FileNotFoundError("NVRTC of CUDA 11 is not installed: pip install nvidia-cuda-nvrtc-cu11==11.8.89")


def _must(code: int) -> None:
    if code:
        raise RuntimeError(f"NVRTC failed with error {code}")


def _text(size_of: ctypes._NamedFuncPointer, text_of: ctypes._NamedFuncPointer, program: ctypes.c_void_p) -> str:
    size = ctypes.c_size_t()
    _must(size_of(program, ctypes.byref(size)))
    buffer = ctypes.create_string_buffer(size.value)
    _must(text_of(program, buffer))
    return buffer.value.decode()


def main() -> int:
    """Writes a .ptx beside each .cu."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check-with", metavar="PTXAS", help="assemble the result for sm_75 with this ptxas")
    args = parser.parse_args()
    for source in sorted(FOLDER.glob("*.cu")):
        target = source.with_suffix(".ptx")
        target.write_text(compile_to_ptx(source, nvrtc_library()))
        print(f"{target.name}: {target.stat().st_size} bytes")
        if args.check_with:
            with tempfile.NamedTemporaryFile(suffix=".cubin") as out:
                line = [args.check_with, "--verbose", "--gpu-name=sm_75", str(target), "--output-file", out.name]
                subprocess.run(line, check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
