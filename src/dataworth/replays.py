"""Doing a finished selection again: from the cached artefacts, or from scratch in an empty cache."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dataworth import config, options, plugins
from dataworth.errors import RequestError
from dataworth.piloting import tuned_by
from dataworth.results import ReplayResult
from dataworth.runs import PORTABLE, finished_selection
from dataworth.session import Progress, Session, open_session
from dataworth.store.artefact import differing_keys
from dataworth.store.cache import Cache
from dataworth.store.run import RunFolder


def replay_run(path: Path, from_scratch: bool, progress: Progress) -> ReplayResult:
    """Score and pick again as the run's config says, and compare ids and scores with what the run holds.

    A replay from scratch trains on the recorded warm-up rows, since that set is frozen at first use.

    Raises:
        RequestError: No finished selection, or an input that changed since.
    """
    from dataworth.selecting import choose_method, choose_rows
    from dataworth.sizing import budget_of

    run = RunFolder.existing(path)
    request = _request(run.config)
    before = finished_selection(run)
    if before is None:
        raise RequestError(f"{path} is not finished: expected a finished select run; run its command to the end first")
    method, pick = choose_method(request, request.method), plugins.load("picks", request.pick)
    given = options.split(config.pairs(request.option, "--option"), method, pick)
    with _cache(run, from_scratch) as cache, open_session(request, None, progress) as session:
        session.cache = cache
        _refuse_changed(path, session, before.record)
        session.warmup_ids = _warmup_ids(before.record)
        scored, selection = choose_rows(session, method, pick, budget_of(request), given)
        # The same rows may stand in another order now: rows are compared by id.
        place = [session.pool.position[i] for i in run.read_table("selection")["id"]]
    old, new = set(before.ids), set(selection.ids)
    gap = np.abs(scored.values_N[place] - before.scored.values_N)
    gap = gap[~np.isnan(gap)]
    return ReplayResult(
        run=path,
        from_scratch=from_scratch,
        kept=len(new),
        identical=new == old and scored.unscored.keys() == before.scored.unscored.keys(),
        only_before=tuple(sorted(old - new)),
        only_now=tuple(sorted(new - old)),
        score_difference=float(gap.max()) if len(gap) else 0.0,
    )


def _refuse_changed(path: Path, session: Session, record: Mapping[str, Any]) -> None:
    """Compare what was read with what the run read, by content: a file may be touched, copied or moved back.

    Raises:
        RequestError: Rows, recipe or weights are others.
    """
    was: dict[str, Any] = {
        "pool": record["pool"]["fingerprint"],
        "recipe": record["recipe"],
        "goal": None,
    }
    now: dict[str, Any] = {
        "pool": session.pool.fingerprint,
        "recipe": session.recipe_in_force.to_dict(),
        "goal": None,
    }
    if session.goal is not None and record["goal"]:
        was["goal"], now["goal"] = record["goal"]["fingerprint"], session.goal.fingerprint
        if "tune" in record["goal"]:
            was["tune rows"], now["tune rows"] = record["goal"]["tune"], tuned_by(session.goal)
    if "weights_sha256" in record.get("learner", {}):
        was["model"], now["model"] = record["learner"]["weights_sha256"], session.learner.spec["weights_sha256"]
    changed = differing_keys(was, now)
    if changed:
        raise RequestError(
            f"{path} can't be replayed: inputs changed since ({', '.join(changed)}); restore the input files"
        )


def _request(content: dict[str, Any]) -> config.SelectRequest:
    if content.get("verb") != "select":
        raise RequestError(f"this run is a {content.get('verb')} run: expected a select run")
    return config.build(config.SelectRequest, {k: v for k, v in content.items() if k not in ("verb", "inputs")})


def _warmup_ids(record: Any) -> tuple[str, ...] | None:
    found = record.get("warmup")
    return tuple(found["ids"]) if found else None


@contextmanager
def _cache(run: RunFolder, from_scratch: bool) -> Iterator[Cache]:
    """The run's own arrays if it carries them, else the shared cache; from scratch an empty one, deleted afterwards."""
    if not from_scratch:
        own = run.path / PORTABLE
        yield Cache(own if own.is_dir() else None)
        return
    beside = Cache().root.resolve().parent
    beside.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="dataworth-replay-", dir=beside) as folder:
        yield Cache(folder)
