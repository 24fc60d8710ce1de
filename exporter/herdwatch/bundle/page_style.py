"""The shell and the style of a runbook page: one file, no script, nothing fetched from anywhere."""

from __future__ import annotations

from string import Template

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fff; --ink: #1d2329; --quiet: #57606a; --line: #d4d9df; --box: #f4f6f8; --link: #0a58b0; --mark: #b42318;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14181d; --ink: #e2e7ec; --quiet: #9aa5b1; --line: #353d46; --box: #1d232a; --link: #7ab7ff;
    --mark: #ff8d7f;
  }
}
* { box-sizing: border-box; }
html { scroll-padding-top: 1rem; -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 1rem/1.55 system-ui, sans-serif; }
nav, main { max-width: 52rem; margin: 0 auto; padding: 0 1rem; }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1rem; padding-top: .75rem; font-size: .9rem; }
nav a { padding: .25rem 0; }
main { padding-bottom: 4rem; overflow-wrap: break-word; }
a { color: var(--link); text-underline-offset: .15em; }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; border-radius: 2px; }
.skip { position: absolute; left: -100vw; padding: .5rem 1rem; background: var(--paper); }
.skip:focus { left: 0; }
h1, h2, h3, h4 { line-height: 1.25; }
h1 { margin: 1rem 0; font-size: 1.8rem; }
h2 { margin: 2.25rem 0 .75rem; padding-bottom: .25rem; border-bottom: 1px solid var(--line); font-size: 1.35rem; }
h3 { margin: 1.75rem 0 .5rem; font-size: 1.1rem; }
.anchor { color: var(--quiet); font-weight: normal; text-decoration: none; opacity: 0; }
:is(h1, h2, h3, h4, h5, h6):hover .anchor, .anchor:focus-visible { opacity: 1; }
:target { color: var(--mark); }
p, li { max-width: 46rem; }
li { margin: .25rem 0; }
ol, ul { padding-left: 1.5rem; }
code, pre { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
code { padding: .1em .3em; border-radius: 4px; background: var(--box); font-size: .88em; }
pre { margin: .75rem 0; padding: .75rem 1rem; overflow-x: auto; border: 1px solid var(--line); border-radius: 6px;
  background: var(--box); line-height: 1.5; }
pre code { padding: 0; background: none; }
.table { margin: 1rem 0; overflow-x: auto; }
table { border-collapse: collapse; min-width: 28rem; width: 100%; font-size: .93rem; }
th, td { padding: .4rem .6rem; border: 1px solid var(--line); text-align: left; vertical-align: top; }
th { background: var(--box); }
.now { margin: 1rem 0 1.5rem; }
.now p { margin: .25rem 0; color: var(--quiet); font-size: .9rem; }
.now td:not(:nth-child(3)) { white-space: nowrap; }
.now .bad { color: var(--mark); font-weight: 600; }
blockquote { margin: 1rem 0; padding: .1rem 1rem; border-left: 4px solid var(--mark); }
@media (max-width: 40rem) {
  table { min-width: 0; }
  .now :is(table, tbody) { display: block; }
  .now thead { display: none; }
  .now tr { display: grid; grid-template-columns: 1fr auto auto; margin-bottom: -1px; border: 1px solid var(--line); }
  .now tr:last-child { margin-bottom: 0; }
  .now td { border: 0; }
  .now td:nth-child(3) { grid-area: 2 / 1 / auto / -1; padding-top: 0; overflow-wrap: anywhere; }
  .now td:nth-child(4)::before { content: "age "; color: var(--quiet); }
}
@media (hover: none) { .anchor { opacity: .6; } }
@media print { nav, .skip, .anchor { display: none; } pre { white-space: pre-wrap; } }
""".strip()

# A full stop cannot come out of a heading's text, so this id never meets a heading's.
MAIN_ID = "page.text"

SHELL = Template(
    f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="referrer" content="no-referrer">
<link rel="icon" href="data:,">
<title>$title</title>
<style>
{STYLE}
</style>
</head>
<body>
<a class="skip" href="#{MAIN_ID}">Skip to the text</a>
<nav aria-label="Runbooks">
$nav
</nav>
<main id="{MAIN_ID}">
$body</main>
</body>
</html>
"""
)
