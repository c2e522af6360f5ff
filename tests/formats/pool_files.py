"""Small input files for the tests of the formats room."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from dataworth.formats.schemas import Schema, order_for


def schema_named(name: str, task=None) -> Schema:
    return next(s for s in order_for(task) if s.name == name)


def rows_like(n: int, start: int = 0) -> list[dict]:
    return [{"prompt": f"question {i}", "completion": f"answer {i * i}", "n": i} for i in range(start, start + n)]


def jsonl(path: Path, rows, end: str = "\n") -> Path:
    data = "".join(json.dumps(r) + end for r in rows).encode()
    packers = {".gz": lambda b: gzip.compress(b, mtime=0), ".zst": zstandard.ZstdCompressor().compress}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(packers.get(path.suffix, lambda b: b)(data))
    return path


def table_file(path: Path, rows, **options) -> Path:
    table = pa.Table.from_pylist(rows)
    if path.suffix == ".parquet":
        pq.write_table(table, path, **options)
    else:
        with pa.OSFile(str(path), "wb") as sink:
            make = pa.ipc.new_stream if options.get("stream") else pa.ipc.new_file
            with make(sink, table.schema) as writer:
                writer.write_table(table, max_chunksize=7)
    return path


def csv_file(path: Path, rows) -> Path:
    import csv

    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def rejects_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]
