"""`python -m test.fuzz`: random and damaged input for everything that reads what nobody vouches for.

`make fuzz CASES=1000000`. Exit 1 when anything but success or a PerceptionError came out; each finding says how to run
its case again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys

from test.fuzz.campaign import CASE_LIMIT_S, Campaign, run_campaign, shares
from test.fuzz.targets import TARGETS


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m test.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000, help="over all targets (default: %(default)s)")
    parser.add_argument("--target", action="append", choices=TARGETS, help="only this one; may stand several times")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="number of the first case; the same number "
                        "is always the same case (default: 0)")  # fmt: skip
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="at once (default: %(default)s)")
    parser.add_argument("--case", type=int, metavar="N", help="run this one case of --target in this process")
    parser.add_argument("--json", action="store_true", help="the result as JSON on standard output")
    args = parser.parse_args(arguments)
    chosen = {name: TARGETS[name] for name in args.target or TARGETS}
    if args.case is not None:
        for target in chosen.values():
            print(target.name, "accepted" if target.run_case(args.case) else "refused")
        return 0
    campaign = run_campaign(
        "test.fuzz.targets",
        shares(chosen, args.cases),
        first=args.first,
        processes=args.processes,
        tell=lambda words: print(words, file=sys.stderr, flush=True),
    )
    if args.json:
        print(json.dumps(document(campaign), indent=1))
    else:
        print("\n".join(lines(campaign)))
    return 1 if campaign.findings else 0


def lines(campaign: Campaign) -> list[str]:
    found = [f"{'target':<18}{'cases':>10}{'accepted':>10}{'cases/s':>10}"]
    for name, cases in campaign.cases.items():
        rate = cases / max(campaign.seconds.get(name, 0.0), 1e-9)
        share = campaign.accepted.get(name, 0) / max(cases, 1)
        found.append(f"{name:<18}{cases:>10}{share:>10.1%}{rate:>10.0f}")
    rate = campaign.total / max(campaign.wall_s, 1e-9)
    found.append(f"{campaign.total} cases in {campaign.wall_s:.0f} s ({rate:.0f} a second), no end in "
                 f"{CASE_LIMIT_S:g} s counts as a finding: {len(campaign.findings)} findings")  # fmt: skip
    for finding in campaign.findings:
        found += ["", f"python -m test.fuzz --target {finding.target} --case {finding.index}", finding.what]
    return found


def document(campaign: Campaign) -> dict[str, object]:
    return {
        "cases": campaign.total,
        "wall_s": round(campaign.wall_s, 1),
        "targets": {
            name: {"cases": cases, "accepted": campaign.accepted.get(name, 0)} for name, cases in campaign.cases.items()
        },
        "findings": [vars(finding) for finding in campaign.findings],
    }


if __name__ == "__main__":
    sys.exit(main())
