"""Writing the picked rows: the user's own format, with reasons, weights and a card beside them."""

from __future__ import annotations

import fnmatch
import glob
import shlex
from pathlib import Path

import numpy as np

from dataworth import config
from dataworth.errors import RequestError
from dataworth.records import Pool
from dataworth.results import SelectResult
from dataworth.session import Session, open_pool_of
from dataworth.store.json_files import read_json
from dataworth.store.run import RunFolder


def refuse_joining(request: config.SelectRequest) -> None:
    """Refuse an output that would be part of the pool the next time.

    Raises:
        RequestError: `out` lies in a folder, or matches a glob, that names the pool.
    """
    if request.out is None:
        return
    out = Path(request.out).expanduser().resolve()
    for named in request.pool:
        place = Path(named).expanduser().resolve()
        if place.is_dir():
            joins = out.is_relative_to(place)
        else:
            joins = glob.has_magic(named) and not place.exists() and fnmatch.fnmatch(str(out), str(place))
        if joins:
            raise RequestError(f"{request.out} would join the pool {named}: expected a place outside it; change --out")


def write_picked(
    result: SelectResult, request: config.SelectRequest, run: RunFolder, out: Path, session: Session | None
) -> tuple[Path, ...]:
    """Write a selection; what is already there as this run wrote it is left alone.

    Raises:
        RequestError: `out` is one of the input files, or can't hold the pool's format.
        FormatError: An input changed since it was indexed.
    """
    from dataworth.exports.card import dataset_card
    from dataworth.formats import ORIGIN, write_sidecar, write_subset

    if session is None and _already_there(run, out):
        return tuple(Path(p) for p in run.read_record()["timings"]["written"][str(out)])
    pool = session.pool if session else open_pool_of(request, None)
    chosen = np.flatnonzero(result.selection.kept_N)
    card = dataset_card(
        pool,
        result.selection,
        title=out.name,
        method=f"{result.method} and {result.pick}",
        command=f"dataworth replay {shlex.quote(str(run.path))}",
        goal=request.goal,
        learner=request.model,
        beside=result.beside,
        lengths_N=_characters(pool) if not _WORDLESS & {f.schema for f in pool.files} else None,
        length_unit="characters",
    )
    with run.lock:
        files = write_subset(pool, chosen, out)
        origin = read_json(run.path / ORIGIN, "delete the run folder and select again", {"steer": list})
        write_sidecar(out, pool, result.selection, {result.method: result.scored}, card, origin)
        _remember(run, out, files)
    return tuple(files)


_WORDLESS = {"labelled_image", "labelled_vector"}
"""Schemas of rows that have no length."""


def _characters(pool: Pool) -> np.ndarray:
    return np.fromiter((len(e.full_text) for e in pool.examples()), dtype=np.int64, count=len(pool))


def _already_there(run: RunFolder, out: Path) -> bool:
    from dataworth.formats import sidecar_of

    written = run.read_record()["timings"].get("written", {}).get(str(out))
    return bool(written) and sidecar_of(out).is_dir() and all(_stamp(Path(p)) == s for p, s in written.items())


def _stamp(path: Path) -> list[int]:
    from dataworth.formats.table_formats import stamp_of

    return list(stamp_of(path)) if path.exists() else []


def _remember(run: RunFolder, out: Path, files: list[Path]) -> None:
    record = run.read_record()
    written = record["timings"].get("written", {}) | {str(out): {str(f): _stamp(f) for f in files}}
    run.write_record(record["content"], record["timings"] | {"written": written})
