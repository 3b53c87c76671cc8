"""Parts of the HTML pages: one look, nothing loaded from elsewhere, every text escaped."""

from __future__ import annotations

import base64
from html import escape

from lerobot_serl.report.curves import WrittenFigure

_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 52rem; background: #fff; color: #1d2327;
       font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .5rem 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .3rem; }
p { margin: .3rem 0; }
.summary { background: #f2f7fb; border-left: 4px solid #0072b2; border-radius: 4px; padding: .7rem 1rem; }
figure { margin: 2rem 0; }
figcaption { color: #4d565e; font-size: .95rem; margin-top: .4rem; }
.note { color: #4d565e; }
.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); margin: 0; }
img { display: block; width: 100%; height: auto; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .93rem; margin-top: .5rem; }
th, td { text-align: left; padding: .35rem .6rem .35rem 0; border-bottom: 1px solid #e2e6e9; vertical-align: top; }
td { overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
summary { cursor: pointer; padding: .4rem 0; color: #0072b2; }
"""

_HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
"""

PAGE_END = "</body>\n</html>\n"


def page_head(title: str) -> str:
    """Begin a page; `title` is escaped already."""
    return _HEAD.format(title=title, style=_STYLE)


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
