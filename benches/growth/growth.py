#!/usr/bin/env python3
"""How do search, build and memory grow with the number of points?

  growth.py --ragstone target/release/ragstone --base base.npy --queries queries.npy --work DIR [--sizes 50000,100000]

Each size is a prefix of the base (.npy, float32, C order), so that the sets differ in nothing but their number. One process
builds, another one opens, searches and says what memory that took. Prints a table, puts it between the marks of
benches/README.md with --readme, and draws growth.svg beside this script. Sizes that were measured before are taken from
DIR/SIZE.json: delete it to measure again. Needs nothing but Python.
"""

import argparse
import json
import math
import os
import shutil
import struct
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
README = os.path.join(HERE, "..", "README.md")
MARKS = ("<!-- growth: made by growth/growth.py -->", "<!-- end of growth -->")
BEAMS = "12,16,24,32,48,64,96,128,192,256"
RECALLS = (0.95, 0.99)
COPY_BYTES = 16 << 20


def prefix(source, rows, target):
    """The first rows of a .npy file of float32 as a file of its own."""
    with open(source, "rb") as file:
        if file.read(6) != b"\x93NUMPY":
            sys.exit(f"{source}: not a .npy file")
        major = file.read(2)[0]
        length = struct.unpack("<H", file.read(2))[0] if major == 1 else struct.unpack("<I", file.read(4))[0]
        header = file.read(length).decode("latin1")
        shape = header.split("'shape': (")[1].split(")")[0].split(",")
        there, width = int(shape[0]), int(shape[1])
        if "'<f4'" not in header or "'fortran_order': False" not in header:
            sys.exit(f"{source}: expected float32 in C order")
        if rows > there:
            sys.exit(f"{source}: has {there} rows, {rows} are wanted")
        header = "{'descr': '<f4', 'fortran_order': False, 'shape': (%d, %d), }" % (rows, width)
        header += " " * (-(len(header) + 11) % 64) + "\n"
        with open(target, "wb") as out:
            out.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode("latin1"))
            left = rows * width * 4
            while left > 0:
                piece = file.read(min(left, COPY_BYTES))
                if not piece:
                    sys.exit(f"{source}: shorter than its header says")
                out.write(piece)
                left -= len(piece)


def measure(arguments, rows):
    base, data = (os.path.join(arguments.work, name) for name in (f"base-{rows}.npy", f"data-{rows}"))
    prefix(arguments.base, rows, base)
    shutil.rmtree(data, ignore_errors=True)
    common = [arguments.ragstone, "bench", "vectors", "--base", base, "--queries", arguments.queries, "--in-process", "--json"]
    common += arguments.more.split()

    def run(*more):
        done = subprocess.run([*common, *more], stdout=subprocess.PIPE, check=True)
        return json.loads(done.stdout)

    built = run("--data-dir", data, "--compact", "--runs", "1", "--ef", "auto")
    searched = run("--reuse", data, "--runs", str(arguments.runs), "--ef", BEAMS + ",auto")
    for key in ("build_s", "build_peak_rss_bytes", "insert_points_per_s"):
        searched[key] = built[key]
    if not arguments.keep:
        shutil.rmtree(data)
        os.remove(base)
    return searched


def qps_at(report, recall):
    """Interpolated in the logarithm of QPS between the two beams around the recall."""
    curve = sorted((row["recall_at_10"], row["qps"]) for row in report["rows"] if row["ef"] is not None)
    if curve[0][0] >= recall:
        return curve[0][1]
    for (low, fast), (high, slow) in zip(curve, curve[1:]):
        if low < recall <= high:
            share = (recall - low) / (high - low)
            return math.exp(math.log(fast) + share * (math.log(slow) - math.log(fast)))
    return None


def table(reports):
    lines = [
        "| points | segments | build s | peak MiB | disk MiB | open ms | RSS MiB | QPS at 0.95 | QPS at 0.99 | default: recall@10 | QPS |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for report in reports:
        mib = lambda key: f"{report[key] / 2**20:,.0f}"
        default = next(row for row in report["rows"] if row["ef"] is None)
        at = lambda recall: "-" if qps_at(report, recall) is None else f"{qps_at(report, recall):,.0f}"
        lines.append(
            f"| {report['points']:,} | {report['segments']} | {report['build_s']:,.1f} | {mib('build_peak_rss_bytes')} "
            f"| {mib('disk_bytes')} | {report['open_s'] * 1e3:,.0f} | {mib('rss_bytes')} | {at(0.95)} | {at(0.99)} "
            f"| {default['recall_at_10']:.4f} | {default['qps']:,.0f} |"
        )
    return "\n".join(lines)


class Panel:
    """A small plot with a logarithmic axis of points."""

    WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 300, 240, 56, 34, 30

    def __init__(self, title, series, sizes):
        self.title, self.series = title, series
        self.left, self.right = math.log(sizes[0]), math.log(max(sizes[-1], sizes[0] * 2))
        top = max(value for _, values in series for value in values if value is not None)
        step = 10 ** math.floor(math.log10(top))
        self.top = next(step * by for by in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * by >= top)
        self.sizes = sizes

    def place(self, size, value):
        x = self.LEFT + (math.log(size) - self.left) / (self.right - self.left) * (self.WIDTH - self.LEFT - 16)
        y = self.TOP + (1 - value / self.top) * (self.HEIGHT - self.TOP - self.BOTTOM)
        return x, y

    def draw(self, offset):
        parts = [f'<g transform="translate({offset},0)">', f'<text x="{self.LEFT}" y="18" class="t">{self.title}</text>']
        for share in (0, 0.25, 0.5, 0.75, 1):
            x, y = self.place(self.sizes[0], self.top * share)
            label = f"{self.top * share:,.3g}" if self.top < 10 else f"{self.top * share:,.0f}"
            parts.append(f'<path class="g" d="M{x:.0f} {y:.1f}H{self.WIDTH - 16}"/>')
            parts.append(f'<text x="{x - 6:.0f}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
        for size in self.sizes:
            x, y = self.place(size, 0)
            label = f"{size / 1e6:g}M" if size >= 1e6 else f"{size / 1e3:g}k"
            parts.append(f'<text x="{x:.1f}" y="{y + 16:.0f}" text-anchor="middle">{label}</text>')
        for number, (name, values) in enumerate(self.series):
            points = [self.place(size, value) for size, value in zip(self.sizes, values) if value is not None]
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            parts.append(f'<polyline class="s{number}" points="{path}"/>')
            parts += [f'<circle class="d{number}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in points]
            if points and len(self.series) > 1:
                x, y = points[0]
                parts.append(f'<text x="{x + 6:.1f}" y="{y - 8:.1f}" class="l{number}">{name}</text>')
        return "\n".join([*parts, "</g>"])


def plot(reports):
    sizes = [report["points"] for report in reports]
    mib = lambda key: [report[key] / 2**20 for report in reports]
    searches = [[qps and 1e6 / qps for qps in (qps_at(report, recall) for report in reports)] for recall in RECALLS]
    panels = [
        Panel("µs a query, one thread", [(f"recall {r}", values) for r, values in zip(RECALLS, searches)], sizes),
        Panel("build, µs a point", [("", [report["build_s"] * 1e6 / report["points"] for report in reports])], sizes),
        Panel("RSS, MiB", [("after queries", mib("rss_bytes")), ("peak of build", mib("build_peak_rss_bytes"))], sizes),
    ]
    style = (
        "text{font:11px sans-serif;fill:#555}.t{font-weight:bold;fill:#222}.g{stroke:#ddd}polyline{fill:none;stroke-width:2}"
        ".s0{stroke:#1f6fb2}.d0,.l0{fill:#1f6fb2}.s1{stroke:#c2571a}.d1,.l1{fill:#c2571a}"
    )
    drawn = "\n".join(panel.draw(number * Panel.WIDTH) for number, panel in enumerate(panels))
    width, height = Panel.WIDTH * len(panels), Panel.HEIGHT
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">\n'
        f'<style>{style}</style>\n<rect width="100%" height="100%" fill="#fff"/>\n{drawn}\n</svg>\n'
    )


def write_readme(text):
    with open(README) as file:
        before, rest = file.read().split(MARKS[0])
    with open(README, "w") as file:
        file.write(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{rest.split(MARKS[1])[1]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ragstone", required=True, help="release build of ragstone")
    parser.add_argument("--base", required=True)
    parser.add_argument("--queries", required=True)
    parser.add_argument("--work", required=True, help="folder for prefixes and data; as large as three times the base")
    parser.add_argument("--sizes", default="50000,100000,200000,400000,1000000")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--more", default="", help="further options of bench vectors, as in --more='--m 24'")
    parser.add_argument("--svg", default=os.path.join(HERE, "growth.svg"))
    parser.add_argument("--readme", action="store_true", help="put the table into benches/README.md")
    parser.add_argument("--keep", action="store_true", help="keep prefixes and data directories")
    arguments = parser.parse_args()
    os.makedirs(arguments.work, exist_ok=True)
    reports = []
    for rows in sorted(int(size) for size in arguments.sizes.split(",")):
        known = os.path.join(arguments.work, f"{rows}.json")
        if not os.path.exists(known):
            report = measure(arguments, rows)
            with open(known, "w") as file:
                json.dump(report, file, indent=1)
        with open(known) as file:
            reports.append(json.load(file))
    text = table(reports)
    print(text)
    with open(arguments.svg, "w") as file:
        file.write(plot(reports))
    if arguments.readme:
        write_readme(text)


if __name__ == "__main__":
    main()
