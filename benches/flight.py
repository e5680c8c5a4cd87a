"""Question: how fast do record batches go in and out over Arrow Flight, beside a copy of the same bytes in memory?
Corpus: generated, by default 100,000 points of 384 f32 with an id. It isolates the way: DoPut is also measured with batches
that the log alone has to take, DoGet once from memory and once from sealed segments. Client and server share the machine.

python benches/flight.py path/to/ragstone [ROWS [DIMENSION]]      (needs pyarrow and numpy)
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight

REPEATS = 5
BATCH_ROWS = 8_192


def serve(binary, data):
    command = [binary, "serve", "--listen", "127.0.0.1:0", "--log-level", "warn", "--data-dir", data]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    for line in server.stderr:
        if "listens on " in line:
            return server, "grpc://" + line.split("listens on ")[1].strip()
    raise SystemExit("the server ended before it listened")


def act(client, action, **body):
    (result,) = client.do_action(flight.Action(action, json.dumps(body).encode()))
    return json.loads(result.body.to_pybytes())


def put(client, table, collection):
    started = time.perf_counter()
    writer, acks = client.do_put(flight.FlightDescriptor.for_path(collection), table.schema)
    writer.write_table(table, max_chunksize=BATCH_ROWS)
    writer.done_writing()
    last = None
    while (ack := acks.read()) is not None:
        last = json.loads(ack.to_pybytes())
    took = time.perf_counter() - started
    assert last["upserted"] == table.num_rows and last["rejected_total"] == 0, last
    return took


def get(client, collection, columns=None):
    ticket = {"version": 1, "collection": collection}
    if columns:
        ticket["columns"] = columns
    started = time.perf_counter()
    reader = client.do_get(flight.Ticket(json.dumps(ticket).encode()))
    rows = read = 0
    try:
        while True:
            batch = reader.read_chunk().data
            rows, read = rows + batch.num_rows, read + batch.nbytes
    except StopIteration:
        pass
    return time.perf_counter() - started, rows, read


def report(what, took, size):
    rates = [size / 1e6 / t for t in took]
    print(f"| {what} | {statistics.median(rates):,.0f} | {min(rates):,.0f} to {max(rates):,.0f} |", flush=True)


def main():
    binary = sys.argv[1]
    rows = int(sys.argv[2]) if len(sys.argv) > 2 else 100_000
    dimension = int(sys.argv[3]) if len(sys.argv) > 3 else 384
    values = np.random.default_rng(1).standard_normal((rows, dimension), dtype=np.float32)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), dimension)
    table = pa.table({"id": [f"p{i:07}" for i in range(rows)], "vector:v": vectors})
    size = table.nbytes
    print(f"{rows:,} x {dimension}, {size / 1e6:,.0f} MB, median of {REPEATS}\n")
    print("| way | MB/s | range |\n|---|--:|--:|")
    target = np.empty_like(values)

    def copy():
        started = time.perf_counter()
        np.copyto(target, values)
        return time.perf_counter() - started

    copy()
    report("memcpy", [copy() for _ in range(REPEATS)], values.nbytes)
    with tempfile.TemporaryDirectory() as data:
        server, address = serve(binary, data)
        try:
            client = flight.connect(address)
            space = {"name": "v", "dimension": dimension, "distance": "euclidean"}
            took = []
            for repeat in range(REPEATS):
                name = f"c{repeat}"
                act(client, "create_collection", name=name, vectors=[space])
                took.append(put(client, table, name))
                if repeat == 0:
                    fresh = [get(client, name) for _ in range(REPEATS)]
                    assert all(got == rows for _, got, _ in fresh)
                else:
                    act(client, "delete_collection", name=name)
            report("DoPut, durable", took, size)
            report("DoGet, just written", [t for t, _, _ in fresh], fresh[0][2])
            # Compaction seals what was just written first.
            subprocess.run([binary, "compact", "--collection", "c0", "--server", address.replace("grpc", "http")], check=True)
            sealed = [get(client, "c0") for _ in range(REPEATS)]
            assert all(got == rows for _, got, _ in sealed)
            report("DoGet, from segments", [t for t, _, _ in sealed], sealed[0][2])
            slim = [get(client, "c0", ["id", "vector:v"]) for _ in range(REPEATS)]
            report("DoGet, id and vector", [t for t, _, _ in slim], slim[0][2])
        finally:
            server.terminate()
            server.wait()


main()
