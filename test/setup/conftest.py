from __future__ import annotations

import sys
from pathlib import Path

from tools.setup.layout import this_checkout

collect_ignore_glob: list[str] = []
if Path(sys.prefix).resolve() != this_checkout().venv.resolve():
    # Under a ROS distribution there is no .venv, and these tests are about nothing else.
    collect_ignore_glob.append("test_*.py")
