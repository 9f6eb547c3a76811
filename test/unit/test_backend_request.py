"""`NAME[:DEVICE][:PRECISION]` is read as documented, and anything else is refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trt_perception.backend_request import PRECISIONS, BackendRequest
from trt_perception.errors import PerceptionError

devices = st.one_of(st.sampled_from([None, "cpu", "cuda", "tensorrt"]), st.integers(0, 99).map("cuda:{}".format))


@pytest.mark.parametrize(
    ("text", "request_"),
    [
        ("onnxruntime", BackendRequest("onnxruntime")),
        ("onnxruntime:cpu", BackendRequest("onnxruntime", "cpu")),
        ("onnxruntime:tensorrt:fp16", BackendRequest("onnxruntime", "tensorrt", "fp16")),
        ("torchscript:cuda:fp16", BackendRequest("torchscript", "cuda", "fp16")),
        ("torchscript:cuda:1:fp16", BackendRequest("torchscript", "cuda:1", "fp16")),
        ("tensorrt:int8", BackendRequest("tensorrt", None, "int8")),
        (" my_backend2 ", BackendRequest("my_backend2")),
    ],
)
def test_what_is_asked_for(text: str, request_: BackendRequest) -> None:
    assert BackendRequest.parse(text) == request_


@given(
    name=st.from_regex(r"[a-z][a-z0-9_]*", fullmatch=True),
    device=devices,
    precision=st.sampled_from((None, *PRECISIONS)),
)
def test_a_request_reads_back_as_it_prints(name: str, device: str | None, precision: str | None) -> None:
    request = BackendRequest(name, device, precision)
    assert BackendRequest.parse(str(request)) == request


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "OnnxRuntime",
        "onnxruntime:",
        "onnxruntime:gpu",
        "onnxruntime:cpu:0",
        "onnxruntime:fp16:cpu",
        "onnxruntime:cpu:fp16:x",
        "torchscript:cuda:-1",
        "torchscript:cuda:1.5",
        "torchscript:cuda:fp64",
        "on nx",
        "onnxruntime,torchscript",
    ],
)
def test_anything_else_is_refused_with_the_form_and_examples(text: str) -> None:
    with pytest.raises(PerceptionError) as caught:
        BackendRequest.parse(text)
    message = str(caught.value)
    assert repr(text) in message
    assert "NAME[:DEVICE][:PRECISION]" in message
    assert "onnxruntime:cpu" in message


@given(st.text(max_size=30))
def test_no_text_raises_anything_else(text: str) -> None:
    with contextlib.suppress(PerceptionError):
        BackendRequest.parse(text)
