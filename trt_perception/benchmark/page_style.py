"""How the page looks: on a wide screen, on a phone, in the dark and in print."""

from __future__ import annotations

# Okabe and Ito's colours, which people who see fewer colours tell apart too (https://jfly.uni-koeln.de/color/).
STAGE_COLORS = {
    "preprocess": "#56b4e9",
    "host_to_device": "#f0e442",
    "inference": "#0072b2",
    "device_to_host": "#e69f00",
    "postprocess": "#009e73",
}
VERDICT_COLORS = {"real_time": "#009e73", "borderline": "#e69f00", "over_budget": "#d55e00"}

STYLE = """\
:root { --ink: #1b1f24; --dim: #57606a; --paper: #ffffff; --line: #d0d7de; --soft: #f3f5f7; color-scheme: light dark; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --dim: #9aa5b1; --paper: #0f1419; --line: #30363d; --soft: #1a2129; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 72rem; color: var(--ink); background: var(--paper);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
p, ul { margin: .3rem 0; }
ul { padding-left: 1.2rem; }
.dim { color: var(--dim); font-size: .875rem; overflow-wrap: anywhere; }
.recommended { background: var(--soft); border-left: 4px solid #009e73; padding: .7rem 1rem; margin: 1rem 0; }
.problem { border-left: 4px solid #d55e00; padding: .2rem 1rem; margin: .6rem 0; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; white-space: nowrap; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
.wide th:first-child, .wide td:first-child { position: sticky; left: 0; background: var(--paper); }
.facts { white-space: normal; width: 100%; }
.facts td { text-align: left; vertical-align: top; }
th { color: var(--dim); font-weight: 600; }
.row { margin: .7rem 0; }
.name { display: flex; justify-content: space-between; gap: 1rem; font-size: .9rem; flex-wrap: wrap; }
.track { position: relative; height: 1.4rem; background: var(--soft); display: flex; }
.bar { height: 100%; min-width: 1px; }
.mark { position: absolute; top: -.2rem; bottom: -.2rem; border-left: 2px solid var(--ink); }
.mark.faint { border-left: 1px dashed var(--dim); }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1rem; font-size: .85rem; }
.legend i { display: inline-block; width: .8rem; height: .8rem; margin-right: .35rem; vertical-align: -.05rem; }
svg { display: block; width: 100%; height: 4.5rem; background: var(--soft); }
.axis { display: flex; justify-content: space-between; font-size: .8rem; color: var(--dim); }
@media print {
  :root { --ink: #000; --dim: #333; --paper: #fff; --line: #999; --soft: #eee; }
  body { max-width: none; padding: 0; font-size: 11px; }
  .bar, .legend i, .track, svg, .recommended { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  .row, .problem, tr { break-inside: avoid; }
  h2 { break-after: avoid; }
  .wide { overflow: visible; }
}
"""
