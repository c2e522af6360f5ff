"""One file of goal rows cut in three: steer (selection sees it), tune (choices see it), judge (only proof opens it)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from dataworth.errors import RequestError
from dataworth.formats.goal import judge_kind
from dataworth.formats.paths import stem_of
from dataworth.formats.pool import open_pool
from dataworth.formats.subset import all_or_nothing, write_subset
from dataworth.records import Pool, hash_unit
from dataworth.results import GoalSplit

SHARES = {"steer": 0.4, "tune": 0.2, "judge": 0.4}
MIN_JUDGE_ROWS = 20
"""Fewer judge rows than this say next to nothing about a subset."""
_KIND_OF = {"choice": "choice", "text": "ppl"}


def split_goal(
    path: str | Path,
    out: str | Path,
    *,
    mapping: Mapping[str, str] | None = None,
    judge: str | None = None,
    **reading: Any,
) -> GoalSplit:
    """Write the three parts of a goal file and the `goal.yaml` that names them.

    A row's part follows from the hash of its columns alone: rows added later don't move the others, so a judge row
    stays one, and identical copies stay together.

    Args:
        path: One file of rows, or a folder of images by class; the parts keep its format and its rows' bytes.
        out: The folder for `goal.yaml` and the parts.
        mapping: Role -> column expression, kept in `goal.yaml`.
        judge: The judge's kind, kept in `goal.yaml`; by default what the rows' schema suggests.
        **reading: Further arguments of `open_pool` (`duplicate_keys`, `rejects`, ...).

    Raises:
        RequestError: Several files, fewer than 20 judge rows, an empty part, an unknown judge, or another `goal.yaml`
            in the way.
    """
    path, out = Path(path).expanduser(), Path(out).expanduser()
    if not path.exists():
        raise RequestError(f"{path} is not here: expected a file of goal rows, or a folder of images; correct its path")
    pool = open_pool(path, mapping=mapping, **{"rejects": out / "rejected.jsonl", **reading})
    if len(pool.files) > 1:
        raise RequestError(
            f"{path} is not one file ({len(pool.files)} files): expected a file of goal rows, or a folder of images; "
            "name one"
        )
    places = _places(pool)
    rows = {part: len(at) for part, at in places.items()}
    if rows["judge"] < MIN_JUDGE_ROWS or not all(rows.values()):
        shown = ", ".join(f"{n} {part}" for part, n in rows.items())
        raise RequestError(
            f"{path} splits into {shown} rows: expected at least {MIN_JUDGE_ROWS} judge rows and one of each; "
            "add rows (about 75 in all are enough), or name the parts yourself in a goal.yaml"
        )
    names = {part: f"{part}{path.name.removeprefix(stem_of(path))}" for part in SHARES}
    kind = "accuracy" if pool.kinds == {"classify"} else _KIND_OF.get(pool.files[0].schema, "loss")
    kind = kind if judge is None else judge_kind({"judge_kind": judge}, "--judge")
    entry: dict[str, Any] = {"name": stem_of(path), **names, "judge_kind": kind}
    text = yaml.safe_dump(
        {"subtasks": [{**entry, "map": dict(mapping)} if mapping else entry]}, sort_keys=False, allow_unicode=True
    )
    target = out / "goal.yaml"
    if target.exists() and target.read_text(encoding="utf-8") != text:
        raise RequestError(f"{target} is there and says something else: expected a new folder; choose another with -o")
    for part, at in places.items():
        write_subset(pool, at, out / names[part])
    with all_or_nothing([target]) as aside:
        aside[target].write_text(text, encoding="utf-8")
    return GoalSplit(target, rows, pool.rejected, pool.rejects_path, kind)


def _places(pool: Pool) -> dict[str, NDArray[np.int64]]:
    """Positions of each part's rows; copies (`id#k`) go where their first goes."""
    drawn_N = hash_unit([row_id.partition("#")[0] for row_id in pool.ids], 0, "goal-split")
    bounds = np.cumsum(list(SHARES.values()))[:-1]
    part_N = np.searchsorted(bounds, drawn_N, side="right")
    return {part: np.flatnonzero(part_N == k) for k, part in enumerate(SHARES)}
