"""The table: one line per kind of fault that came alone, one for the rounds in which several overlapped, and one for those
before the first fault."""
from chaos_campaign.schedule import KINDS

NONE = "none, at the start"
TOGETHER = "several at once"
HEADS = ("fault", "rounds", "events", "lost", "phantom", "reordered", "duplicated", "allowed", "fault lasted", "longest stall",
         "until read")
SUMS = ("rounds", "events", "lost", "phantom", "reordered", "duplicated", "allowed")
TIMES = ("lasted", "stall", "unread")
MARK = "<!-- the table: scripts/chaos --markdown writes it -->"


def rows(outcomes):
    """In the order of KINDS, sums but for the times, of which the longest counts."""
    lines = {}
    for outcome in outcomes:
        name = outcome.kinds[0] if len(outcome.kinds) == 1 else TOGETHER if outcome.kinds else NONE
        line = lines.setdefault(name, {"fault": name, **dict.fromkeys(SUMS, 0),
                                       **dict.fromkeys(TIMES, 0.0)})
        line["rounds"] += 1
        for column in SUMS[1:]:
            line[column] += getattr(outcome, column)
        for column in TIMES:
            line[column] = max(line[column], getattr(outcome, column))
    return [lines[name] for name in (NONE, *KINDS, TOGETHER) if name in lines]


def injected(outcomes):
    """How often each kind was injected, alone or not."""
    counts = dict.fromkeys(KINDS, 0)
    for outcome in outcomes:
        for kind in outcome.kinds:
            counts[kind] += 1
    return counts


def _cells(line):
    return (line["fault"], *(f"{line[name]:,}" for name in SUMS), *(f"{line[name]:.1f} s" for name in TIMES))


def total(lines):
    whole = {"fault": "all", **{name: sum(line[name] for line in lines) for name in SUMS}}
    return {**whole, **{name: max((line[name] for line in lines), default=0.0) for name in TIMES}}


def table(outcomes):
    lines = rows(outcomes)
    cells = [HEADS, *map(_cells, lines), _cells(total(lines))]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEADS))]
    return "\n".join("  ".join(cell.ljust(width) if number == 0 else cell.rjust(width)
                               for number, (cell, width) in enumerate(zip(row, widths))) for row in cells)


def markdown(outcomes, facts):
    lines = rows(outcomes)
    counts = injected(outcomes)
    said = [facts, "", "| " + " | ".join(HEADS) + " |", "|---|" + "---:|" * (len(HEADS) - 1)]
    said += ["| " + " | ".join(_cells(line)) + " |" for line in [*lines, total(lines)]]
    said += ["", "| fault | what it is | injected, also beside others |", "|---|---|---:|"]
    said += [f"| {kind} | {KINDS[kind].about} | {count} |" for kind, count in counts.items() if count]
    return "\n".join(said) + "\n"


def write_page(path, outcomes, facts):
    """Replaces what is between the two marks of the page."""
    page = path.read_text(encoding="utf-8")
    before, _, after = page.split(MARK)
    path.write_text(f"{before}{MARK}\n\n{markdown(outcomes, facts)}\n{MARK}{after}", encoding="utf-8")
