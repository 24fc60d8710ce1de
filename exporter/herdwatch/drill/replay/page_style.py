"""The shell of a drill's page: that of a report, and what it has besides: six lines a plot, wide tables, a banner."""

from __future__ import annotations

from string import Template

from herdwatch.operations.report.page_style import SHELL_OF_REPORT

LIGHT = "--c3: #1a7f37; --c4: #8250df; --c5: #be185d;"
DARK = "--c3: #4ac26b; --c4: #c297ff; --c5: #ff8fc7;"

STYLE = f"""
:root {{ {LIGHT} }}
@media (prefers-color-scheme: dark) {{ :root {{ {DARK} }} }}
nav, main {{ max-width: 80rem; }}
figure {{ min-width: 0; }}
.key {{ white-space: normal; overflow-wrap: anywhere; }}
.key svg {{ width: 3rem; height: .95rem; vertical-align: -.15rem; }}
.c3 {{ stroke: var(--c3); stroke-dasharray: 16 4; }}
.c4 {{ stroke: var(--c4); stroke-dasharray: 9 3 2 3; }}
.c5 {{ stroke: var(--c5); stroke-dasharray: 1 5; stroke-width: 3.5; stroke-linecap: round; }}
.limit {{ stroke: var(--ink); stroke-width: 1; }}
.plot .limited {{ fill: var(--ink); }}
.pairs {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); gap: 1.25rem 2rem;
  align-items: end; }}
.pairs figure {{ margin: 0; }}
.claims table, .planned table {{ min-width: 46rem; }}
.runs table {{ font-size: .85rem; }}
.runs th, .runs td {{ padding: .35rem .5rem; }}
.runs td {{ white-space: nowrap; font-variant-numeric: tabular-nums; }}
.runs td:nth-child(12) {{ white-space: normal; }}
.runs th {{ vertical-align: bottom; }}
.runs tr > :first-child {{ position: sticky; left: 0; max-width: 9rem; overflow-wrap: break-word; }}
.runs th[scope="row"] {{ vertical-align: top; }}
.claims th[scope="row"], .planned th[scope="row"] {{ font-weight: normal; }}
.holds {{ font-weight: 600; color: var(--c3); }}
.banner {{ margin: 1rem 0; padding: .5rem 1rem; border: 2px solid var(--bad); border-radius: 6px; }}
.banner p {{ margin: .25rem 0; }}
.note {{ color: var(--quiet); font-size: .9rem; }}
.verdicts {{ list-style: none; padding: 0; }}
.verdicts li {{ display: grid; grid-template-columns: 2.5rem 1fr; }}
@media (max-width: 40rem) {{
  .claims table, .planned table {{ min-width: 0; }}
  .claims :is(th, td), .planned :is(th, td) {{ overflow-wrap: anywhere; padding: .3rem; font-size: .85rem; }}
}}
@media print {{
  :root {{ {LIGHT} }}
  .runs table {{ font-size: .55rem; }} .runs th, .runs td {{ padding: .15rem .2rem; white-space: normal; }}
  .runs tr > :first-child {{ position: static; min-width: 0; }}
  .claims table, .planned table {{ min-width: 0; }}
}}
""".strip()

SHELL_OF_DRILL = Template(SHELL_OF_REPORT.template.replace("</style>", f"{STYLE}\n</style>"))
