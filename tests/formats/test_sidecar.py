"""Reasons, weights and card beside a subset; every pool row is accounted for."""

import json

import numpy as np
import pyarrow.parquet as pq
from tests.formats import pool_files as files

from dataworth.formats import open_pool, sidecar_of, write_sidecar
from dataworth.results import Scored, Selection


def test_sidecar(tmp_path):
    rows = [{"text": t, "source": s} for t, s in zip("abcda", ["x", "y", "x", "\ud83d", "x"], strict=True)]
    pool = open_pool(files.jsonl(tmp_path / "p.jsonl", rows))
    kept = np.array([True, False, True, False, False])
    selection = Selection(
        ids=(pool.ids[0], pool.ids[2]),
        weights=np.array([1.0, 2.0]),
        kept_N=kept,
        reason_code_N=np.array([0, 1, 0, 2, 1], dtype=np.uint8),
        reasons=("kept", "below-cut", "unscored"),
        reason_texts={
            "kept": "score above the cut",
            "below-cut": "score below the cut",
            "unscored": "no score",
        },
    )
    scored = Scored(np.array([3.0, 1.0, 2.0, np.nan, 0.5]), {pool.ids[3]: "no supervised token"})
    out = tmp_path / "picked.jsonl"
    written = write_sidecar(out, pool, selection, {"less": scored}, "# card\n", {"steer": ["seen"]})
    assert [p.name for p in written] == ["reasons.parquet", "weights.parquet", "origin.json", "card.md"]
    assert {p.parent for p in written} == {sidecar_of(out)} == {tmp_path / "picked.jsonl.dataworth"}
    assert pool.ids[4] == f"{pool.ids[0]}#1"
    reasons = pq.read_table(written[0]).to_pydict()
    assert reasons["id"] == list(pool.ids)
    assert reasons["source"] == ["x", "y", "x", "\\ud83d", "x"]
    assert reasons["kept"] == kept.tolist()
    assert reasons["reason"] == ["kept", "below-cut", "kept", "unscored", "below-cut"]
    assert reasons["reason_text"][3] == "no score"
    assert reasons["score_less"] == [3.0, 1.0, 2.0, None, 0.5]
    assert reasons["unscored_less"] == [None, None, None, "no supervised token", None]
    assert pq.read_table(written[1]).to_pydict() == {"id": list(selection.ids), "weight": [1.0, 2.0]}
    assert json.loads(written[2].read_text()) == {"steer": ["seen"]}
    assert written[3].read_text() == "# card\n" and len(list(sidecar_of(out).iterdir())) == 4
    assert sum(selection.counts().values()) == len(pool)
