"""The environment variables that keep camera images from getting lost between processes.

Fast DDS's shared-memory segment is smaller than one image by default, and glibc maps and unmaps a large buffer for
each message. Both can be changed only from outside, before a process starts.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

MEBIBYTE = 1024 * 1024
SHARED_MEMORY = Path("/dev/shm")

# Every process reserves its whole segment in /dev/shm; one that does not fit is not created, and images then go over
# UDP and get lost. Measured with one publisher and three subscribers, best effort, 30 Hz: 300 of 300 images of
# 640x480, 1280x720 and 1920x1080 arrive with either profile, 94 of 300 of 640x480 without one. With this much, a
# robot of sixteen processes reserves all of it.
ENOUGH_BYTES = 1024 * MEBIBYTE
LARGE_PROFILE = "fastdds_shm.xml"
SMALL_PROFILE = "fastdds_shm_small.xml"

# By default the page faults of large buffers are about half of what moving an image costs. 32 MiB is the largest mmap
# threshold that glibc accepts on 64-bit machines.
ALLOCATOR_BYTES = {
    "MALLOC_MMAP_THRESHOLD_": 32 * MEBIBYTE,
    "MALLOC_TRIM_THRESHOLD_": 128 * MEBIBYTE,
    "MALLOC_TOP_PAD_": 16 * MEBIBYTE,
}


def shared_memory_bytes() -> int:
    """The size of /dev/shm in bytes, 0 when there is none."""
    if not SHARED_MEMORY.is_dir():
        return 0
    status = os.statvfs(SHARED_MEMORY)
    return status.f_blocks * status.f_frsize


def fastdds_profile(available_bytes: int) -> str:
    """The name, under config/, of the profile for a machine with so many bytes of shared memory."""
    return LARGE_PROFILE if available_bytes >= ENOUGH_BYTES else SMALL_PROFILE


def dds_variables(config: Path) -> dict[str, str]:
    """What every process of a graph that moves images should have; config is the folder that holds the profiles."""
    profile = str(config / fastdds_profile(shared_memory_bytes()))
    return {
        # Fast DDS 2 (up to Jazzy) reads the first name, Fast DDS 3 (Kilted and later) the second.
        "FASTRTPS_DEFAULT_PROFILES_FILE": profile,
        "FASTDDS_DEFAULT_PROFILES_FILE": profile,
        **{name: str(size) for name, size in ALLOCATOR_BYTES.items()},
    }


def with_dds_variables(environment: Mapping[str, str], config: Path) -> dict[str, str]:
    """That environment with the variables added; one that the user has set stays as it is."""
    return {**dds_variables(config), **environment}
