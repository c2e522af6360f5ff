"""Writing the picked rows: the user's own format, with reasons, weights and a card beside them."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np

from dataworth import config
from dataworth.records import Pool
from dataworth.results import SelectResult
from dataworth.session import Session, open_pool_of
from dataworth.store.run import RunFolder


def write_picked(
    result: SelectResult, request: config.SelectRequest, run: RunFolder, out: Path, session: Session | None
) -> tuple[Path, ...]:
    """Write a selection; what is already there as this run wrote it is left alone.

    Raises:
        RequestError: `out` is one of the input files, or can't hold the pool's format.
        FormatError: An input changed since it was indexed.
    """
    from dataworth.exports.card import dataset_card
    from dataworth.formats import write_sidecar, write_subset

    if session is None and _already_there(run, out):
        return tuple(Path(p) for p in run.read_record()["timings"]["written"][str(out)])
    pool = session.pool if session else open_pool_of(request, None)
    files = write_subset(pool, np.flatnonzero(result.selection.kept_N), out)
    card = dataset_card(
        pool,
        result.selection,
        title=out.name,
        method=f"{result.method} and {result.pick}",
        command=f"dataworth replay {shlex.quote(str(run.path))}",
        goal=request.goal,
        learner=request.model,
        lengths_N=_characters(pool),
        length_unit="characters",
    )
    write_sidecar(out, pool, result.selection, {result.method: result.scored}, card)
    _remember(run, out, files)
    return tuple(files)


def _characters(pool: Pool) -> np.ndarray:
    return np.fromiter((len(e.full_text) for e in pool.examples()), dtype=np.int64, count=len(pool))


def _already_there(run: RunFolder, out: Path) -> bool:
    written = run.read_record()["timings"].get("written", {}).get(str(out))
    return bool(written) and all(_stamp(Path(p)) == stamp for p, stamp in written.items())


def _stamp(path: Path) -> list[int]:
    return [path.stat().st_size, path.stat().st_mtime_ns] if path.is_file() else []


def _remember(run: RunFolder, out: Path, files: list[Path]) -> None:
    record = run.read_record()
    written = record["timings"].get("written", {}) | {str(out): {str(f): _stamp(f) for f in files}}
    run.write_record(record["content"], record["timings"] | {"written": written})
