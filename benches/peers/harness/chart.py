"""The plot: bars as SVG, on a ground of its own, light or dark as the reader's pages are."""

from html import escape

from .systems import KEEPS, OURS

WIDTH, MARGIN, ROW, BAR, HEAD = 760, 20, 44, 16, 96
LABEL = 66  # Room behind the longest bar for its number.

STYLE = """
  text { font-family: system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; font-size: 13px }
  .ground { fill: #ffffff; stroke: #d0d7de } .ink { fill: #1f2328 } .faint { fill: #59636e; font-size: 12px }
  .whisker { stroke: #1f2328 }
  .title { fill: #1f2328; font-size: 16px; font-weight: 700 }
  .k0 { fill: #0f766e } .k1 { fill: #3b7ddd } .k2 { fill: #a3abb5 }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #0d1117; stroke: #3d444d } .ink { fill: #f0f6fc } .faint { fill: #9198a1 }
    .whisker { stroke: #f0f6fc } .title { fill: #f0f6fc }
    .k0 { fill: #2dd4bf } .k1 { fill: #6ea8fe } .k2 { fill: #656c76 }
  }"""


def text(x, y, words, kind="ink", more=""):
    return f'<text x="{x:.0f}" y="{y:.0f}" class="{kind}"{more}>{escape(words)}</text>'


def bar(row, y, scale):
    """The name above its bar, the number behind it, the smallest and the largest as a line."""
    system, values = row.system, row.values("tasks_per_s")
    weight = ' font-weight="700"' if system.key == OURS else ' font-weight="500"'
    median = row.median("tasks_per_s")
    middle, end = y + 8 + BAR / 2, MARGIN + max(values) * scale
    setting = escape(system.setting.replace("`", ""))
    name = f'<tspan{weight}>{escape(system.short)}</tspan> <tspan class="faint">{setting}</tspan>'
    parts = [
        f'<text x="{MARGIN}" y="{y:.0f}" class="ink">{name}</text>',
        f'<rect x="{MARGIN}" y="{y + 8}" width="{max(median * scale, 1):.1f}" height="{BAR}" rx="2" '
        f'class="k{KEEPS.index(system.keeps)}"/>',
        text(end + 8, middle + 4.5, f"{median:,.0f}", more=weight),
    ]
    if len(values) > 1:
        low, high = (MARGIN + value * scale for value in (min(values), max(values)))
        parts.append(f'<path d="M{low:.1f} {middle}H{high:.1f}M{high:.1f} {middle - 4}v8" class="whisker"/>')
    return parts


def svg(rows, about):
    rows = [row for row in rows if row.values("tasks_per_s")]
    height = HEAD + ROW * len(rows) + 4
    most = max(max(row.values("tasks_per_s")) for row in rows)
    scale = (WIDTH - 2 * MARGIN - LABEL) / most
    rounds = f"median of {about['rounds']} rounds, smallest and largest as a line"
    rounds = "one round" if about["rounds"] == 1 else rounds
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'role="img" aria-label="Tasks a second that one worker drains">',
        f"<style>{STYLE}\n</style>",
        f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8" class="ground"/>',
        text(MARGIN, 30, "Draining a backlog with one worker, tasks a second", "title"),
        text(MARGIN, 49, f"{about['cores']} cores for worker and servers; {rounds}; {about['date']}", "faint"),
    ]
    x = MARGIN
    for kind, words in enumerate(KEEPS):
        words = f"kept: {words}"
        parts.append(f'<rect x="{x}" y="61" width="11" height="11" rx="2" class="k{kind}"/>')
        parts.append(text(x + 17, 71, words, "faint"))
        x += 40 + 6.4 * len(words)
    for index, row in enumerate(rows):
        parts += bar(row, HEAD + 4 + ROW * index, scale)
    return "\n".join([*parts, "</svg>", ""])
