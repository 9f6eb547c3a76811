from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from test.unit.tensorrt_runtime.fake_tensorrt import FakeLogger
from trt_perception.backends.tensorrt_runtime.trt_logger import collect, process_logger, receive


def test_errors_and_warnings_are_collected_by_whoever_listens() -> None:
    heard: list[str] = []
    with collect() as outer, collect(heard.append) as inner:
        receive("ERROR", "bad")
        receive("WARNING", "odd")
        receive("VERBOSE", "detail")
    receive("ERROR", "afterwards")
    assert outer.errors == inner.errors == ["bad"]
    assert inner.warnings == ["odd"]
    assert heard == ["bad", "odd", "detail"]
    assert inner.summary() == "bad"


def test_the_summary_is_never_empty_and_repeats_nothing() -> None:
    with collect() as messages:
        assert messages.summary() == "TensorRT gave no reason"
        receive("WARNING", "odd")
        receive("WARNING", "odd")
        assert messages.summary() == "odd"
        receive("INTERNAL_ERROR", "bad")
        assert messages.summary() == "bad"


def test_levels_reach_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="trt_perception.tensorrt")
    for severity in ("INTERNAL_ERROR", "WARNING", "INFO", "VERBOSE"):
        receive(severity, severity)
    assert [record.levelno for record in caplog.records] == [
        logging.ERROR,
        logging.WARNING,
        logging.DEBUG,
        logging.DEBUG,
    ]


def test_one_logger_a_library(caplog: pytest.LogCaptureFixture) -> None:
    library = SimpleNamespace(ILogger=FakeLogger)
    # SimpleNamespace is not hashable; modules are.
    module = type("Module", (), {"ILogger": library.ILogger})
    logger = process_logger(module)
    assert logger is process_logger(module) and logger.constructed
    logger.log(SimpleNamespace(name="WARNING"), "spoken")
    assert "spoken" in caplog.text
