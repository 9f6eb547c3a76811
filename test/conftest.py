"""A private graph for the tests that need one; ROS 2 is imported by those alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from test.ros.graph import Graph


@pytest.fixture
def graph() -> Iterator[Graph]:
    from test.ros.graph import Graph

    with Graph() as graph:
        yield graph
