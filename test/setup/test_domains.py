"""Test runs side by side do not hear each other."""

from __future__ import annotations

import subprocess
import sys

from test import domains
from tools.setup.layout import this_checkout

OTHER_RUN = """
import itertools, sys
from test import domains
domains._DOMAINS = [int(sys.argv[1])]
domains._next = itertools.cycle(domains._DOMAINS)
print(domains.private_domain())
"""


def other_run(domain: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", OTHER_RUN, str(domain)]
    return subprocess.run(command, cwd=this_checkout().root, capture_output=True, text=True, timeout=60)


def test_a_domain_that_is_in_use_is_not_given_to_another_run() -> None:
    taken = domains.private_domain()
    assert "taken by other tests" in other_run(taken).stderr
    for _ in range(20):  # a run holds the newest only
        domains.private_domain()
    assert other_run(taken).stdout.strip() == str(taken)


def test_no_two_of_one_run_are_the_same_for_long() -> None:
    newest = [domains.private_domain() for _ in range(16)]
    assert len(set(newest)) == 16
