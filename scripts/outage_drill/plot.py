"""The curves of a drill as an SVG: one panel under the other, time in common, the outage shaded."""
import math
from html import escape
from itertools import groupby

WIDTH = 900
PANEL = 130
LEFT = 90
RIGHT = 20
TOP = 60
GAP = 34


class _Panel:
    def __init__(self, unit, curves, top, logarithmic):
        self.unit = unit
        self.curves = curves  # [(name, colour, [(x, y or None), …])]
        self.top = top
        highest = max((y for _, _, points in curves for _, y in points if y is not None), default=1.0)
        self.ticks = _powers_up_to(highest) if logarithmic else [share * _round_up(highest) for share in (0, 0.5, 1)]
        self._logarithmic = logarithmic

    def y(self, value):
        return self.top + PANEL * (1 - self._share(value))

    def _share(self, value):
        if not self._logarithmic:
            return value / self.ticks[-1]
        return math.log(max(value, self.ticks[0]) / self.ticks[0]) / math.log(self.ticks[-1] / self.ticks[0])


def _powers_up_to(value):
    """1, 10, 100, …: at least two of them."""
    return [10.0 ** power for power in range(max(math.ceil(math.log10(max(value, 1))), 1) + 1)]


def _round_up(value):
    """The next of 1, 2, 5, 10, 20, … so that the axis has a readable end."""
    step = 1e-6
    while True:
        for factor in (1, 2, 5):
            if factor * step >= value:
                return factor * step
        step *= 10


def svg(title, panels, shaded, duration):
    """`panels` are (unit, curves, whether their axis is logarithmic); `shaded` are (from, to, label) in seconds."""
    placed = [_Panel(unit, curves, TOP + number * (PANEL + GAP), logarithmic)
              for number, (unit, curves, logarithmic) in enumerate(panels)]
    height = TOP + len(placed) * (PANEL + GAP) + 20

    def x(seconds):
        return LEFT + (WIDTH - LEFT - RIGHT) * seconds / duration

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
             f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">',
             f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
             f'<text x="{LEFT}" y="24" font-size="15">{escape(title)}</text>']
    for panel in placed:
        parts += _frame(panel, shaded, duration, x)
        for _, colour, points in panel.curves:
            parts += _curve(panel, colour, points, x)
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{height - 8}" text-anchor="end">seconds</text></svg>')
    return "\n".join(parts) + "\n"


def _frame(panel, shaded, duration, x):
    bottom = panel.top + PANEL
    for start, end, label in shaded:
        yield (f'<rect x="{x(start):.1f}" y="{panel.top}" width="{x(end) - x(start):.1f}" height="{PANEL}" '
               f'fill="#f3dede"><title>{escape(label)}</title></rect>')
    for tick in panel.ticks:
        y = panel.y(tick)
        yield f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ccc"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:,.10g}</text>'
    step = _round_up(duration / 10)
    for number in range(int(duration / step) + 1):
        yield (f'<text x="{x(number * step):.1f}" y="{bottom + 14}" text-anchor="middle" fill="#666">'
               f'{number * step:g}</text>')
    legend = LEFT
    for name, colour, _ in panel.curves:
        yield f'<text x="{legend}" y="{panel.top - 5}" fill="{colour}">{escape(name)}</text>'
        legend += 8 * len(name) + 16
    yield f'<text x="{WIDTH - RIGHT}" y="{panel.top - 5}" text-anchor="end" fill="#666">{escape(panel.unit)}</text>'


def _curve(panel, colour, points, x):
    """A point without a value ends a stretch of the curve."""
    for known, stretch in groupby(points, key=lambda point: point[1] is not None):
        if known:
            path = " ".join(f"{x(seconds):.1f},{panel.y(value):.1f}" for seconds, value in stretch)
            yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'


def rates(samples, start, count, window=5):
    """Rows per second, each over the `window` samples before, so that the sampling itself does not show."""
    pairs = zip(samples, samples[window:])
    return [(late.at - start, (count(late) - count(early)) / (late.at - early.at)) for early, late in pairs]


def drill_svg(title, samples, shaded):
    """`shaded` are (from, to, label) in unix seconds."""
    start = samples[0].at

    def over_time(value):
        return [(sample.at - start, value(sample)) for sample in samples]

    panels = [
        ("rows/s", [("arrivals", "#1f77b4", rates(samples, start, lambda sample: sample.arrived)),
                    ("deliveries", "#2ca02c", rates(samples, start, lambda sample: sample.delivered))], False),
        ("rows", [("backlog", "#9467bd", over_time(lambda sample: sample.backlog))], False),
        ("ms", [("acknowledgement latency (mean)", "#d62728", _latencies(samples, start))], True),
        ("MB", [("relay memory (resident)", "#8c564b", over_time(lambda sample: sample.rss_bytes / 1e6))], False),
    ]
    bands = [(begin - start, end - start, label) for begin, end, label in shaded]
    return svg(title, panels, bands, samples[-1].at - start)


def _latencies(samples, start):
    points = []
    for early, late in zip(samples, samples[1:]):
        acknowledged = late.acknowledged - early.acknowledged
        seconds = late.acknowledgement_seconds - early.acknowledgement_seconds
        points.append((late.at - start, 1000 * seconds / acknowledged if acknowledged > 0 else None))
    return points
