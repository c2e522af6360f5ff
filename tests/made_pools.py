"""Pools held in memory and small files, for tests of what works on any pool."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dataworth.records import Example, Message, Pool, PoolFile, digest_of


def canonical(row: dict[str, Any]) -> bytes:
    return json.dumps(row, sort_keys=True).encode()


@dataclass
class Held:
    """A row reader over dicts; `length` is unused and `offset` is the row's place."""

    rows: Sequence[dict[str, Any]]

    def raw(self, file: int, offset: int, length: int) -> bytes:
        return canonical(self.rows[offset])

    def columns(self, file: int, offset: int, length: int) -> dict[str, Any]:
        return dict(self.rows[offset])

    def example(self, file: int, offset: int, length: int, row_id: str) -> Example:
        row = self.rows[offset]
        turns = (Message("user", row["prompt"]), Message("assistant", row["completion"]))
        return Example(row_id, "sft", "prompt_completion", turns)


def held_pool(
    rows: Sequence[dict[str, Any]],
    sources: Sequence[str] | None = None,
    mapping: tuple[tuple[str, str], ...] = (),
    **more: Any,
) -> Pool:
    """A pool of prompt/completion rows; copies are counted as the readers count them."""
    digests = [digest_of(canonical(r)) for r in rows]
    copies = [digests[:i].count(d) for i, d in enumerate(digests)]
    named = list(sources or ["held"] * len(rows))
    names = tuple(dict.fromkeys(named)) or ("held",)
    file = PoolFile(Path("held.jsonl"), "jsonl", "", "prompt_completion", "sft", mapping, len(rows), 1, 1, "00")
    return Pool(
        files=(file,),
        sources=names,
        digest_N16=np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(len(rows), 16),
        copy_N=np.array(copies, dtype=np.uint32),
        file_N=np.zeros(len(rows), dtype=np.int32),
        offset_N=np.arange(len(rows), dtype=np.int64),
        length_N=np.zeros(len(rows), dtype=np.int64),
        source_N=np.array([names.index(s) for s in named], dtype=np.int32),
        reader=Held(rows),
        **more,
    )


def numbered(count: int, start: int = 0) -> list[dict[str, Any]]:
    """Rows that differ in text and in length, with no question in common."""
    words = "amber birch cedar delta ember fjord grove haven inlet jetty knoll lagoon".split()
    return [
        {"prompt": f"{words[n % 12]} {words[n // 12 % 12]} number {n}", "completion": "yes " * (1 + n % 7) + str(n)}
        for n in range(start, start + count)
    ]


def jsonl_file(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return path
