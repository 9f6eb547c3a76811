from __future__ import annotations

import pytest

from trt_perception.backends.tensorrt_runtime.versions import DIALECTS, dialect_for
from trt_perception.errors import BackendError


@pytest.mark.parametrize(
    ("version", "since"),
    [
        ((8, 5, 3), (8, 5)),
        ((8, 6, 0), (8, 6)),
        ((9, 3), (8, 6)),
        ((10, 0, 1), (10, 0)),
        ((10, 16, 1, 11), (10, 0)),
        ((11, 4, 0, 106), (11, 0)),
    ],
)
def test_the_newest_entry_that_is_not_newer_is_taken(version: tuple[int, ...], since: tuple[int, int]) -> None:
    assert dialect_for(version).since == since


@pytest.mark.parametrize("version", [(8, 4, 3), (7, 2), (12, 0)])
def test_other_versions_are_refused_with_the_range(version: tuple[int, ...]) -> None:
    with pytest.raises(BackendError, match=r"8\.5 to 11\.x are supported"):
        dialect_for(version)


def test_entries_are_in_order() -> None:
    assert [dialect.since for dialect in DIALECTS] == sorted(dialect.since for dialect in DIALECTS)


def test_what_changed_between_versions() -> None:
    old, new, newest = dialect_for((8, 5)), dialect_for((10, 3)), dialect_for((11, 4))
    assert old.version_compatible is None and new.version_compatible == "VERSION_COMPATIBLE"
    assert (old.half_by, new.half_by, newest.half_by) == ("flag", "flag", "convert")
    assert (old.int8_by, new.int8_by, newest.int8_by) == ("calibrate", "calibrate", "qdq")
    assert old.network_flags == ("EXPLICIT_BATCH",) and "EXPLICIT_BATCH" not in newest.network_flags
    assert newest.layer_precision_flag is None and newest.layer_preference_flag is None
    assert (old.progress_monitor, new.progress_monitor) == (False, True)
