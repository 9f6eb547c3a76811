"""A short run over every target, and proof that a campaign finds what it looks for. `make fuzz` runs the whole."""

from __future__ import annotations

import pytest

from test.fuzz.campaign import run_campaign, shares
from test.fuzz.target import Target
from test.fuzz.targets import TARGETS

CASES = 300


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_bad_input_is_refused_and_nothing_else_happens(target: Target) -> None:
    accepted = sum(target.run_case(index) for index in range(max(round(CASES * min(target.weight, 1.0)), 20)))
    assert accepted > 0, "no input is ever good enough to be looked at closely"


@pytest.mark.parametrize(
    ("planted", "words"),
    [
        ("raises", "KeyError: 'planted'"),
        ("hangs", "no end within 1 s"),
        ("dies", "the process ended with 9"),
        ("allocates", "MemoryError"),
    ],
)
def test_a_fault_is_found_and_its_case_is_named(planted: str, words: str) -> None:
    campaign = run_campaign("test.fuzz.planted", {planted: 9}, case_limit_s=1.0)
    assert campaign.total == 9
    assert campaign.findings and all(words in finding.what for finding in campaign.findings)
    again = run_campaign("test.fuzz.planted", {planted: 1}, first=campaign.findings[0].index, case_limit_s=1.0)
    assert [finding.index for finding in again.findings] == [campaign.findings[0].index]


def test_good_targets_have_no_findings() -> None:
    campaign = run_campaign("test.fuzz.planted", {"good": 1000})
    assert campaign.findings == [] and 400 < campaign.accepted["good"] < 600


def test_every_target_gets_its_share() -> None:
    counts = shares(TARGETS, 100_000)
    assert set(counts) == set(TARGETS) and min(counts.values()) > 0
    assert abs(sum(counts.values()) - 100_000) < len(TARGETS)
