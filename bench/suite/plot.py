"""Plots as SVG: bars in groups, and lines."""
import math
import textwrap
from html import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 860, 340, 90, 20, 64, 64
FLAME_WIDTH = 1400
COLOURS = ["#1f77b4", "#ff7f0e", "#2ca02c", "#9467bd", "#8c564b"]


def _round_up(value):
    """The next of 1, 2, 5, 10, … so that the axis has a readable end."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= value * 0.999999)


class _Axis:
    def __init__(self, highest, lowest, logarithmic):
        self.logarithmic = logarithmic
        if logarithmic:
            first, last = math.floor(math.log10(lowest)), math.ceil(math.log10(highest))
            self.ticks = [10.0 ** power for power in range(first, max(last, first + 1) + 1)]
        else:
            top = _round_up(highest)
            self.ticks = [top * part / 4 for part in range(5)]

    def y(self, value):
        low, high = self.ticks[0], self.ticks[-1]
        if self.logarithmic:
            share = math.log(max(value, low) / low) / math.log(high / low)
        else:
            share = value / high
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share


def _frame(title, unit, names, axis):
    yield (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
           'font-family="sans-serif" font-size="12">')
    yield f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
    yield f'<text x="{LEFT}" y="20" font-size="15">{escape(title)}</text>'
    yield f'<text x="{WIDTH - RIGHT}" y="20" text-anchor="end" fill="#666">{escape(unit)}</text>'
    at = LEFT
    for number, name in enumerate(names):
        yield f'<rect x="{at}" y="34" width="10" height="10" fill="{COLOURS[number % len(COLOURS)]}"/>'
        yield f'<text x="{at + 14}" y="43">{escape(name)}</text>'
        at += 34 + 7 * len(name)
    for tick in axis.ticks:
        y = axis.y(tick)
        yield f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" fill="#444">{tick:,.10g}</text>'


def _label(x, width, text):
    for line, words in enumerate(textwrap.wrap(text, max(int(width / 6.5), 6))):
        yield (f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18 + 14 * line}" text-anchor="middle" fill="#444">'
               f'{escape(words)}</text>')


def bars(title, unit, names, groups):
    """`groups` are (label, [value or None for each of `names`])."""
    values = [value for _, row in groups for value in row if value is not None]
    axis = _Axis(max(values, default=1), 0, False)
    parts = list(_frame(title, unit, names, axis))
    group_width = (WIDTH - LEFT - RIGHT) / max(len(groups), 1)
    width = min(group_width * 0.8 / max(len(names), 1), 60)
    for place, (label, row) in enumerate(groups):
        middle = LEFT + group_width * (place + 0.5)
        parts += _label(middle, group_width, label)
        for number, value in enumerate(row):
            if value is None:
                continue
            x, y = middle + width * (number - len(row) / 2), axis.y(value)
            parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{width - 2:.1f}" height="{axis.y(0) - y:.1f}" '
                         f'fill="{COLOURS[number % len(COLOURS)]}"><title>{value:,.4g}</title></rect>')
            parts.append(f'<text x="{x + width / 2 - 1:.1f}" y="{y - 4:.1f}" text-anchor="middle" font-size="10">'
                         f'{_short(value)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def lines(title, unit, curves, logarithmic=False):
    """`curves` are (name, [(label, value), …]) over the same labels, evenly spaced."""
    values = [value for _, points in curves for _, value in points if value]
    axis = _Axis(max(values, default=1), min(values, default=1), logarithmic)
    parts = list(_frame(title, unit, [name for name, _ in curves], axis))
    labels = [label for label, _ in curves[0][1]] if curves else []
    step = (WIDTH - LEFT - RIGHT) / max(len(labels), 1)
    for place, label in enumerate(labels):
        parts += _label(LEFT + step * (place + 0.5), step, label)
    for number, (_, points) in enumerate(curves):
        colour = COLOURS[number % len(COLOURS)]
        places = [(LEFT + step * (place + 0.5), axis.y(value), value) for place, (_, value) in enumerate(points) if value]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"><title>{value:,.4g}</title></circle>'
                  for x, y, value in places]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _short(value):
    if value >= 1000:
        return f"{value / 1000:,.0f}k" if value >= 10_000 else f"{value / 1000:.1f}k"
    return f"{value:.3g}"


def flame(title, root):
    """What called what, from top to bottom; as wide as it took. `root` is [name, samples, [children]]."""
    def depth(node):
        return 1 + max(map(depth, node[2]), default=0)

    row, scale = 17, (FLAME_WIDTH - 2) / root[1]

    def frames(node, x, level):
        name, count, children = node
        width = count * scale
        letters = int(width / 6.2)
        shown = name if len(name) <= letters else name[:letters - 1] + "…" if letters > 3 else ""
        colour = f"hsl({18 + sum(map(ord, name)) % 36}, 85%, {68 + sum(map(ord, name)) % 11}%)"
        yield (f'<g><title>{escape(name)}: {100 * count / root[1]:.1f} %</title><rect x="{x:.1f}" y="{30 + level * row}" '
               f'width="{max(width - 0.5, 0.5):.1f}" height="{row - 1}" fill="{colour}"/>')
        if shown:
            yield f'<text x="{x + 2:.1f}" y="{30 + level * row + 12}">{escape(shown)}</text>'
        yield '</g>'
        for child in children:
            yield from frames(child, x, level + 1)
            x += child[1] * scale

    height = 40 + depth(root) * row
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {FLAME_WIDTH} {height}" width="{FLAME_WIDTH}" '
        f'height="{height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{FLAME_WIDTH}" height="{height}" fill="white"/>',
        f'<text x="4" y="20" font-size="15">{escape(title)}</text>', *frames(root, 1, 0), "</svg>\n"])
