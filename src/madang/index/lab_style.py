"""The report's style sheet: light and dark, as the reader's system says."""

STYLE = """
:root { --paper: #ffffff; --ink: #1d2127; --soft: #5b6470; --line: #dfe3e8; --panel: #f5f7f9; --good: #0b7a53;
  --bad: #b3261e; --c1: #2563c9; --c2: #c2540a; --c3: #0f8a63; --c4: #a2388c; --c5: #8a6d00; --c6: #00809c;
  --c7: #c2334d; --c8: #5b4fd1; --muted: #b9c0c8; color-scheme: light dark }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14171b; --ink: #e6e9ed; --soft: #9aa4b0; --line: #2c323a; --panel: #1c2026; --good: #4cc596;
    --bad: #ff8a80; --c1: #6ea3ff; --c2: #ff9b57; --c3: #3fcf9b; --c4: #e183cf; --c5: #d9b73c; --c6: #4cc7e6;
    --c7: #ff7d92; --c8: #a79cff; --muted: #4d5662 } }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif }
main { max-width: 1080px; margin: 0 auto; padding: 24px 20px 60px }
h1 { font-size: 26px; margin: 0 0 4px } h2 { font-size: 18px; margin: 0 0 8px }
.lead, figcaption, dd { color: var(--soft) } figcaption b { color: var(--ink); display: block }
.best { border-left: 4px solid var(--good); background: var(--panel); padding: 14px 18px; margin: 18px 0 }
.best.missed { border-color: var(--bad) } .best p { margin: 4px 0 }
pre { background: var(--paper); border: 1px solid var(--line); padding: 10px 12px; margin: 10px 0 0; overflow-x: auto }
code { font: 14px/1.4 ui-monospace, monospace }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 4px 18px; padding: 0; margin: 0 0 8px }
.swatch { width: 26px; height: 12px; margin-right: 6px; vertical-align: -1px }
main { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr)); gap: 8px 32px }
h1, .lead, section, .legend { grid-column: 1 / -1 } .lead { margin: 0 }
figure { margin: 14px 0 0; min-width: 0 } .chart { width: 100%; height: auto; display: block }
.grid { stroke: var(--line); stroke-width: 1 } .limit { stroke: var(--good); stroke-width: 1.5; stroke-dasharray: 5 4 }
text { fill: var(--soft); font: 15px system-ui, sans-serif } .axis { font-size: 16px }
.middle { text-anchor: middle } .end, .name { text-anchor: end } .value { fill: var(--ink) }
.stroke { fill: none; stroke: currentColor; stroke-width: 2 } .dot { fill: currentColor }
.dot:hover { stroke: var(--ink); stroke-width: 2 } .whisker { stroke: currentColor; stroke-width: 1.5; opacity: .55 }
.bar { fill: currentColor } .muted { color: var(--muted) } .muted .stroke { stroke-width: 1 }
.c1 { color: var(--c1) } .c2 { color: var(--c2) } .c3 { color: var(--c3) } .c4 { color: var(--c4) }
.c5 { color: var(--c5) } .c6 { color: var(--c6) } .c7 { color: var(--c7) } .c8 { color: var(--c8) }
section { margin-top: 24px } .wide { overflow-x: auto }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; white-space: nowrap }
th, td { padding: 4px 10px; border-bottom: 1px solid var(--line); text-align: right }
th { color: var(--soft); font-weight: 600 } th:first-child, td:first-child { text-align: left }
tr.good, tr.chosen { font-weight: 600 } tr.chosen td { background: var(--panel); border-bottom-color: var(--good) }
dt { font-weight: 600 } dd { margin: 0 0 6px }
@media print { .best, tr.chosen td { background: none } }
"""
