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

# A name in the kernel for each domain that this process has taken lately, so that two test runs on one machine do not
# meet; more graphs than these are never open at once.
_taken: deque[socket.socket] = deque(maxlen=16)


def private_domain() -> int:
    """A domain that no other test on this machine is in."""
    for domain in itertools.islice(_next, len(_DOMAINS)):
        name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            name.bind(f"\0trt_perception_test_domain_{domain}")
        except OSError:
            name.close()
            continue
        _taken.append(name)
        return domain
    raise RuntimeError("all ROS domains are taken by other tests on this machine; wait until they have ended")
