"""The engines, each with what it takes to build an index of a set and to search it.

An engine is a class with `name`, `settings` ({label: parameters}), `build(vectors, parameters, threads)` and
`search(queries, k, ef)`, which returns rows (q x k) and is called with one thread. Libraries are imported when they are
used, so that a missing one only leaves itself out. Each uses the batch call of its library where it has one.
"""

import os
import shutil
import tempfile

import numpy as np

COMMON = {"m": 16, "efc": 128}
# Queries of a batch call that plans them together.
BATCH = 100


class Hnswlib:
    name = "hnswlib"
    settings = {"M=16 efc=128": COMMON, "own best: M=24 efc=200": {"m": 24, "efc": 200}}

    def build(self, vectors, parameters, threads):
        import hnswlib

        # Unit vectors: the inner product orders as the cosine does, without its cost.
        self.index = hnswlib.Index("ip", vectors.shape[1])
        self.index.init_index(len(vectors), M=parameters["m"], ef_construction=parameters["efc"])
        self.index.set_num_threads(threads)
        self.index.add_items(vectors)
        self.index.set_num_threads(1)

    def search(self, queries, k, ef):
        self.index.set_ef(ef)
        return self.index.knn_query(queries, k=k)[0]


class Usearch:
    name = "usearch"
    settings = {"M=16 efc=128, f32": COMMON, "own best: bf16, M=24 efc=200": {"m": 24, "efc": 200, "dtype": "bf16"}}

    def build(self, vectors, parameters, threads):
        from usearch.index import Index

        # Its connectivity is that of upper levels; level 0 has twice as many, as in hnswlib.
        self.index = Index(
            ndim=vectors.shape[1],
            metric="ip",
            dtype=parameters.get("dtype", "f32"),
            connectivity=parameters["m"],
            expansion_add=parameters["efc"],
        )
        self.index.add(np.arange(len(vectors)), vectors, threads=threads)

    def search(self, queries, k, ef):
        self.index.expansion_search = ef
        return self.index.search(queries, k, threads=1).keys


class Faiss:
    name = "faiss"
    settings = {
        "HNSW M=16 efc=128": COMMON,
        "own best: HNSW SQ8 M=24 efc=200": {"m": 24, "efc": 200, "sq": True},
    }

    def build(self, vectors, parameters, threads):
        import faiss

        faiss.omp_set_num_threads(threads)
        dimension, m = vectors.shape[1], parameters["m"]
        if parameters.get("sq"):
            quantizer = faiss.ScalarQuantizer.QT_8bit
            self.index = faiss.IndexHNSWSQ(dimension, quantizer, m, faiss.METRIC_INNER_PRODUCT)
            self.index.train(vectors)
        else:
            self.index = faiss.IndexHNSWFlat(dimension, m, faiss.METRIC_INNER_PRODUCT)
        self.index.hnsw.efConstruction = parameters["efc"]
        self.index.add(vectors)
        faiss.omp_set_num_threads(1)

    def search(self, queries, k, ef):
        self.index.hnsw.efSearch = ef
        return self.index.search(queries, k)[1]


class Lancedb:
    """Its HNSW lives in the partitions of an IVF; one partition is one graph. It has no batch call for one thread."""

    name = "lancedb"
    settings = {
        "IVF_HNSW_SQ 1 partition M=16 efc=128": COMMON,
        "own best: IVF_HNSW_SQ M=24 efc=200, refine 3": {"m": 24, "efc": 200, "refine": 3},
    }

    def build(self, vectors, parameters, threads):
        for variable in ("LANCE_CPU_THREADS", "RAYON_NUM_THREADS", "TOKIO_WORKER_THREADS"):
            os.environ[variable] = str(threads)
        import lancedb
        import pyarrow as pa

        self.folder = tempfile.mkdtemp()
        dimension = vectors.shape[1]
        values = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), dimension)
        rows = pa.table({"id": pa.array(np.arange(len(vectors), dtype=np.int32)), "vector": values})
        self.table = lancedb.connect(self.folder).create_table("bench", rows)
        self.table.create_index(
            metric="dot",
            vector_column_name="vector",
            index_type="IVF_HNSW_SQ",
            num_partitions=1,
            m=2 * parameters["m"],
            ef_construction=parameters["efc"],
        )
        self.refine = parameters.get("refine")

    def search(self, queries, k, ef):
        found = np.full((len(queries), k), -1, dtype=np.int64)
        for row, query in enumerate(queries):
            # It refuses a beam narrower than what is to be refined.
            beam = max(ef, k * (self.refine or 1))
            request = self.table.search(query).distance_type("dot").nprobes(1).ef(beam).select(["id", "_distance"]).limit(k)
            if self.refine:
                request = request.refine_factor(self.refine)
            ids = request.to_arrow()["id"].to_numpy()
            found[row, : len(ids)] = ids
        return found

    def close(self):
        shutil.rmtree(self.folder, ignore_errors=True)


class QdrantEdge:
    """The engine of Qdrant in the process, without its server."""

    name = "qdrant-edge"
    settings = {"M=16 efc=128": COMMON, "own best: int8, M=24 efc=200": {"m": 24, "efc": 200, "int8": True}}

    def build(self, vectors, parameters, threads):
        import qdrant_edge as q

        self.q = q
        self.folder = tempfile.mkdtemp()
        hnsw = q.HnswIndexConfig(m=parameters["m"], ef_construct=parameters["efc"], full_scan_threshold=10, max_indexing_threads=threads)
        quantization = None
        if parameters.get("int8"):
            quantization = q.ScalarQuantizationConfig(type=q.ScalarType.Int8, quantile=None, always_ram=True)
        space = q.EdgeVectorParams(
            size=vectors.shape[1],
            distance=q.Distance.Dot,
            on_disk=False,
            hnsw_config=hnsw,
            quantization_config=quantization,
        )
        self.shard = q.EdgeShard.create(self.folder, q.EdgeConfig(vectors={"": space}))
        for first in range(0, len(vectors), 1_000):
            batch = vectors[first : first + 1_000]
            points = [q.Point(id=first + at, vector=v.tolist(), payload={}) for at, v in enumerate(batch)]
            self.shard.update(q.UpdateOperation.upsert_points(points))
        self.shard.optimize()

    def search(self, queries, k, ef):
        q, found = self.q, np.full((len(queries), k), -1, dtype=np.int64)
        params = q.SearchParams(hnsw_ef=ef, quantization=q.QuantizationSearchParams(rescore=True, oversampling=2.0))
        requests = [
            q.QueryRequest(
                query=q.Query.Nearest(query.tolist()), limit=k, params=params, with_payload=False, with_vector=False
            )
            for query in queries
        ]
        for first in range(0, len(requests), BATCH):
            replies = self.shard.query_batch(q.QueryBatchRequest(requests[first : first + BATCH]))
            for row, points in enumerate(replies, first):
                found[row, : len(points)] = [point.id for point in points]
        return found

    def close(self):
        shutil.rmtree(self.folder, ignore_errors=True)


ENGINES = {engine.name: engine for engine in (Hnswlib, Usearch, Faiss, Lancedb, QdrantEdge)}
