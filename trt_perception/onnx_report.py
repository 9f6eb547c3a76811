"""What an ONNX file holds, told by the onnx package; the one module of `inspect` that imports it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trt_perception.errors import ModelFileError
from trt_perception.onnx_package import onnx_package


@dataclass(frozen=True)
class OnnxTensor:
    """An input or output; an axis is a size, the name of a free size, or `?` for a free one without a name."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    @property
    def dynamic_axes(self) -> tuple[int, ...]:
        """Positions of the axes whose size is free."""
        return tuple(i for i, size in enumerate(self.shape) if not isinstance(size, int))


@dataclass(frozen=True)
class OnnxReport:
    """opset: domain → version, the empty domain being ONNX's own. operators: type → number of nodes, those inside If
    and Loop bodies included, most frequent first. parameters: number of values in the weights.
    """

    producer: str
    ir_version: int
    opset: dict[str, int]
    inputs: tuple[OnnxTensor, ...]
    outputs: tuple[OnnxTensor, ...]
    operators: dict[str, int]
    parameters: int


def report_onnx(path: Path) -> OnnxReport:
    """Reads the file, not the weights beside it; raises PerceptionError without onnx, ModelFileError for no ONNX."""
    library = onnx_package("reading the graph of an ONNX file")
    model = _load(library, path)
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    producer = " ".join(map(_text, filter(None, (model.producer_name, model.producer_version))))
    return OnnxReport(
        producer=producer or "not stated",
        ir_version=model.ir_version,
        opset={_text(entry.domain): entry.version for entry in model.opset_import},
        inputs=tuple(_tensor(library, value) for value in graph.input if value.name not in weights),
        outputs=tuple(_tensor(library, value) for value in graph.output),
        operators=dict(Counter(_operators(graph)).most_common()),
        parameters=sum(_product(tensor.dims) for tensor in graph.initializer),
    )


def check_onnx(path: Path) -> list[str]:
    """Problems that onnx.checker and shape inference find, empty when there are none; raises as report_onnx does."""
    library = onnx_package("reading the graph of an ONNX file")
    _load(library, path)
    problems = []
    checks: dict[str, Callable[[], object]] = {
        "checker": lambda: library.checker.check_model(str(path)),
        "shape inference": lambda: library.shape_inference.infer_shapes(
            library.load(str(path)), check_type=True, strict_mode=True, data_prop=True
        ),
    }
    for name, check in checks.items():
        try:
            check()
        except Exception as error:  # several classes of the library and of its C++ part, which share no other base
            problems.append(f"{name}: {_first_lines(error)}")
    return problems


def _load(library: Any, path: Path) -> Any:
    try:
        model = library.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's error, whose module depends on its version
        raise ModelFileError(f"{path} is no ONNX file ({_first_lines(error)}); export it again") from error
    return model


def _tensor(library: Any, value: Any) -> OnnxTensor:
    tensor = value.type.tensor_type
    try:
        dtype = str(library.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    except KeyError:
        dtype = "no tensor"
    shape = tuple(d.dim_value if d.HasField("dim_value") else _text(d.dim_param) or "?" for d in tensor.shape.dim)
    return OnnxTensor(_text(value.name), dtype, shape)


def _text(value: str | bytes) -> str:
    """protobuf gives bytes where a text is not UTF-8."""
    return value if isinstance(value, str) else value.decode("utf-8", "replace")


def _operators(graph: Any) -> Iterator[str]:
    for node in graph.node:
        domain, kind = _text(node.domain), _text(node.op_type)
        yield f"{domain}.{kind}" if domain not in ("", "ai.onnx") else kind
        for attribute in node.attribute:
            for body in (*attribute.graphs, *((attribute.g,) if attribute.HasField("g") else ())):
                yield from _operators(body)


def _product(sizes: Iterable[int]) -> int:
    product = 1
    for size in sizes:
        product *= size
    return product


def _first_lines(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2]) or type(error).__name__
