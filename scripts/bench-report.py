#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""
bench-report.py --bars FILE --ours FILE... [--plain FILE] [--json FILE]
[--html FILE]: set the figures of the benchmarks against their peers and their
bars.  Prints the table; the JSON file has the same and the curves, and the HTML
page draws them.

A figure is a line "NAME VALUE UNIT".  hmm.NAME, numa.NAME and uffd.NAME are what
the peers of that name took for what is gmem.NAME, or NAME; the unpatched kernel's
are in the file of --plain.  curve.SERIES.X are the points of a curve.
"""
import argparse
import collections
import fnmatch
import fractions
import html
import json
import math

PEERS = ("hmm", "numa", "uffd")
IDS = ["P%d" % i for i in range(1, 14)]
ROW = "%-5s %-28s %10s %-17s %10s %10s %10s %9s %-15s %-30s %s"

Figure = collections.namedtuple("Figure", "name value unit")
Bar = collections.namedtuple("Bar", "id pattern kind words")


def read_figures(paths):
    figures = {}
    for path in paths:
        with open(path, encoding="ascii") as file:
            for line in file:
                name, value, unit = line.split()
                figures[name] = Figure(name, float(value), unit)
    return figures


def read_bars(path):
    bars = []
    with open(path, encoding="ascii") as file:
        for line in file:
            words = line.split()
            if words and not line.startswith("#"):
                bars.append(Bar(words[0], words[1], words[2], words[3:]))
    missing = set(IDS) - {bar.id for bar in bars}
    if missing:
        raise SystemExit("no bar for " + ", ".join(sorted(missing)))
    return bars


def number(value):
    if value is None:
        return "-"
    return "%.0f" % value if value == int(value) else "%.2f" % value


def ratio_text(value, against):
    if not against or value is None:
        return "-"
    if 0 < value < against:
        return "1/%.2f" % (against / value)
    return "%.2f" % (value / against)


def change_text(value, against):
    if not against:
        return "-"
    return "%+d (%+.2f %%)" % (value - against,
                               100 * (value - against) / against)


class Row:
    """One line of the table."""

    def __init__(self, bar, figure, figures, plain):
        self.name = figure.name if figure else bar.pattern
        self.id = bar.id if bar else self.name.removeprefix("gmem.") \
            .split(".")[0].upper()
        self.value = figure.value if figure else None
        self.unit = figure.unit if figure else ""
        base = self.name.removeprefix("gmem.")
        self.peers = {peer: figures[peer + "." + base].value
                      for peer in PEERS if peer + "." + base in figures}
        if self.name in plain and self.name.startswith("p10."):
            self.peers["plain"] = plain[self.name].value
        self.ratio, self.bar, self.verdict = "-", "-", "-"
        if not figure:
            self.verdict = "not measured"
        self.judge(bar, figures)

    def judge(self, bar, figures):
        kind = bar.kind if bar else "shown"
        if kind == "plain":
            self.judge_plain(*map(float, bar.words))
        elif kind in ("hmm", "own"):
            other = bar.words[1] if kind == "own" else None
            against = self.peers.get("hmm")
            if other:
                against = figures[other].value if other in figures else None
            self.bar = "<= %s %s" % (bar.words[0], other or kind)
            self.judge_part(fractions.Fraction(bar.words[0]), against)
        elif kind in ("least", "most"):
            limit = float(bar.words[0])
            self.bar = (">= " if kind == "least" else "<= ") + bar.words[0]
            if self.value is not None:
                self.settle(self.value >= limit if kind == "least"
                            else self.value <= limit)
        elif "hmm" in self.peers:
            self.ratio = ratio_text(self.value, self.peers["hmm"])

    def settle(self, good):
        self.verdict = "pass" if good else "SHORT"

    def judge_plain(self, percent, insns):
        self.bar = "<= %g %% or %g" % (percent, insns)
        against = self.peers.get("plain")
        if self.value is None:
            return
        if against is None:
            self.verdict = "no peer"
            return
        more = self.value - against
        self.ratio = change_text(self.value, against)
        self.settle(more <= insns or more <= against * percent / 100)

    def judge_part(self, part, against):
        if self.value is None:
            return
        if against is None:
            self.verdict = "no peer"
            return
        self.ratio = ratio_text(self.value, against)
        self.settle(self.value * part.denominator <= against * part.numerator)

    def columns(self):
        return (self.id, self.name, number(self.value), self.unit,
                *(number(self.peers.get(peer))
                  for peer in PEERS + ("plain",)),
                self.ratio, self.bar, self.verdict)


HEAD = ("id", "figure", "value", "unit", *PEERS, "unpatched", "ratio", "bar",
        "verdict")


def make_rows(bars, figures, plain):
    """Each figure once, below its id; those without one come last."""
    rows, seen = [], set()
    for bar in bars:
        found = [f for f in figures.values()
                 if fnmatch.fnmatchcase(f.name, bar.pattern) and
                 f.name not in seen and f.name.split(".")[0] not in PEERS]
        seen.update(f.name for f in found)
        rows += [Row(bar, f, figures, plain) for f in found]
        if not found and bar.kind != "shown":
            rows.append(Row(bar, None, figures, plain))
    rows += [Row(None, f, figures, plain) for f in figures.values()
             if f.name not in seen and
             f.name.split(".")[0] not in PEERS + ("curve",)]
    return sorted(rows, key=lambda row: IDS.index(row.id)
                  if row.id in IDS else len(IDS))


def make_curves(figures):
    """{series: (unit, [(x, y)...])}, in the order of x."""
    curves = collections.OrderedDict()
    for figure in figures.values():
        if figure.name.startswith("curve."):
            _, series, x = figure.name.split(".", 2)
            unit, points = curves.setdefault(series, (figure.unit, []))
            points.append((float(x), figure.value))
    for _, points in curves.values():
        points.sort()
    return curves


def bend(points):
    """
    How much dearer a unit is at the end than where it is cheapest before, if
    it is a quarter or more.
    """
    least = min(y for _, y in points)
    last = points[-1][1]
    if least > 0 and last / least >= 1.25:
        return "bends upwards: %.2f times the least" % (last / least)
    return "flat or falling"


def print_table(rows):
    print(ROW % HEAD)
    for row in rows:
        print((ROW % row.columns()).rstrip())
    judged = [row for row in rows if row.verdict in ("pass", "SHORT")]
    print("%d of %d bars met, %d not measured" % (
        sum(row.verdict == "pass" for row in judged), len(judged),
        sum(row.verdict in ("not measured", "no peer") for row in rows)))


def print_curves(curves):
    for series, (unit, points) in curves.items():
        print("%s, %s: %s" % (series, unit, bend(points)))
        print("   " + "  ".join("%g: %s" % (x, number(y)) for x, y in points))


# --- the page ------------------------------------------------------------------

STYLE = """
body { font: 14px sans-serif; margin: 2em; }
table { border-collapse: collapse; }
td, th { padding: 1px 8px; text-align: left; white-space: nowrap; }
tr:nth-child(even) { background: #f2f2f2; }
td:nth-child(3), td:nth-child(n+5):nth-child(-n+8) { text-align: right; }
.SHORT { color: #b00; } .pass { color: #070; }
svg { margin: 1em; background: #fafafa; }
"""
WIDTH, HEIGHT, LEFT, BOTTOM = 420, 240, 70, 40


def ticks(low, high):
    """Powers of ten over a range of logarithms."""
    return range(math.floor(low), math.ceil(high) + 1)


def draw_curve(series, unit, points):
    """Both axes are logarithmic, for a power law to be a straight line."""
    logs = [(math.log10(x), math.log10(max(y, 1e-3))) for x, y in points]
    x0, x1 = min(x for x, _ in logs), max(x for x, _ in logs)
    y_ticks = list(ticks(min(y for _, y in logs), max(y for _, y in logs)))
    y0, y1 = y_ticks[0], max(y_ticks[-1], y_ticks[0] + 1)

    def place(x, y):
        return (LEFT + (WIDTH - LEFT - 20) * (x - x0) / ((x1 - x0) or 1),
                (HEIGHT - BOTTOM) - (HEIGHT - BOTTOM - 30) * (y - y0) /
                (y1 - y0))

    out = ['<svg width="%d" height="%d" font-size="11">' % (WIDTH, HEIGHT),
           '<text x="%d" y="15">%s, %s</text>' % (
               LEFT, html.escape(series), html.escape(unit))]
    for tick in y_ticks:
        _, at = place(x0, tick)
        out.append('<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#ccc"/>'
                   '<text x="5" y="%.1f">%g</text>' % (
                       LEFT, WIDTH - 20, at, at, at + 4, 10.0 ** tick))
    at = [place(*point) for point in logs]
    for (x, _), (left, _) in zip(points, at):
        out.append('<text x="%.1f" y="%d" transform="rotate(30 %.1f %d)">%g'
                   '</text>' % (left, HEIGHT - 25, left, HEIGHT - 25, x))
    out.append('<polyline fill="none" stroke="#06c" stroke-width="2" '
               'points="%s"/>' % " ".join("%.1f,%.1f" % p for p in at))
    out += ['<circle cx="%.1f" cy="%.1f" r="3" fill="#06c"/>' % p for p in at]
    out.append("</svg>")
    return "\n".join(out)


def write_html(path, rows, curves):
    out = ["<!DOCTYPE html>", '<html lang="en"><head><meta charset="utf-8">',
           "<title>GMEM: figures</title><style>%s</style></head><body>" % STYLE,
           "<h1>GMEM: figures</h1><table><tr>"]
    out += ["<th>%s</th>" % word for word in HEAD]
    for row in rows:
        out.append('</tr><tr class="%s">' % html.escape(row.verdict))
        out += ["<td>%s</td>" % html.escape(word) for word in row.columns()]
    out.append("</tr></table><h1>How cost grows</h1>")
    for series, (unit, points) in curves.items():
        out.append('<figure style="display: inline-block">%s<figcaption>%s'
                   "</figcaption></figure>" % (
                       draw_curve(series, unit, points),
                       html.escape(bend(points))))
    out.append("</body></html>")
    with open(path, "w", encoding="ascii") as file:
        file.write("\n".join(out) + "\n")


def write_json(path, rows, curves):
    data = {
        "figures": [{"id": row.id, "name": row.name, "value": row.value,
                     "unit": row.unit, "peers": row.peers,
                     "ratio": row.ratio, "bar": row.bar,
                     "verdict": row.verdict} for row in rows],
        "curves": [{"name": series, "unit": unit, "points": points,
                    "trend": bend(points)}
                   for series, (unit, points) in curves.items()],
    }
    with open(path, "w", encoding="ascii") as file:
        json.dump(data, file, indent=1)
        file.write("\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bars", required=True)
    parser.add_argument("--ours", required=True, nargs="+")
    parser.add_argument("--plain")
    parser.add_argument("--json")
    parser.add_argument("--html")
    args = parser.parse_args()

    figures = read_figures(args.ours)
    plain = read_figures([args.plain]) if args.plain else {}
    rows = make_rows(read_bars(args.bars), figures, plain)
    curves = make_curves(figures)
    print_table(rows)
    print_curves(curves)
    if args.json:
        write_json(args.json, rows, curves)
    if args.html:
        write_html(args.html, rows, curves)


main()
