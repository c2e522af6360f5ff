"""How many bits of a pool training is to hold: by a reference model on a sample, or a compressor's upper bound."""

from __future__ import annotations

from typing import Any

import numpy as np

from dataworth import artefacts
from dataworth.errors import RequestError
from dataworth.formats import take_rows
from dataworth.laws.capacity import bits_of, compressed_bits
from dataworth.records import Pool, hash_unit
from dataworth.session import Session

COMPRESSOR = "compressor"
SAMPLE = 500


def pool_bits(session: Session, reference: str | None) -> dict[str, Any]:
    """Bits that training on the whole pool is to hold, with their interval and how they were counted.

    Copies count once. Of rows with a prompt only what carries loss counts, given the rest: it is what training can
    hold. A model's bits are those of the learner before training, which knows what pretraining told it.

    Args:
        session: Pool and learner.
        reference: None for the learner itself, or `compressor`.

    Raises:
        RequestError: Too few rows.
    """
    pool = session.pool
    distinct = np.array([n for n, i in enumerate(pool.ids) if "#" not in i], dtype=np.int64)
    if reference == COMPRESSOR:
        return _compressed(session, distinct)
    if session.classifies:
        return _labels(session, len(distinct))
    drawn = hash_unit([pool.ids[n] for n in distinct], session.request.seed, "bits").argsort(kind="stable")[:SAMPLE]
    sample = take_rows(pool, np.sort(distinct[drawn]))
    table = artefacts.probe(session, "losses", sample, "bits of sampled rows")
    nats_R = table.column("loss_sum", fill=np.nan).astype(np.float64)
    nats_R = nats_R[np.isfinite(nats_R)]
    if len(nats_R) < 2:
        raise RequestError(f"{len(nats_R)} of {len(sample)} sampled rows carry loss: expected at least 2; check --map")
    carrying = round(len(distinct) * len(nats_R) / len(sample))
    found = bits_of(nats_R, max(len(nats_R), carrying))
    how = f"what carries loss in {len(nats_R):,} sampled rows, by the learner before training"
    return {"bits": found.value, "low": found.low, "high": found.high, "how": how}


def _compressed(session: Session, distinct: Any) -> dict[str, Any]:
    kept: Pool = take_rows(session.pool, distinct)
    bits = compressed_bits(e.full_text for e in kept.examples())
    return {"bits": float(bits), "low": 0.0, "high": float(bits), "how": "all text by a compressor: an upper bound"}


def _labels(session: Session, rows: int) -> dict[str, Any]:
    """Of rows with a class training is to hold the labels, which are at most log2(classes) bits each."""
    bits = rows * float(np.log2(len(session.classifier.renderer.classes)))
    return {"bits": bits, "low": 0.0, "high": bits, "how": "labels alone, as if inputs said nothing: an upper bound"}
