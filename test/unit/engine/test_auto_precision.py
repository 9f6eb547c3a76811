from __future__ import annotations

import pytest

from trt_perception.engine.auto_precision import Measured, choose_precision


def measured(fp16_drop: float, int8_drop: float) -> list[Measured]:
    return [
        Measured("fp32", 300_000, 0.99),
        Measured("fp16", 200_000, 0.99 - fp16_drop),
        Measured("int8", 100_000, 0.99 - int8_drop),
    ]


@pytest.mark.parametrize(
    ("fp16_drop", "int8_drop", "taken"),
    [(0.001, 0.01, "int8"), (0.001, 0.05, "fp16"), (0.03, 0.05, "fp32"), (0.05, 0.01, "int8"), (-0.01, 0.3, "fp16")],
)
def test_the_fastest_within_the_bound_is_taken(fp16_drop: float, int8_drop: float, taken: str) -> None:
    choice = choose_precision(measured(fp16_drop, int8_drop), 0.02)
    assert choice.precision == taken


def test_every_candidate_gets_its_reason() -> None:
    choice = choose_precision(measured(0.001, 0.05), 0.02)
    assert choice.reasons == (
        "fp32: 0.300 ms, mAP50 drop 0.0000: slower",
        "fp16: 0.200 ms, mAP50 drop 0.0010: taken",
        "int8: 0.100 ms, mAP50 drop 0.0500: loses more than 0.02",
    )
