"""The shell of a report: that of a runbook page, its policy with it, and what plots look like."""

from __future__ import annotations

from string import Template

from herdwatch.bundle.page_style import SHELL

_LIGHT = "--c0: #0a58b0; --c1: #b45309; --c2: #57606a; --bad: #b42318; --warn: #c77700; --note: #57606a;"
_DARK = "--c0: #7ab7ff; --c1: #f0a35e; --c2: #9aa5b1; --bad: #ff8d7f; --warn: #f2b84b; --note: #9aa5b1;"

STYLE = f"""
:root {{ {_LIGHT} }}
@media (prefers-color-scheme: dark) {{ :root {{ {_DARK} }} }}
figure {{ margin: 1.25rem 0 1.5rem; break-inside: avoid; }}
figcaption {{ display: flex; flex-wrap: wrap; gap: .1rem 1rem; align-items: baseline; }}
figcaption strong {{ margin-right: .25rem; }}
.key {{ font-size: .88rem; color: var(--quiet); white-space: nowrap; }}
.key svg {{ width: 1.6rem; height: .7rem; margin-right: .35rem; }}
.plot {{ display: block; overflow: visible; }}
.plot text {{ fill: var(--quiet); font-size: 12px; paint-order: stroke; stroke: var(--paper); stroke-width: 3px; }}
.plot .level {{ font-variant-numeric: tabular-nums; }}
.plot .pointer {{ fill: var(--ink); font-size: 10px; }}
.plot path, .key path {{ fill: none; vector-effect: non-scaling-stroke; }}
.grid {{ stroke: var(--line); stroke-width: 1; }}
.line {{ stroke-width: 2; stroke-linejoin: round; }}
.c0 {{ stroke: var(--c0); }}
.c1 {{ stroke: var(--c1); stroke-dasharray: 7 4; }}
.c2 {{ stroke: var(--c2); stroke-dasharray: 2 3; }}
.mark {{ stroke: var(--ink); stroke-width: 1.5; stroke-dasharray: 4 3; }}
.band {{ opacity: .16; }}
.critical {{ fill: var(--bad); }} .warning {{ fill: var(--warn); }} .other {{ fill: var(--note); }}
details {{ margin-top: .25rem; font-size: .9rem; }}
summary {{ color: var(--link); cursor: pointer; width: fit-content; padding: .2rem 0; }}
td.number, th.number {{ text-align: right; font-variant-numeric: tabular-nums; }}
td.when {{ white-space: nowrap; font-variant-numeric: tabular-nums; }}
td.where {{ min-width: 8rem; overflow-wrap: anywhere; }}
.bad {{ color: var(--bad); font-weight: 600; }}
.narrow table, .values table {{ min-width: 0; }}
.values {{ max-height: 22rem; overflow: auto; }}
.values table {{ width: auto; }}
.fill {{ min-height: 5rem; border: 1px dashed var(--line); border-radius: 6px; padding: .5rem .75rem; }}
@media print {{
  :root {{ color-scheme: light; --paper: #fff; --ink: #1d2329; --quiet: #57606a; --line: #d4d9df; --box: #f4f6f8;
    --link: #0a58b0; --mark: #b42318; {_LIGHT} }}
  details {{ display: none; }}
  .plot, .key svg {{ print-color-adjust: exact; -webkit-print-color-adjust: exact; }}
  .table {{ overflow: visible; }} table {{ min-width: 0; font-size: .78rem; }} td.when {{ white-space: normal; }}
  td {{ overflow-wrap: anywhere; }} td.where {{ min-width: 0; }}
  h2, h3 {{ break-after: avoid; }} tr, .fill {{ break-inside: avoid; }}
}}
""".strip()

SHELL_OF_REPORT = Template(
    SHELL.template.replace("</style>", f"{STYLE}\n</style>").replace('aria-label="Runbooks"', 'aria-label="Sections"')
)
