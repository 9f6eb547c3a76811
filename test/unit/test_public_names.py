"""The names that `import trt_perception` offers."""

from __future__ import annotations

import pytest

import trt_perception


def test_every_public_name_is_there_and_listed() -> None:
    assert set(trt_perception.__all__) <= set(dir(trt_perception))
    for name in trt_perception.__all__:
        assert getattr(trt_perception, name) is not None


def test_another_name_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(AttributeError, match=r"has no attribute 'Detectors'; it offers .*Detector"):
        trt_perception.Detectors  # noqa: B018
