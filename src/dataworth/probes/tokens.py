"""Token ids and loss masks of rows, rendered once per tokenizer, template and mask policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dataworth.learners.load import load_tokenizer
from dataworth.learners.render import Encoded, Renderer
from dataworth.records import Example
from dataworth.store.part import Column
from dataworth.store.table import Table

Work = Callable[[Sequence[str], Sequence[Example]], tuple[dict[str, Column], dict[str, str]]]


def open_tokens(config: dict[str, Any], device: str) -> Work:
    """Engine runner: examples in; `input_ids`, `supervised` (ragged), `tokens`, `targets`, `truncated`, `forged` out.

    Args:
        config: `folder` of the tokenizer, `mask_like`, `max_length`.
        device: Ignored; tokenizers run on the CPU.
    """
    renderer = Renderer(load_tokenizer(Path(config["folder"])), config["mask_like"], config["max_length"])

    def work(ids: Sequence[str], payload: Sequence[Example]) -> tuple[dict[str, Column], dict[str, str]]:
        rows = [renderer.encode(e) for e in payload]
        good = [r for r in rows if not r.reason]
        columns: dict[str, Column] = {
            "input_ids": [r.input_ids for r in good],
            "supervised": [r.supervised.astype(np.uint8) for r in good],
            "tokens": np.array([len(r) for r in good], dtype=np.int32),
            "targets": np.array([r.targets for r in good], dtype=np.int32),
            "truncated": np.array([r.truncated for r in good], dtype=np.uint8),
            "forged": np.array([r.forged for r in good], dtype=np.int32),
        }
        return columns, {r.id: r.reason for r in rows if r.reason}

    return work


def encoded_rows(table: Table, ids: Sequence[str]) -> list[Encoded]:
    """The rows of a token table as the learner sees them, in the order of `ids`, those the table was asked for.

    Unscored rows come back empty, with their reason.
    """
    input_ids, supervised = iter(table.ragged("input_ids")), iter(table.ragged("supervised"))
    truncated, forged = iter(table.column("truncated").tolist()), iter(table.column("forged").tolist())
    empty = np.zeros(0, dtype=np.int32)
    rows = []
    for row_id in ids:
        if row_id in table.unscored:
            rows.append(Encoded(row_id, empty, empty.astype(bool), reason=table.unscored[row_id]))
        else:
            mask = next(supervised).astype(bool)
            rows.append(Encoded(row_id, next(input_ids), mask, bool(next(truncated)), "", next(forged)))
    return rows
