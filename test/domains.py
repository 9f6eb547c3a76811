"""ROS domains for tests: each graph has its own, and none is the one that the user's shell is in."""

from __future__ import annotations

import itertools
import os
import random

# 0, where robots are by default, stays out; above 101 the ports may be taken by outgoing connections on Linux.
_DOMAINS = [d for d in range(1, 102) if str(d) != os.environ.get("ROS_DOMAIN_ID")]
random.Random(os.getpid()).shuffle(_DOMAINS)
_next = itertools.cycle(_DOMAINS)


def private_domain() -> int:
    """A domain that no other test of this process is in."""
    return next(_next)
