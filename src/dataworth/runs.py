"""A verb's run folder: what makes two requests the same run, what is stored, and how a finished one comes back."""

from __future__ import annotations

import dataclasses
import platform
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dataworth import config
from dataworth.artefacts import needs_goal
from dataworth.beside import beside
from dataworth.composition import composition
from dataworth.errors import RequestError
from dataworth.forecasts import forecast_pick, forecast_subject
from dataworth.formats import ORIGIN
from dataworth.piloting import policy_of, tuned_by
from dataworth.proving.subsets import read_reasons
from dataworth.records import Pool, hash_unit, id_order
from dataworth.results import Pick, SampleRow, Score, Scored, ScoreResult, Selection, SelectResult
from dataworth.session import Session
from dataworth.sizing import sizes_itself
from dataworth.store.atomic import refused, write_atomic
from dataworth.store.cache import Cache
from dataworth.store.fingerprint import canonical_json, fingerprint
from dataworth.store.run import DEFAULT_RUNS, EXEMPT_FILES, PICTURES, RunFolder, said
from dataworth.thumbnails import thumbnail

if TYPE_CHECKING:
    from dataworth.diagnosing.diagnosis import Diagnosis
    from dataworth.proof.arms import ArmPlan
    from dataworth.proof.result import ProofResult

_NOT_IDENTITY = ("device", "workers", "run", "out", "portable", "max_rejected")
PORTABLE = "cache"
_SHOWN = 3
_CUT = 160
_NUMBERED = ("npz", "parquet", "arrow")
"""Formats whose index holds a row's number, counted from 0, where others have its byte."""


def identity(verb: str, request: config.Request) -> dict[str, Any]:
    """What makes two requests the same run: the request and its input files, not where it runs or writes."""
    from dataworth.formats.goal import goal_files
    from dataworth.formats.paths import find_files
    from dataworth.formats.table_formats import stamp_of

    values = {k: v for k, v in config.to_dict(request).items() if k not in _NOT_IDENTITY}
    files = find_files(list(request.pool))
    if request.goal is not None:
        files += goal_files(request.goal)
    if request.recipe is not None and Path(request.recipe).is_file():
        files.append(Path(request.recipe))
    if request.model is not None:
        files += _model_files(Path(request.model).expanduser())
    files += [Path(path) for path in request.dynamics if Path(path).is_file()]
    if request.encoder is not None:
        files += sorted(p for p in Path(request.encoder).expanduser().rglob("*") if p.is_file())
    if isinstance(request, config.TrialRequest):
        files += _subset_files(request)
    if isinstance(request, config.DiagnoseRequest):
        files += [f for f in map(Path, filter(None, [request.training_log])) if f.is_file()]
        files += _model_files(Path(request.larger).expanduser()) if request.larger else []
    return {"verb": verb, **values, "inputs": {str(f): list(stamp_of(f)) for f in files}}


def _subset_files(request: config.TrialRequest) -> list[Path]:
    """The files behind subsets (a run's selection, a file, what its sidecar tells), protected skills and a trainer."""
    from dataworth.formats import protect, sidecar_of
    from dataworth.proving.trainers import trainer_of

    subsets = [Path(path).expanduser() for path in request.subset]
    tables = [f / name for s in subsets for f in (s, sidecar_of(s)) for name in ("weights.parquet", ORIGIN)]
    beside = [*subsets, *(s / "record.json" for s in subsets), *tables]
    protected = [protect(named).judge.path for named in request.protect]
    trainer = trainer_of(request)
    return [p for p in (*beside, *protected, *(trainer.files if trainer else ())) if p.is_file()]


def _model_files(model: Path) -> list[Path]:
    """The files of a local model, so that a model trained on is another one; a hub id has none here."""
    if model.is_file():
        return [model]
    if ":" in model.name and not model.is_dir() and model.name.partition(":")[0] not in ("torchvision", "timm"):
        from dataworth.learners.modules import importable

        return importable(model.name.partition(":")[0])
    return sorted(p for p in model.iterdir() if p.is_file()) if model.is_dir() else []


def open_run(verb: str, request: config.Request) -> RunFolder:
    """The run folder of a request: `--run`, else runs/<verb>-<pool>-<short hash>.

    Raises:
        RequestError: The folder belongs to another request; the message names the differing keys.
    """
    content = identity(verb, request)
    name = Path(request.pool[0]).name.split(".")[0].replace("*", "all")
    stem = re.sub(r"[^\w-]+", "-", name, flags=re.ASCII).strip("-") or "pool"
    path = Path(request.run) if request.run else Path(DEFAULT_RUNS) / f"{verb}-{stem}-{fingerprint(said(content))[:8]}"
    return RunFolder(path, content)


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    out = {"python": platform.python_version()}
    for name in ("dataworth", "numpy", "torch", "transformers", "peft"):
        try:
            out[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            out[name] = "not installed"
    return out


def record_of(session: Session) -> tuple[dict[str, Any], dict[str, Any]]:
    """(what replays, what may differ): the two halves of record.json."""
    pool = session.pool
    content: dict[str, Any] = {
        "versions": versions(),
        "seed": session.request.seed,
        "pool": {
            "fingerprint": pool.fingerprint,
            "rows": len(pool),
            "copies": pool.copies,
            "rejected": pool.rejected,
            "files": [
                {"path": str(f.path), "sha256": f.sha256, "schema": f.schema, "rows": f.rows} for f in pool.files
            ],
        },
        "goal": None,
        "recipe": session.recipe_in_force.to_dict(),
        "guards": session.guards,
        "notes": session.notes,
        "artefacts": dict(sorted(session.used.items())),
        "warmup": session.warmup_record,
    }
    if session.goal is not None:
        subtasks = {s.name: len(s.steer) for s in session.goal.subtasks}
        content["goal"] = {"fingerprint": session.goal.fingerprint, "steer_rows": subtasks}
        if policy_of(session.request) or sizes_itself(session.request):
            content["goal"]["tune"] = tuned_by(session.goal)
    if "learner" in vars(session):
        content["learner"] = {"fingerprint": session.learner.fingerprint, **session.learner.spec}
    if "classifier" in vars(session):
        content["learner"] = {"fingerprint": session.classifier.fingerprint, **session.classifier.spec}
    timings = {"costs": session.costs, "machine": platform.processor() or platform.machine(), "command": sys.argv[1:]}
    return content, timings


def store_scores(run: RunFolder, session: Session, scores: Mapping[str, Scored]) -> None:
    """Write scores/<name>.parquet: id, value (null where unscored), reason."""
    import pyarrow as pa

    ids = session.pool.ids
    for name, scored in scores.items():
        values_N = np.asarray(scored.values_N, dtype=np.float64)
        missing_N = np.isnan(values_N)
        # A column of nothing but nulls has no type, as where Arrow finds it from the values.
        value = pa.nulls(len(ids)) if missing_N.all() else pa.array(values_N, mask=missing_N)
        why_N = np.full(len(ids), None, dtype=object)
        for i in np.flatnonzero(missing_N).tolist():
            why_N[i] = scored.unscored.get(ids[i])
        run.write_table(f"scores/{name}", {"id": ids, "value": value, "unscored": why_N})


def store_picked(run: RunFolder, pool: Pool, selection: Selection) -> None:
    """Write selection.parquet (id, kept and reason of every row) and weights.parquet (of the kept ones)."""
    import pyarrow as pa

    reason = pa.array(selection.reasons).take(pa.array(selection.reason_code_N))
    run.write_table("selection", {"id": pool.ids, "kept": selection.kept_N, "reason": reason})
    run.write_table("weights", {"id": selection.ids, "weight": selection.weights})


def store_pictures(run: RunFolder, pool: Pool, ids: Sequence[str]) -> None:
    """Write pictures.parquet: id and a small PNG of each of these rows that is an image; no file where none is."""
    found = {i: thumbnail(pool.example(pool.position[i])) for i in dict.fromkeys(ids)}
    shown = {i: png for i, png in found.items() if png is not None}
    if shown:
        run.write_table(PICTURES, {"id": list(shown), "png": list(shown.values())})


def store_selection(
    run: RunFolder, session: Session, method: Score, pick: Pick, scored: Scored, selection: Selection
) -> SelectResult:
    """Write the selection and the record, mark the run finished, return the result."""
    samples = sample_rows(session.pool, scored, selection, method)
    store_pictures(run, session.pool, [r.id for rows in samples.values() for r in rows])
    found = beside(session, method, pick, scored, selection)
    made_of = composition(session, {"picks": selection.kept_N})
    store_scores(run, session, {method.name: scored})
    store_picked(run, session.pool, selection)
    goals = session.goal.subtasks if session.goal else ()
    seen = [i for sub in goals if needs_goal(method.needs) for i in sub.steer.ids]
    if sizes_itself(session.request) or policy_of(session.request):  # trainings decided, judged by tune rows
        seen += [i for sub in goals if sub.tune is not None for i in sub.tune.ids]
    foretold = forecast_pick(session, method, pick, scored, selection) if session.goal else None
    origin = {
        "steer": list(dict.fromkeys(seen)),
        "forecast": foretold and foretold.to_dict(),
        "of": forecast_subject(session, selection.ids) if foretold else None,
    }
    write_atomic(run.path / ORIGIN, canonical_json(origin))
    content, timings = record_of(session)
    content |= {
        "method": method.name,
        "pick": pick.name,
        "selection": selection.to_dict(),
        "beside": found | ({"forecast": str(foretold)} if foretold else {}),
        "composition": made_of,
        "reason_order": list(selection.reasons),
        "samples": {k: [dataclasses.asdict(r) for r in rows] for k, rows in samples.items()},
    }
    run.write_record(content, timings)
    run.finish()
    return _result(run, content, selection, scored)


def copy_artefacts(run: RunFolder, record: Mapping[str, Any]) -> None:
    """Copy every cache entry a finished run used into its folder, where a replay finds it before the shared cache.

    Raises:
        RequestError: The cache no longer holds one, or the disk refuses.
    """
    for entry, kind in record["artefacts"].items():
        source, target = Cache().root / kind / entry, run.path / PORTABLE / kind / entry
        if not source.is_dir():
            if target.is_dir():
                continue
            raise RequestError(f"{source} is gone: --portable needs the run's arrays; delete {run.path} and run again")
        try:
            shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*EXEMPT_FILES))
        except OSError as error:
            raise refused(target, error) from error


def finished_selection(run: RunFolder) -> SelectResult | None:
    """The result of a finished select run, read back; None if it isn't finished."""
    if not run.finished:
        return None
    content = run.read_record()["content"]
    rows, weights = run.read_table("selection"), run.read_table("weights")
    scores = run.read_table(f"scores/{content['method']}")
    reasons = tuple(content["reason_order"])
    code = {r: n for n, r in enumerate(reasons)}
    selection = Selection(
        ids=tuple(weights["id"]),
        weights=np.asarray(weights["weight"], dtype=np.float64),
        kept_N=np.asarray(rows["kept"], dtype=bool),
        reason_code_N=np.array([code[r] for r in rows["reason"]], dtype=np.uint8),
        reasons=reasons,
        reason_texts={r: v["text"] for r, v in content["selection"]["reasons"].items()},
        boundary=content["selection"]["boundary"],
        notes=tuple(content["selection"]["notes"]),
    )
    return _result(run, content, selection, read_scored(scores))


def store_score_run(
    run: RunFolder, session: Session, scores: Mapping[str, Scored], correlations: Mapping[str, Mapping[str, float]]
) -> ScoreResult:
    """Write every score and the record, mark the run finished, and return the result."""
    store_scores(run, session, scores)
    content, timings = record_of(session)
    rho = {n: {k: None if np.isnan(v) else v for k, v in c.items()} for n, c in correlations.items()}
    content |= {"methods": list(scores), "correlations": rho}
    run.write_record(content, timings)
    run.finish()
    return ScoreResult(run.path, session.pool.ids, scores, correlations, content)


def store_proof(
    run: RunFolder, session: Session, result: ProofResult, subjects: Sequence[ArmPlan] = (), *, final: bool = True
) -> ProofResult:
    """Write the verdicts, the trials and the record, mark the run finished, and return the result with its record.

    The record also says what each of the `subjects` is made of and shows some of its rows (of a method: of its first
    selection), so that a report needs neither the pool nor the subset's files. Without `final` the run isn't finished:
    the same command tries again what failed.
    """
    ids_of = {arm.name: frozenset(arm.draws[0].ids) for arm in subjects}
    held = {name: np.array([i in ids for i in session.pool.ids], dtype=np.bool_) for name, ids in ids_of.items()}
    made_of = composition(session, held)
    samples = drawn_samples(session, held)
    store_pictures(run, session.pool, [r["id"] for half in samples.values() for rows in half.values() for r in rows])
    content, timings = record_of(session)
    content |= {"proof": result.to_dict(), "composition": made_of, "samples": samples}
    run.write_table(
        "trials",
        {
            "arm": [a.name for a in result.arms for _ in a.costs],
            "number": [n for a in result.arms for n in a.numbers],
            "cost": [c for a in result.arms for c in a.costs],
        },
    )
    run.write_record(content, timings)
    if final:
        run.finish()
    return dataclasses.replace(result, record=content)


def finished_proof(run: RunFolder) -> ProofResult | None:
    """The result of a finished proof, read back; None if it isn't finished."""
    return stored_proof(run) if run.finished else None


def stored_proof(run: RunFolder) -> ProofResult:
    """The result of a proof as it was last stored, failed trials that may be mended among it."""
    from dataworth.proof.result import ProofResult

    content = run.read_record()["content"]
    return ProofResult.from_dict(run.path, content["proof"], content)


def store_diagnosis(run: RunFolder, session: Session, found: Diagnosis, *, final: bool = True) -> Diagnosis:
    """Write what was measured and the record, mark the run finished, and return the diagnosis with its record.

    Without `final` the run isn't finished: the same command tries again what failed.
    """
    content, timings = record_of(session)
    content |= {"measured": found.measured.to_dict(), "target": found.target, "headline": found.headline()}
    run.write_record(content, timings)
    if final:
        run.finish()
    return found.with_record(content)


def finished_diagnosis(run: RunFolder) -> Diagnosis | None:
    """The diagnosis of a finished run; None if it isn't finished."""
    return stored_diagnosis(run) if run.finished else None


def stored_diagnosis(run: RunFolder) -> Diagnosis:
    """The diagnosis as its run was last stored, read anew from what was measured."""
    from dataworth.diagnosing.diagnosis import Diagnosis
    from dataworth.diagnosing.measured import Measured

    content = run.read_record()["content"]
    return Diagnosis(run.path, Measured.from_dict(content["measured"]), content["target"], content)


def finished_scores(run: RunFolder) -> ScoreResult | None:
    """The result of a finished score run, read back; None if it isn't finished."""
    if not run.finished:
        return None
    content = run.read_record()["content"]
    tables = {name: run.read_table(f"scores/{name}") for name in content["methods"]}
    rho = {n: {k: float("nan") if v is None else v for k, v in c.items()} for n, c in content["correlations"].items()}
    ids = tuple(next(iter(tables.values()))["id"])
    return ScoreResult(run.path, ids, {n: read_scored(t) for n, t in tables.items()}, rho, content)


def read_scored(table: Mapping[str, Any]) -> Scored:
    """A score as `store_scores` wrote it."""
    values = np.array([np.nan if v is None else v for v in table["value"]], dtype=np.float64)
    return Scored(values, {i: why for i, why in zip(table["id"], table["unscored"], strict=True) if why is not None})


def _result(run: RunFolder, content: Mapping[str, Any], selection: Selection, scored: Scored) -> SelectResult:
    samples = content["samples"]
    return SelectResult(
        run=run.path,
        method=content["method"],
        pick=content["pick"],
        selection=selection,
        scored=scored,
        kept_sample=tuple(SampleRow(**r) for r in samples["kept"]),
        dropped_sample=tuple(SampleRow(**r) for r in samples["dropped"]),
        record=content,
    )


def sample_rows(pool: Pool, scored: Scored, selection: Selection, method: Score) -> dict[str, list[SampleRow]]:
    """Three rows kept and three dropped, with reasons in plain words: the best, one just below the cut, the worst."""
    sign = 1.0 if ((scored.higher or method.higher) == "keep") != selection.turned else -1.0
    value = np.where(np.isnan(scored.values_N), -np.inf, sign * scored.values_N)
    place = np.empty(len(pool), dtype=np.int64)
    place[id_order(pool.ids)] = np.arange(len(pool))
    order = np.lexsort((place, -value))  # ties as picks break them
    rank = {int(i): n for n, i in enumerate(order, 1)}
    kept = [int(i) for i in order if selection.kept_N[i]][:_SHOWN]
    out = [int(i) for i in order if not selection.kept_N[i]]
    dropped = list(dict.fromkeys([*out[:1], *out[-2:]]))
    total = int(np.isfinite(value).sum())

    def row(i: int) -> SampleRow:
        why = selection.reason_texts[selection.reasons[selection.reason_code_N[i]]]
        known = np.isfinite(value[i])
        standing = f" ({method.name} {scored.values_N[i]:.4g}, rank {rank[i]:,} of {total:,})" if known else ""
        detail = scored.unscored.get(pool.ids[i])
        return SampleRow(pool.ids[i], _cut(_shown(pool, i)), float(scored.values_N[i]) if known else None,
                         why + standing + (f": {detail}" if detail else ""))  # fmt: skip

    return {"kept": [row(i) for i in kept], "dropped": [row(i) for i in dropped]}


def _shown(pool: Pool, i: int) -> str:
    """A row for a person to look at; one without words by its file's name, or its place in the file, and its class."""
    example, file = pool.example(i), pool.files[pool.file_N[i]]
    if file.format == "images":
        return f"{pool.columns(i)['file_name']}, class {example.label}"
    if example.content is None or file.format not in _NUMBERED:
        return example.shown
    return f"row {pool.offset_N[i]:,} of {file.path.name} {example.shown}"


def drawn_samples(session: Session, held: Mapping[str, NDArray[np.bool_]]) -> dict[str, dict[str, list[Any]]]:
    """Rows of each proved subset and of the rest of the pool, drawn by the hash of their ids, as plain JSON values.

    Where a `select` run or a written subset says why its rows were kept and others dropped, so do the samples.
    """
    pool, request = session.pool, session.request
    known = [read_reasons(path) for path in request.subset] if isinstance(request, config.TrialRequest) else []
    order = np.argsort(hash_unit(pool.ids, request.seed, "report sample"), kind="stable")
    told = {}
    for name, held_N in held.items():
        mine = {pool.ids[i] for i in np.flatnonzero(held_N)}
        # Of subsets that hold all these rows, the smallest is the one that they were read from.
        fits = [r for r in known if mine <= {i for i, (kept, _) in r.items() if kept}]
        reasons = min(fits, key=lambda r: sum(kept for kept, _ in r.values()), default={})
        halves = {"kept": order[held_N[order]][:_SHOWN], "dropped": order[~held_N[order]][:_SHOWN]}
        told[name] = {half: [_drawn_row(pool, int(i), reasons) for i in found] for half, found in halves.items()}
    return told


def _drawn_row(pool: Pool, i: int, reasons: Mapping[str, tuple[bool, str]]) -> dict[str, Any]:
    _, why = reasons.get(pool.ids[i], (True, ""))
    return dataclasses.asdict(SampleRow(pool.ids[i], _cut(_shown(pool, i)), None, why))


def _cut(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _CUT else flat[: _CUT - 1] + "…"
