#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""
bench-report.py --bars FILE --ours FILE... --curves FILE [--plain FILE]
[--json FILE] [--html FILE]: set the figures of the benchmarks against their
peers and their bars, and the curves against what they should grow like.  Prints
the tables; the JSON file has the same, and the HTML page draws them.

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
ROW = "%-5s %-30s %10s %-17s %10s %10s %10s %9s %-15s %-30s %s"

Figure = collections.namedtuple("Figure", "name value unit")
Bar = collections.namedtuple("Bar", "id pattern kind words")
# A curve bends upwards when a unit of work is dearer than before by more.
TOLERANCE = 1.05


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


def is_beside(name, figures):
    """Is it shown in the row of ours?"""
    first, _, base = name.partition(".")
    return first == "curve" or first in PEERS and (
        base in figures or "gmem." + base in figures)


def make_rows(bars, figures, plain):
    """Each figure once, below its id; those without one come last."""
    rows, seen = [], {name for name in figures if is_beside(name, figures)}
    for bar in bars:
        found = [f for f in figures.values()
                 if fnmatch.fnmatchcase(f.name, bar.pattern) and
                 f.name not in seen]
        seen.update(f.name for f in found)
        rows += [Row(bar, f, figures, plain) for f in found]
        if not found and bar.kind != "shown":
            rows.append(Row(bar, None, figures, plain))
    rows += [Row(None, f, figures, plain) for f in figures.values()
             if f.name not in seen]
    return sorted(rows, key=lambda row: IDS.index(row.id)
                  if row.id in IDS else len(IDS))


class Curve:
    """Points in the order of x, and what they should grow like."""

    def __init__(self, name, unit):
        self.name, self.unit = name, unit
        self.points = []
        self.power, self.axis, self.what = 1, "", ""
        self.cause = None

    def slopes(self):
        """Between neighbours, as the power of x that would go through both."""
        return [math.log(max(y1, 1) / max(y0, 1)) / math.log(x1 / x0)
                for (x0, y0), (x1, y1) in zip(self.points, self.points[1:])]

    def unit_cost(self, point):
        return point[1] / point[0] ** self.power

    def bends(self):
        """[(x, times)]: where a unit of work is dearer than at the last point,
        or at the end than where it was cheapest."""
        found = []
        for before, after in zip(self.points, self.points[1:]):
            cheap, dear = self.unit_cost(before), self.unit_cost(after)
            if dear > cheap * TOLERANCE:
                found.append((after[0], dear / max(cheap, 1e-9)))
        least = min(map(self.unit_cost, self.points))
        last = self.unit_cost(self.points[-1])
        if not found and last > least * TOLERANCE:
            found.append((self.points[-1][0], last / max(least, 1e-9)))
        return found

    def verdict(self):
        found = self.bends()
        if not found:
            return "in proportion" if self.power else "constant"
        text = "bends upwards at " + ", ".join(
            "%s (%.2f times)" % (count(x), times) for x, times in found)
        return "%s: %s" % (text, self.cause or "CAUSE NOT KNOWN")


def count(x):
    for factor, suffix in ((1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")):
        if x >= factor and x % factor == 0:
            return "%d%s" % (x / factor, suffix)
    return "%g" % x if x < 1e6 else "%.0f" % x


def read_curves(path):
    """{series: (power, axis, what)}, and {series: cause}."""
    known, causes = collections.OrderedDict(), {}
    with open(path, encoding="ascii") as file:
        for line in file:
            words = line.split(None, 3)
            if not words or line.startswith("#"):
                continue
            if words[0] == "cause":
                causes[words[1]] = " ".join(line.split()[2:])
            else:
                known[words[0]] = (int(words[1]), words[2], words[3].strip())
    return known, causes


def make_curves(figures, path):
    """In the order of the file; a series that it does not have is an error."""
    known, causes = read_curves(path)
    curves = {}
    for figure in figures.values():
        if not figure.name.startswith("curve."):
            continue
        _, series, x = figure.name.split(".", 2)
        if series not in known:
            raise SystemExit("nothing is said about the curve " + series)
        curve = curves.setdefault(series, Curve(series, figure.unit))
        curve.points.append((float(x), figure.value))
        curve.power, curve.axis, curve.what = known[series]
        curve.cause = causes.get(series)
    for curve in curves.values():
        curve.points.sort()
    return [curves[name] for name in known if name in curves]


def print_table(rows):
    print(ROW % HEAD)
    for row in rows:
        print((ROW % row.columns()).rstrip())
    judged = [row for row in rows if row.verdict in ("pass", "SHORT")]
    print("%d of %d bars met, %d not measured" % (
        sum(row.verdict == "pass" for row in judged), len(judged),
        sum(row.verdict in ("not measured", "no peer") for row in rows)))


def print_curves(curves):
    if not curves:
        return
    print("\nHow cost grows: the slope is the power of the number that would go "
          "through two neighbours")
    for curve in curves:
        print("\n%s, %s, by %s; should be a power of %d: %s" % (
            curve.name, curve.what, curve.axis, curve.power, curve.verdict()))
        rows = [[curve.axis] + [count(x) for x, _ in curve.points],
                [curve.unit] + [number(y) for _, y in curve.points],
                ["slope", ""] + ["%.2f" % slope for slope in curve.slopes()]]
        for row in rows:
            print("  %-13s" % row[0] + "".join("%12s" % cell
                                               for cell in row[1:]))
    bent = [curve.name for curve in curves if curve.bends()]
    print("\n%d curves, %d bend upwards%s" % (
        len(curves), len(bent), ": " + ", ".join(bent) if bent else ""))


# --- the page ------------------------------------------------------------------

STYLE = """
body { font: 14px sans-serif; margin: 2em; color: #222; }
table { border-collapse: collapse; }
td, th { padding: 1px 8px; text-align: left; white-space: nowrap; }
th { border-bottom: 1px solid #888; }
tr:nth-child(even) { background: #f2f2f2; }
td:nth-child(3), td:nth-child(n+5):nth-child(-n+8) { text-align: right; }
tr.SHORT td:last-child, .bent { color: #b00; font-weight: bold; }
tr.pass td:last-child { color: #070; }
figure { display: inline-block; vertical-align: top; margin: 0.7em;
         width: 420px; }
figcaption { font-size: 12px; }
svg { background: #fafafa; }
"""
COLOURS = {"gmem": "#06c", "hmm": "#c60", "numa": "#393", "uffd": "#939"}
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 420, 240, 62, 16, 12, 46


class Scale:
    """Logarithmic, with marks at the powers of ten around the values."""

    def __init__(self, values, start, end):
        logs = [math.log10(max(value, 0.1)) for value in values]
        self.low, self.high = math.floor(min(logs)), math.ceil(max(logs))
        self.high = max(self.high, self.low + 1)
        self.start, self.end = start, end

    def at(self, value):
        part = (math.log10(max(value, 0.1)) - self.low) / (self.high - self.low)
        return self.start + part * (self.end - self.start)

    def marks(self):
        return [10.0 ** power for power in range(self.low, self.high + 1)]


class ShareScale(Scale):
    """Of per cents: linear."""

    def __init__(self, start, end):
        super().__init__([1, 100], start, end)

    def at(self, value):
        return self.start + value / 100 * (self.end - self.start)

    def marks(self):
        return range(0, 101, 25)


def short(value):
    """A power of ten, in four characters."""
    for factor, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return "%g%s" % (value / factor, suffix)
    return "%g" % value


class Picture:
    def __init__(self, width, height):
        self.parts = ['<svg xmlns="http://www.w3.org/2000/svg" width="%d" '
                      'height="%d" font-size="11" font-family="sans-serif">' %
                      (width, height)]

    def line(self, x0, y0, x1, y1, style='stroke="#ddd"'):
        self.parts.append('<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" %s/>' %
                          (x0, y0, x1, y1, style))

    def text(self, x, y, text, anchor="start", more=""):
        self.parts.append('<text x="%.1f" y="%.1f" text-anchor="%s"%s>%s'
                          "</text>" % (x, y, anchor, more, html.escape(text)))

    def add(self, part):
        self.parts.append(part)

    def svg(self):
        return "\n".join(self.parts + ["</svg>"])


def draw_curve(curve):
    """Both axes are logarithmic, for a power law to be a straight line."""
    picture = Picture(WIDTH, HEIGHT)
    xs = [x for x, _ in curve.points]
    # What the cheapest unit would make of all points.
    least = min(map(curve.unit_cost, curve.points))
    ideal = [max(least, 1e-9) * x ** curve.power for x in xs]
    bottom = HEIGHT - BOTTOM
    down = Scale([y for _, y in curve.points] + ideal, bottom, TOP)
    first, last = math.log10(xs[0]), math.log10(xs[-1])

    def across(x):
        part = (math.log10(x) - first) / ((last - first) or 1)
        return LEFT + 8 + part * (WIDTH - LEFT - RIGHT - 16)

    for mark in down.marks():
        at = down.at(mark)
        picture.line(LEFT, at, WIDTH - RIGHT, at)
        picture.text(LEFT - 5, at + 4, short(mark), "end")
    for x in xs:
        picture.line(across(x), bottom, across(x), bottom + 4,
                     'stroke="#888"')
        picture.text(across(x) + 4, bottom + 16, count(x), "end",
                     ' transform="rotate(-30 %.1f %d)"' % (across(x) + 4,
                                                           bottom + 16))
    picture.text(4, HEIGHT - 6, curve.axis, "start", ' fill="#666"')
    picture.line(across(xs[0]), down.at(ideal[0]), across(xs[-1]),
                 down.at(ideal[-1]), 'stroke="#999" stroke-dasharray="4 3"')
    at = [(across(x), down.at(y)) for x, y in curve.points]
    picture.add('<polyline fill="none" stroke="#06c" stroke-width="2" '
                'points="%s"/>' % " ".join("%.1f,%.1f" % p for p in at))
    for (x, y), point in zip(curve.points, at):
        picture.add('<circle cx="%.1f" cy="%.1f" r="3" fill="#06c"><title>%s: '
                    "%s</title></circle>" % (*point, count(x), number(y)))
    return picture.svg()


def draw_peers(row):
    """A bar for each of those who do the same."""
    bars = [("gmem", row.value)] + [(peer, row.peers[peer]) for peer in PEERS
                                    if peer in row.peers]
    left, top = 50, 4
    height = top + 22 * len(bars) + 22
    picture = Picture(WIDTH, height)
    scale = Scale([value for _, value in bars], left, WIDTH - 70)
    if row.unit == "%":
        scale = ShareScale(left, WIDTH - 70)
    # A bar begins at the mark below the least, which still is to be seen.
    for mark in scale.marks():
        at = scale.at(mark)
        picture.line(at, top, at, height - 18)
        picture.text(at, height - 5, short(mark), "middle", ' fill="#666"')
    for i, (name, value) in enumerate(bars):
        y = top + 22 * i
        picture.text(left - 5, y + 15, name, "end")
        picture.add('<rect x="%d" y="%d" width="%.1f" height="16" fill="%s"/>' %
                    (left, y + 3, max(scale.at(value) - left, 1),
                     COLOURS[name]))
        picture.text(max(scale.at(value), left) + 4, y + 15, number(value))
    return picture.svg()


def figure_html(picture, caption):
    return "<figure>%s<figcaption>%s</figcaption></figure>" % (picture,
                                                              caption)


def write_html(path, rows, curves):
    out = ["<!DOCTYPE html>", '<html lang="en"><head><meta charset="utf-8">',
           "<title>GMEM: figures</title><style>%s</style></head><body>" % STYLE,
           "<h1>GMEM: figures</h1>", "<table><thead><tr>"]
    out += ["<th>%s</th>" % word for word in HEAD]
    out.append("</tr></thead><tbody>")
    for row in rows:
        out.append('<tr class="%s">' % html.escape(row.verdict))
        out += ["<td>%s</td>" % html.escape(word) for word in row.columns()]
        out.append("</tr>")
    out.append("</tbody></table>")
    out.append("<h1>Beside the peers</h1><p>Of a share (%) of the link more is "
               "better, of all else less is, on a logarithmic scale.</p>")
    names = {row.name for row in rows}
    for row in rows:
        if row.value is not None and set(row.peers) & set(PEERS) and \
                "gmem." + row.name not in names:
            out.append(figure_html(draw_peers(row), "<b>%s</b>, %s" % (
                html.escape(row.name), html.escape(row.unit))))
    if curves:
        out.append("<h1>How cost grows</h1><p>Both scales are logarithmic. The "
                   "dashed line is what the cheapest unit of work would "
                   "cost everywhere.</p>")
    for curve in curves:
        caption = "<b>%s</b>: %s, %s by %s." % tuple(map(html.escape, (
            curve.name, curve.what, curve.unit, curve.axis)))
        bent = ' class="bent"' if curve.bends() else ""
        caption += " <span%s>%s</span>" % (bent, html.escape(curve.verdict()))
        out.append(figure_html(draw_curve(curve), caption))
    out.append("</body></html>")
    with open(path, "w", encoding="ascii") as file:
        file.write("\n".join(out) + "\n")


def write_json(path, rows, curves):
    data = {
        "figures": [{"id": row.id, "name": row.name, "value": row.value,
                     "unit": row.unit, "peers": row.peers,
                     "ratio": row.ratio, "bar": row.bar,
                     "verdict": row.verdict} for row in rows],
        "curves": [{"name": curve.name, "what": curve.what,
                    "axis": curve.axis, "unit": curve.unit,
                    "power": curve.power, "points": curve.points,
                    "slopes": [round(slope, 4) for slope in curve.slopes()],
                    "bends": curve.bends(), "verdict": curve.verdict()}
                   for curve in curves],
    }
    with open(path, "w", encoding="ascii") as file:
        json.dump(data, file, indent=1)
        file.write("\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bars", required=True)
    parser.add_argument("--curves", required=True)
    parser.add_argument("--ours", required=True, nargs="+")
    parser.add_argument("--plain")
    parser.add_argument("--json")
    parser.add_argument("--html")
    args = parser.parse_args()

    figures = read_figures(args.ours)
    plain = read_figures([args.plain]) if args.plain else {}
    rows = make_rows(read_bars(args.bars), figures, plain)
    curves = make_curves(figures, args.curves)
    print_table(rows)
    print_curves(curves)
    if args.json:
        write_json(args.json, rows, curves)
    if args.html:
        write_html(args.html, rows, curves)


main()
