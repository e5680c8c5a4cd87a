"""What a Python user does with pyarrow.flight, against a running server: round_trip.py grpc://HOST:PORT"""

import json
import sys

import pyarrow as pa
import pyarrow.flight as flight

client = flight.connect(sys.argv[1])


def act(action, **body):
    (result,) = client.do_action(flight.Action(action, json.dumps(body).encode()))
    return json.loads(result.body.to_pybytes())


def ticket(**ask):
    return flight.Ticket(json.dumps({"version": 1, "collection": "python", **ask}).encode())


# A collection, and a table into it.
space = {"name": "v", "dimension": 8, "distance": "euclidean"}
assert act("create_collection", name="python", vectors=[space])["created"]
rows = 5_000
values = pa.array([float(i % 97) for i in range(rows * 8)], pa.float32())
table = pa.table(
    {
        "id": [f"p{i}" for i in range(rows)],
        "text": [f"point number {i}" for i in range(rows)],
        "payload": [json.dumps({"number": i}) for i in range(rows)],
        "vector:v": pa.FixedSizeListArray.from_arrays(values, 8),
    }
)
path = flight.FlightDescriptor.for_path("python")
writer, acks = client.do_put(path, table.schema)
with writer:
    writer.write_table(table, max_chunksize=1_000)
    writer.done_writing()
    last = None
    while (ack := acks.read()) is not None:
        last = json.loads(ack.to_pybytes())
assert last["batches"] == 5 and last["rows"] == rows and last["rejected_total"] == 0, last

# A writer that never reads its acknowledgements.
writer, _ = client.do_put(path, table.schema)
writer.write_table(table)
writer.close()

# Everything comes back equal.
info = client.get_flight_info(path)
assert info.total_records == rows, info
back = client.do_get(info.endpoints[0].ticket).read_all().sort_by("id")
mine = table.sort_by("id")
for name in ("id", "text", "vector:v"):
    assert back[name].combine_chunks().equals(mine[name].combine_chunks()), name
assert [json.loads(p) for p in back["payload"].to_pylist()] == [json.loads(p) for p in mine["payload"].to_pylist()]
assert back.schema.field("vector:v").type == pa.list_(pa.field("item", pa.float32()), 8)

# A filter with columns, a search, a list.
some = client.do_get(ticket(filter="number < 10", columns=["id"])).read_all()
assert sorted(some["id"].to_pylist()) == [f"p{i}" for i in range(10)]
hits = client.do_get(ticket(search={"vector": values[:8].to_pylist(), "limit": 3})).read_all()
assert hits.num_rows == 3 and hits["_score"].to_pylist() == sorted(hits["_score"].to_pylist(), reverse=True)
assert [f.descriptor.path for f in client.list_flights()] == [[b"python"]]
schema = client.get_schema(path).schema
assert schema.names == back.schema.names

# A bad row is named, and the others are kept.
ragged = pa.table({"id": ["x", "y"], "vector:v": pa.array([[1.0] * 8, [1.0]], pa.list_(pa.float64()))})
writer, acks = client.do_put(path, ragged.schema)
writer.write_table(ragged)
writer.done_writing()
ack = json.loads(acks.read().to_pybytes())
writer.close()
assert ack["upserted"] == 1 and ack["rejected"][0]["id"] == "y", ack

# Errors say what is wrong.
try:
    client.do_get(flight.Ticket(b"python")).read_all()
    raise SystemExit("a ticket that is none was taken")
except pa.ArrowInvalid as error:
    assert "is no ticket" in str(error), error
print("ok", act("count", collection="python")["count"])
