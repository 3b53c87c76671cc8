"""Parts of the HTML pages: one look, nothing loaded from elsewhere, every text escaped."""

from __future__ import annotations

import base64
from html import escape

from lerobot_serl.report.curves import WrittenFigure

_STYLE = """
:root { color-scheme: light dark; --ground: #fff; --ink: #1d2327; --faint: #4d565e; --line: #e2e6e9; --panel: #f2f7fb; --accent: #0072b2;
        --warn: #fdf0e6; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #15191d; --ink: #e6e9ec; --faint: #a4aeb8; --line: #343c44; --panel: #1d2833; --accent: #6cb6e8; --warn: #3a2617; }
  figure img { background: #fff; border-radius: 6px; padding: 4px; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 52rem; background: var(--ground); color: var(--ink);
       font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .5rem 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .3rem; }
h3 { font-size: 1rem; margin: 1.6rem 0 0; }
h3 + figure { margin-top: .3rem; }
p { margin: .3rem 0; }
.summary { background: var(--panel); border-left: 4px solid var(--accent); border-radius: 4px; padding: .7rem 1rem; }
figure { margin: 2rem 0; }
figcaption { color: var(--faint); font-size: .95rem; margin-top: .4rem; }
.note { color: var(--faint); }
.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); margin: 0; }
img { display: block; width: 100%; height: auto; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .93rem; margin-top: .5rem; }
th, td { text-align: left; padding: .35rem .6rem .35rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td { overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
summary { cursor: pointer; padding: .4rem 0; color: var(--accent); }
.phase { font-size: 1.1rem; }
.alarm { background: var(--warn); border-left: 4px solid #d55e00; border-radius: 4px; padding: .5rem .8rem; }
.tiles { display: grid; grid-template-columns: repeat(2, 1fr); gap: .6rem; margin: .8rem 0; }
@media (min-width: 40rem) { .tiles { grid-template-columns: repeat(3, 1fr); } }
.now { margin-bottom: 1.2rem; }
.now td, .now th { white-space: nowrap; }
.tiles div { background: var(--panel); border-radius: 6px; padding: .6rem .8rem; display: flex; flex-direction: column; }
.tiles b { font-size: 1.5rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.tiles small { color: var(--faint); }
.outcomes { display: flex; flex-wrap: wrap; gap: .2rem; margin: .8rem 0; }
.outcomes i { font-style: normal; font-size: .8rem; width: 1.6rem; line-height: 1.6rem; text-align: center; border-radius: 3px; color: #fff; }
.outcomes .yes { background: #00785a; } .outcomes .no { background: #b34700; } .outcomes .none { background: #68727c; }
"""

_HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
{refresh}<title>{title}</title>
<style>{style}</style>
</head>
<body>
"""

PAGE_END = "</body>\n</html>\n"


def page_head(title: str, refresh_s: float | None = None) -> str:
    """Begin a page; `title` is escaped already. Browsers load it again every ``refresh_s``, if that is given."""
    refresh = "" if refresh_s is None else f'<meta http-equiv="refresh" content="{refresh_s:g}">\n'
    return _HEAD.format(title=title, style=_STYLE, refresh=refresh)


def text_html(text: str) -> str:
    """Escape text for HTML and keep percent signs on the line of their number."""
    return escape(text).replace(" %", "&nbsp;%")


def figure_html(figure: WrittenFigure) -> str:
    """One picture with its caption below; the heading is for screen readers, the picture carries its own."""
    data = base64.b64encode(figure.path.read_bytes()).decode("ascii")
    title, caption = escape(figure.title), text_html(figure.caption)
    return (
        f'<figure><h2 class="hidden">{title}</h2>\n<img alt="{title}" src="data:image/png;base64,{data}">\n'
        f"<figcaption>{caption}</figcaption></figure>\n"
    )
