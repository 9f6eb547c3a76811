"""Opens damaged copies of an artifact, in a process of its own: a library that crashes must not take the tests along.

python -m test.contract.damage REQUEST ARTIFACT FOLDER: prints how many copies were opened and how many refused.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from test.contract.small_network import batch_of
from trt_perception.backend_request import BackendRequest
from trt_perception.backends import backend_class
from trt_perception.errors import BackendError

FLIPS = 80


def damaged(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Truncated, emptied, overwritten and bit-flipped copies."""
    for share in (0, 1, 10, 50, 90, 99):
        yield f"the first {share} %", content[: len(content) * share // 100]
    yield "one byte short", content[:-1]
    yield "zeros", bytes(len(content))
    yield "noise", np.random.default_rng(0).bytes(len(content))
    yield "another format", b"GIF89a" + content
    for seed in range(FLIPS):
        random = np.random.default_rng(seed)
        copy = bytearray(content)
        for position in random.integers(0, len(copy), 1 + seed % 4):
            copy[position] ^= 1 << int(random.integers(0, 8))
        yield f"flips {seed}", bytes(copy)


def main(request: str, artifact: Path, folder: Path) -> None:
    parsed = BackendRequest.parse(request)
    outcome = {"opened": 0, "refused": 0}
    # An engine is told from a damaged one by the manifest beside it.
    manifest = artifact.with_name(artifact.name + ".json")
    if manifest.is_file():
        (folder / manifest.name).write_bytes(manifest.read_bytes())
    for what, content in damaged(artifact.read_bytes()):
        print(what, file=sys.stderr, flush=True)
        path = folder / artifact.name
        path.write_bytes(content)
        backend = backend_class(parsed.name)(parsed, path)
        try:
            with backend:
                backend.infer(batch_of(1))
            outcome["opened"] += 1
        except BackendError as error:
            assert not backend.is_open
            assert str(path) in str(error) or request in str(error), error
            outcome["refused"] += 1
    print(json.dumps(outcome))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
