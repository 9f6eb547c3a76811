"""How steadily a machine runs the interpreter, with no GPU, no ROS and nothing of this package in it.

`[taskset -c CORE] python -m benchmarks.host_steadiness [ROUNDS]` times the same few calls of NumPy again and again, as
many as a frame on the GPU's short way has on the host (some 50 µs), with 300 µs of busy waiting in between. It prints
their spread as a whole and by twelfths, and how often the clock jumps while nothing is done but reading it. Where the
same work takes twice as long for seconds (a core shared with somebody else's thread, a clock that changes), no program
on that core has a narrow p99.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

ROUNDS = 3000
TWELFTHS = 12
_CALLS = 10
_WAIT_NS = 300_000
_WARM_UP = 100
_LOOKING_NS = 1_500_000_000
# Reading the clock takes a tenth of a microsecond; what is longer than this was somebody else.
_JUMP_NS = 5_000


def jumps() -> list[int]:
    """Nanoseconds of every jump of the clock in _LOOKING_NS, as the kernel's hwlat detector looks for them."""
    found: list[int] = []
    last = time.perf_counter_ns()
    end = last + _LOOKING_NS
    while last < end:
        now = time.perf_counter_ns()
        if now - last > _JUMP_NS:
            found.append(now - last)
        last = now
    return found


def fixed_work(rounds: int) -> list[float]:
    """Microseconds of each round."""
    boxes = np.random.default_rng(0).random((20, 4), np.float32)
    ones = np.ones(4, np.float32)
    spent: list[float] = []
    for index in range(_WARM_UP + rounds):
        start = time.perf_counter_ns()
        for _ in range(_CALLS):
            mapped = boxes - ones
            mapped /= ones
            np.maximum(mapped, ones, out=mapped)
            np.minimum(mapped, ones, out=mapped)
            mapped.copy()
        end = time.perf_counter_ns()
        if index >= _WARM_UP:
            spent.append((end - start) / 1e3)
        while time.perf_counter_ns() < end + _WAIT_NS:
            pass
    return spent


def main() -> None:
    """Prints both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rounds", type=int, nargs="?", default=ROUNDS)
    rounds = parser.parse_args().rounds
    found = jumps()
    seconds = _LOOKING_NS / 1e9
    longest = max(found, default=0) / 1e3
    print(f"the clock jumped {len(found) / seconds:.0f} times a second, by up to {longest:.0f} us", end=", ")
    print(f"{sum(found) / _LOOKING_NS:.2%} of the time")
    spent = fixed_work(rounds)
    p50, p95, p99 = np.percentile(spent, (50, 95, 99))
    print(f"the same work: p50 {p50:.1f} us, p95 {p95:.1f}, p99 {p99:.1f}, p99/p50 {p99 / p50:.2f}")
    parts = [np.percentile(part, (50, 99)) for part in np.array_split(spent, TWELFTHS)]
    print("by twelfths: p50", *(f"{part[0]:.1f}" for part in parts))
    print("         p99/p50", *(f"{part[1] / part[0]:.2f}" for part in parts))


if __name__ == "__main__":
    main()
