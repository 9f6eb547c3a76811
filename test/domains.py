"""ROS domains for tests: each graph has its own, and none is the one that the user's shell is in."""

from __future__ import annotations

import itertools
import os
import random
import socket
from collections import deque

# 0, where robots are by default, stays out; above 101 the ports may be taken by outgoing connections on Linux.
_DOMAINS = [d for d in range(1, 102) if str(d) != os.environ.get("ROS_DOMAIN_ID")]
random.Random(os.getpid()).shuffle(_DOMAINS)
_next = itertools.cycle(_DOMAINS)
# One graph follows the other in a process, and few exist at once.
_held: deque[socket.socket] = deque(maxlen=16)


def private_domain() -> int:
    """A domain that no other graph is in, of this process or of another test run on this machine.

    Two runs side by side would otherwise hear each other now and then, and fail where nothing is wrong. A name in
    Linux's abstract socket namespace marks a domain as taken and goes with the process.
    """
    for domain in itertools.islice(_next, len(_DOMAINS)):
        mark = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            mark.bind(f"\0trt_perception_test_domain_{domain}")
        except OSError:
            mark.close()
            continue
        if len(_held) == _held.maxlen:
            _held[0].close()
        _held.append(mark)
        return domain
    raise RuntimeError(f"all of the {len(_DOMAINS)} ROS domains are taken by test runs on this machine")
