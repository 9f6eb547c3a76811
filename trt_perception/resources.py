"""Finds the files that come with the package: model files, the node's parameter file, Fast DDS's profile."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from trt_perception.errors import PerceptionError

_PACKAGE = Path(__file__).resolve().parent


def share_directory() -> Path:
    """The folder that holds config/ and launch/.

    That is the checkout when the package runs from one, else `share/trt_perception` of the prefix it is installed
    in (a colcon install space, a ROS distribution, a Python environment). Raises PerceptionError when none has it.
    """
    prefixes = [_PACKAGE.parents[3], _PACKAGE.parents[4]] if len(_PACKAGE.parents) > 4 else []
    prefixes += [Path(p) for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    prefixes.append(Path(sys.prefix))
    candidates = [_PACKAGE.parent, *(prefix / "share" / "trt_perception" for prefix in prefixes)]
    for candidate in candidates:
        if (candidate / "config" / "models").is_dir():
            return candidate
    looked = ", ".join(str(c) for c in candidates)
    raise PerceptionError(f"the package's config/ folder was not found (looked in {looked}); install the package again")


def model_directory() -> Path:
    """Where the model files that come with the package lie."""
    return share_directory() / "config" / "models"
