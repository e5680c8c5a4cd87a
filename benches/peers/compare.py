#!/usr/bin/env python3
"""Runs ragstone and other engines over the same vectors; see run.sh.

Each engine is built in a process of its own, one after the other, with the same number of threads. Then rounds of searches
with one thread go over all engines in turn, so that a noisy minute of the machine hits all alike; what counts is the median
of the rounds. QPS at a recall is interpolated in the logarithm of QPS between the measured points.
"""

import argparse
import json
import math
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import traceback

import numpy as np

from engines import ENGINES

K = 10
TOLERANCE = 1e-6
RAGSTONE_SETTINGS = {
    "defaults": [],
    "M=16 efc=128, one segment": ["--m", "16", "--ef-construct", "128", "--compact"],
    "own best: M=24 efc=200, one segment": ["--m", "24", "--ef-construct", "200", "--compact"],
}


def status(name):
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
    return 0


def pin_to_one_core():
    """All threads of this process: some engines can't be told to search with one."""
    core = {min(os.sched_getaffinity(0))}
    for thread in os.listdir("/proc/self/task"):
        try:
            os.sched_setaffinity(int(thread), core)
        except ProcessLookupError:
            pass


class Set:
    """A folder's vectors, of unit length, and the score that a right hit has to reach."""

    def __init__(self, folder):
        load = lambda name: np.ascontiguousarray(np.load(os.path.join(folder, name)), dtype=np.float32)
        self.base, self.queries = load("base.npy"), load("queries.npy")
        for vectors in (self.base, self.queries):
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)

    def least(self):
        """Score of the k-th nearest row of each query, by comparing everything."""
        least = np.empty(len(self.queries))
        for first in range(0, len(self.queries), 100):
            scores = self.queries[first : first + 100] @ self.base.T
            rows = np.argpartition(-scores, K, axis=1)[:, :K]
            least[first : first + 100] = [
                self.scores(first + at, found).min() for at, found in enumerate(rows)
            ]
        return least

    def scores(self, query, rows):
        return self.base[rows].astype(np.float64) @ self.queries[query].astype(np.float64)

    def recall(self, found, least):
        right = 0
        for query, rows in enumerate(found):
            rows = np.unique(np.asarray(rows).astype(np.int64))
            rows = rows[(rows >= 0) & (rows < len(self.base))]
            right += min(K, int((self.scores(query, rows) >= least[query] - TOLERANCE).sum()))
        return right / (K * len(found))


def serve(connection, folder, name, parameters, threads):
    """An engine's process: builds, then answers (ef, whether recall is wanted) until it hears None."""
    try:
        data = Set(folder)
        engine = ENGINES[name]()
        held = status("VmRSS")
        started = time.perf_counter()
        engine.build(data.base, parameters, threads)
        seconds = time.perf_counter() - started
        # What this process held before is not the engine's.
        connection.send({"build_s": seconds, "peak_rss_bytes": status("VmHWM") - held})
        pin_to_one_core()
        least = None
        while (asked := connection.recv()) is not None:
            ef, judged = asked
            started = time.perf_counter()
            found = engine.search(data.queries, K, ef)
            seconds = time.perf_counter() - started
            reply = {"qps": len(data.queries) / seconds}
            if judged:
                least = data.least() if least is None else least
                reply["recall"] = data.recall(found, least)
            connection.send(reply)
        if hasattr(engine, "close"):
            engine.close()
    except Exception as error:
        traceback.print_exc()
        connection.send({"error": f"{type(error).__name__}: {error}"})


class Peer:
    def __init__(self, folder, name, label, parameters, threads):
        self.name, self.label = name, label
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        arguments = (other, folder, name, parameters, threads)
        self.process = context.Process(target=serve, args=arguments, daemon=True)
        self.process.start()
        other.close()
        self.built = self.receive()

    def receive(self):
        try:
            reply = self.connection.recv()
        except EOFError:
            raise RuntimeError("its process ended") from None
        if "error" in reply:
            raise RuntimeError(reply["error"])
        return reply

    def round(self, efs, first):
        points = {}
        for ef in efs:
            self.connection.send((ef, first))
            points[ef] = self.receive()
        return points

    def close(self):
        try:
            self.connection.send(None)
        except OSError:
            pass
        self.process.join(30)
        self.process.kill()


class Ragstone:
    name = "ragstone"

    def __init__(self, binary, folder, label, options, efs):
        self.binary, self.label, self.options = binary, label, options
        self.folder = folder
        self.data = tempfile.mkdtemp()
        report = self.run(["--data-dir", self.data, "--ef", str(efs[0])] + options)
        self.built = {key: report[key] for key in ("build_s", "peak_rss_bytes", "disk_bytes", "segments")}

    def run(self, options):
        file = lambda name: os.path.join(self.folder, name)
        command = [self.binary, "bench", "vectors", "--base", file("base.npy"), "--queries", file("queries.npy")]
        if os.path.exists(file("gt.npy")):
            command += ["--ground-truth", file("gt.npy")]
        command += ["--in-process", "--json", "--runs", "1"] + options
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "failed")
        return json.loads(done.stdout)

    def round(self, efs, first):
        report = self.run(["--reuse", self.data, "--ef", ",".join(map(str, efs))] + self.options)
        self.built["rss_bytes"] = report["rss_bytes"]
        return {row["ef"]: {"qps": row["qps"], "recall": row["recall_at_10"]} for row in report["rows"]}

    def close(self):
        shutil.rmtree(self.data, ignore_errors=True)


def start(arguments, folder):
    """All engines, built. One that can't be is said and left out."""
    wanted = lambda name: not arguments.only or name in arguments.only
    makers = []
    if wanted("ragstone"):
        for label, options in RAGSTONE_SETTINGS.items():
            make = lambda label=label, options=options: Ragstone(arguments.ragstone, folder, label, options, arguments.ef)
            makers.append(("ragstone", label, make))
    for name, engine in ENGINES.items():
        for label, parameters in engine.settings.items() if wanted(name) else ():
            make = lambda name=name, label=label, parameters=parameters: Peer(
                folder, name, label, parameters, arguments.threads
            )
            makers.append((name, label, make))
    started = []
    for name, label, make in makers:
        try:
            engine = make()
        except Exception as error:
            print(f"{name} ({label}) is left out: {error}", file=sys.stderr)
            continue
        print(f"{name} ({label}): built in {engine.built['build_s']:.1f} s", file=sys.stderr)
        started.append(engine)
    return started


def measure(arguments, folder):
    engines = start(arguments, folder)
    rounds = {id(engine): [] for engine in engines}
    # The first round warms up, and is where recall is judged.
    for number in range(arguments.runs + 1):
        for engine in list(engines):
            try:
                rounds[id(engine)].append(engine.round(arguments.ef, number == 0))
            except Exception as error:
                print(f"{engine.name} ({engine.label}) is left out: {error}", file=sys.stderr)
                engines.remove(engine)
        print(f"round {number} of {arguments.runs}", file=sys.stderr)
    results = []
    for engine in engines:
        first, *counting = rounds[id(engine)]
        curve = [
            {
                "ef": ef,
                "recall": round(first[ef]["recall"], 5),
                "qps": round(statistics.median(points[ef]["qps"] for points in counting), 1),
            }
            for ef in arguments.ef
        ]
        at = {str(recall): qps_at(curve, recall) for recall in (0.95, 0.99)}
        results.append({"engine": engine.name, "settings": engine.label, **engine.built, "curve": curve, "qps_at": at})
        engine.close()
    return results


def qps_at(curve, recall):
    """QPS at a recall; that of the narrowest beam where it has more already, None where no beam has enough."""
    points = sorted((point["recall"], point["qps"]) for point in curve)
    if points and points[0][0] >= recall:
        return max(qps for _, qps in points)
    for (below, slow), (above, fast) in zip(points, points[1:]):
        if below < recall <= above:
            share = (recall - below) / (above - below)
            return round(math.exp(math.log(slow) * (1 - share) + math.log(fast) * share), 1)
    return None


def table(results):
    ours = {recall: [r["qps_at"][recall] for r in results if r["engine"] == "ragstone"] for recall in ("0.95", "0.99")}
    best = {recall: max((qps for qps in found if qps), default=None) for recall, found in ours.items()}
    lines = [
        "| engine | settings | build s | peak RSS MB | QPS at 0.95 | QPS at 0.99 | ragstone's best to it at 0.95 | at 0.99 |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for result in results:
        cells = [result["engine"], result["settings"], f"{result['build_s']:.1f}", f"{result['peak_rss_bytes'] / 1e6:.0f}"]
        cells += [f"{result['qps_at'][r]:,.0f}" if result["qps_at"][r] else "-" for r in ("0.95", "0.99")]
        for recall in ("0.95", "0.99"):
            theirs = result["qps_at"][recall]
            cells.append(f"{best[recall] / theirs:.2f}x" if theirs and best[recall] else "-")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    comma = lambda kind: lambda text: [kind(part) for part in text.split(",") if part]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ragstone", required=True, help="the binary")
    parser.add_argument("--sets", required=True, type=comma(str), help="folders with base.npy and queries.npy")
    parser.add_argument("--only", type=comma(str), default=[], help="engines: ragstone," + ",".join(ENGINES))
    parser.add_argument("--ef", type=comma(int), default=[10, 16, 24, 32, 48, 64, 96, 128, 192, 256])
    parser.add_argument("--runs", type=int, default=5, help="rounds that count")
    parser.add_argument("--threads", type=int, default=2, help="threads to build with")
    parser.add_argument("--json", help="file for the curves")
    arguments = parser.parse_args()
    everything = {}
    for folder in arguments.sets:
        results = measure(arguments, folder)
        everything[os.path.basename(os.path.normpath(folder))] = results
        print(f"\n### {os.path.basename(os.path.normpath(folder))}\n\n{table(results)}", flush=True)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(everything, file, indent=1)


if __name__ == "__main__":
    main()
