"""Neighbours, facility location, k-center, herding, kNN-Shapley and top-k beside other libraries, on the same rows.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python -m benchmarks.selection --out benchmarks/results/selection-cpu.json
    python -m benchmarks.selection --rows 3000 --only greedy k-center --json

Without `--rows` every task runs at its own sizes, those that goals name first. `--out` keeps every finished take: the
same command again goes on where it stopped.

Rows are unit vectors in clusters. A take is one way of doing a task in a fresh process, on one thread, warmed up on 200
rows; its peak memory is counted from when the rows are there. A rival and we take turns (twice where both are quick),
and `times_ours` is the median over turns of its CPU-seconds to ours of the same turn. CPU-seconds are of the whole
task: a library that is given similarities pays for them; in `greedy` the graph is given to all, in the form that each
reads. `start_cpu_seconds` is what a warmed-up way still takes for 200 rows, such as apricot, which compiles its loops
in every fit; `times_ours_started` leaves that out for the rival. A take under 10 s is repeated in its process and the
quicker one counts, so that a library that compiles for every shape is counted without that. A rival that exceeds
`--limit` CPU-seconds is stopped and reported as more than that, with `times_ours_at_least`. Libraries that aren't
installed are named and skipped, and one that fails says how.

`value` is computed for all ways alike, apart from the clock: facility location's objective and the gap of herding's
mean over all pairs of the same rows, the radius of k-center, the recall of neighbours, the largest difference of
Shapley values to ours, and whether top-k's rows are the right ones. `of_dense` is the objective over that of lazy
greedy with all pairs.

What rivals are given, the quickest of their settings: apricot and submodlib lazy greedy, on a graph of as many
neighbours and on the dense matrix; faiss's IndexFlatIP (its block sizes and its reservoir changed nothing);
scikit-learn's brute force with Euclidean distances of unit rows, which is twice as quick as with its cosine, and for
k-center a loop with one vector of maxima over its linear_kernel without checks (`scikit-learn`) beside the usual one
over pairwise_distances (`scikit-learn-usual`); submodlib's DisparityMin for k-center; coreax's KernelHerding with a
linear kernel in blocks; pyDVL's KNNShapleyValuation.

`top-k` has no rival. Its clock runs over what `select --method ... --pick top_k --keep 5%` does with scores that are
there: the pick's inputs, the pick with a reason for every row, the sidecar (reasons.parquet, weights.parquet,
origin.json, a card) and the run's tables (scores, selection, weights), on disk; `steps` tells them apart. One row in a
thousand has no score, and scores have ties. Not in it, since there is no pool file of that size: reading the pool, its
ids, making scores, the gate, copying the kept rows, and the parts of run and card that read texts (samples, comparison
with other methods, composition, lengths).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from benchmarks.pools import machine
from scipy import sparse

from dataworth.formats import write_sidecar
from dataworth.numerics import facility
from dataworth.numerics.herding import herd
from dataworth.numerics.kcenter import farthest_first
from dataworth.numerics.knn_shapley import knn_shapley
from dataworth.numerics.neighbours import nearest
from dataworth.picks.top_k import TopK
from dataworth.records import Budget, Pool, PoolFile
from dataworth.results import Scored, Selection
from dataworth.runs import store_picked, store_scores
from dataworth.selecting import pick_inputs, weighed
from dataworth.store.atomic import write_atomic
from dataworth.store.run import RunFolder

OURS = "dataworth"
WARM_ROWS = 200
DENSE_LIMIT = 12_000
"""Ways that hold all pairs stop here."""
ALONE = 200_000
"""Rows from which rivals, which would take hours, aren't tried."""
AGAIN = 10.0
"""A take of fewer CPU-seconds is repeated."""
TURNS, QUICK = 2, 60.0
"""Turns of a rival and us, where together they take at most that many CPU-seconds."""
ONE_THREAD = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"),
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "JAX_PLATFORMS": "cpu",
}
"""The environment of takes."""
_ROWS = 16_384


class Case:
    """Rows, labels and sizes of one task, made from a seed; what a task doesn't read isn't made."""

    def __init__(self, rows: int, args: dict[str, Any]) -> None:
        self.rows, self.args = rows, args
        self.keep, self.k = max(1, int(rows * args["keep"])), min(args["k"], rows - 1)

    @cached_property
    def _all(self) -> tuple[Any, Any]:
        """Pool and goal rows with their clusters."""
        rng, rows = np.random.default_rng(self.args["seed"]), self.rows + self.args["goal"]
        clusters = max(2, min(500, self.rows // 20))
        center = rng.normal(size=(clusters, self.args["width"])).astype(np.float32)
        label = rng.integers(0, clusters, rows)
        x = rng.standard_normal((rows, self.args["width"]), dtype=np.float32)
        for a in range(0, rows, _ROWS):
            block = x[a : a + _ROWS]
            block *= self.args["spread"]
            block += center[label[a : a + _ROWS]]
            block /= np.linalg.norm(block, axis=1, keepdims=True)
        return x, label

    @property
    def x(self) -> Any:
        """Unit rows of the pool."""
        return self._all[0][: self.rows]

    @property
    def label(self) -> Any:
        """Their classes."""
        return self._all[1][: self.rows] % 10

    @property
    def goal(self) -> Any:
        """Unit rows of the goal."""
        return self._all[0][self.rows :]

    @property
    def goal_label(self) -> Any:
        """Their classes."""
        return self._all[1][self.rows :] % 10

    @cached_property
    def graph(self) -> Any:
        """Similarities of neighbours, as `facility.graph` makes them."""
        found = nearest(self.x, np.arange(len(self.x)), self.k)
        return facility.graph(found.index_Nk, found.cosine_Nk)

    @cached_property
    def graph64(self) -> Any:
        """The same as the float64 matrix that apricot and submodlib read."""
        return sparse.csr_matrix(self.graph, dtype=np.float64)

    @cached_property
    def pool(self) -> Pool:
        """An index without files: rows of random ids from two sources, all with answers."""
        rng, rows = np.random.default_rng(self.args["seed"]), self.rows
        file = PoolFile(Path("pool.jsonl"), "jsonl", "", "text", "text", (), rows, 100 * rows, 0, "")
        pool = Pool(
            files=(file,),
            sources=("a", "b"),
            digest_N16=np.frombuffer(rng.bytes(16 * rows), np.uint8).reshape(rows, 16),
            copy_N=np.zeros(rows, np.uint32),
            file_N=np.zeros(rows, np.int32),
            offset_N=np.arange(rows) * 100,
            length_N=np.full(rows, 100),
            source_N=rng.integers(0, 2, rows, dtype=np.int32),
            reader=None,
        )
        vars(pool)["unanswered"] = frozenset()  # what reading the rows would find
        return pool

    @cached_property
    def scored(self) -> Scored:
        """Scores with ties; one row in a thousand has none."""
        values = np.round(np.random.default_rng(self.args["seed"] + 1).normal(size=self.rows), 4)
        values[::1000] = np.nan
        return Scored(values, {self.pool.ids[i]: "it is empty" for i in range(0, self.rows, 1000)})

    def ready(self, names: tuple[str, ...]) -> Case:
        """The case with nothing made but `names`: what is there when the clock starts.

        A graph that is made for this is kept in `args["folder"]` for other takes.
        """
        for name in [name for name in vars(self) if isinstance(getattr(Case, name, None), cached_property)]:
            if name not in names:
                del vars(self)[name]
        if "graph" in names and "graph" not in vars(self) and self.args.get("folder"):
            kept = Path(self.args["folder"]) / f"graph-{self.rows}.npz"
            if kept.exists():
                self.graph = sparse.load_npz(kept)
            else:
                sparse.save_npz(kept, self.graph, compressed=False)
        for name in names:
            getattr(self, name)
        return self


def our_neighbours(case: Case) -> Any:
    """Blocked float32 products, float64 for the candidates."""
    return nearest(case.x, np.arange(len(case.x)), case.k).index_Nk


def faiss_neighbours(case: Case) -> Any:
    """IndexFlatIP, one thread."""
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatIP(case.x.shape[1])
    index.add(case.x)
    return index.search(case.x, case.k + 1)[1][:, 1:]


def sklearn_neighbours(case: Case) -> Any:
    """Brute-force Euclidean distances."""
    from sklearn.neighbors import NearestNeighbors

    found = NearestNeighbors(n_neighbors=case.k, algorithm="brute", metric="euclidean").fit(case.x)
    return found.kneighbors(return_distance=False)


def our_facility(case: Case) -> Any:
    """Neighbours, graph and lazy greedy."""
    return facility.greedy(case.graph, case.keep)[0]


def our_stochastic(case: Case) -> Any:
    """The same with stochastic greedy at epsilon 0.01."""
    uniform = np.random.default_rng(0).random(facility.draws(len(case.x), case.keep, 0.01))
    return facility.stochastic(case.graph, case.keep, uniform)[0]


def our_dense(case: Case) -> Any:
    """All pairs, lazy greedy."""
    return facility.greedy_dense(np.maximum(case.x @ case.x.T, 0), case.keep)[0]


def apricot_sparse(case: Case) -> Any:
    """Lazy greedy on our graph."""
    from apricot import FacilityLocationSelection

    return FacilityLocationSelection(case.keep, metric="precomputed", optimizer="lazy").fit(case.graph64).ranking


def apricot_dense(case: Case) -> Any:
    """Lazy greedy on all pairs."""
    from apricot import FacilityLocationSelection

    similarity = np.maximum(case.x @ case.x.T, 0).astype(np.float64)
    return FacilityLocationSelection(case.keep, metric="precomputed", optimizer="lazy").fit(similarity).ranking


def submodlib_sparse(case: Case) -> Any:
    """Its own sparse kernel of as many neighbours (and the row itself), lazy greedy."""
    from submodlib import FacilityLocationFunction

    made = FacilityLocationFunction(
        n=len(case.x),
        mode="sparse",
        data=case.x,
        metric="cosine",
        num_neighbors=min(case.k + 1, len(case.x)),
        create_dense_cpp_kernel_in_python=False,
    )
    return _greedily(made, case.keep)


def submodlib_graph(case: Case) -> Any:
    """Lazy greedy on our graph."""
    from submodlib import FacilityLocationFunction

    made = FacilityLocationFunction(n=case.rows, mode="sparse", sijs=case.graph64, num_neighbors=case.k)
    return _greedily(made, case.keep)


def submodlib_dense(case: Case) -> Any:
    """All pairs handed in, lazy greedy."""
    from submodlib import FacilityLocationFunction

    made = FacilityLocationFunction(
        n=len(case.x), mode="dense", sijs=np.maximum(case.x @ case.x.T, 0), separate_rep=False
    )
    return _greedily(made, case.keep)


def submodlib_disparity(case: Case) -> Any:
    """DisparityMin, whose greedy takes the row farthest from those taken."""
    from submodlib import DisparityMinFunction

    # Its similarities must lie in [0, 1].
    made = DisparityMinFunction(n=len(case.x), mode="dense", sijs=np.clip((1 + case.x @ case.x.T) / 2, 0, 1))
    return _greedily(made, case.keep, optimizer="NaiveGreedy")


def _greedily(function: Any, keep: int, optimizer: str = "LazyGreedy") -> list[int]:
    found = function.maximize(
        budget=keep, optimizer=optimizer, stopIfZeroGain=False, stopIfNegativeGain=False, show_progress=False
    )
    return [i for i, _ in found]


def our_k_center(case: Case) -> Any:
    """Products of many rows and centers at a time, without those that can change nothing."""
    return farthest_first(case.x, case.keep, 0)[0]


def sklearn_k_center(case: Case) -> Any:
    """A loop over linear_kernel with one vector of maxima and no checks."""
    from sklearn import config_context
    from sklearn.metrics.pairwise import linear_kernel

    with config_context(assume_finite=True):
        picked, most = [0], linear_kernel(case.x, case.x[:1]).ravel()
        while len(picked) < case.keep:
            picked.append(int(np.argmin(most)))
            np.maximum(most, linear_kernel(case.x, case.x[picked[-1:]]).ravel(), out=most)
    return picked


def sklearn_usual_k_center(case: Case) -> Any:
    """A loop over pairwise_distances with one vector of minima, as active-learning code does it."""
    from sklearn.metrics import pairwise_distances

    picked, least = [0], pairwise_distances(case.x, case.x[:1]).ravel()
    while len(picked) < case.keep:
        picked.append(int(np.argmax(least)))
        least = np.minimum(least, pairwise_distances(case.x, case.x[picked[-1:]]).ravel())
    return picked


def our_herding(case: Case) -> Any:
    """Float64 products."""
    return herd(case.x.astype(np.float64), case.keep)


def coreax_herding(case: Case) -> Any:
    """KernelHerding with a linear kernel, rows not repeated."""
    from coreax import Data
    from coreax.kernels import LinearKernel
    from coreax.solvers import KernelHerding

    block = min(1000, case.rows)
    solver = KernelHerding(coreset_size=case.keep, kernel=LinearKernel(), unique=True, block_size=block)
    coreset, _ = solver.reduce(Data(case.x))
    return np.asarray(coreset.unweighted_indices)


def our_shapley(case: Case) -> Any:
    """Sorted cosines and a cumulated recursion."""
    return knn_shapley(case.x, case.label, case.goal, case.goal_label, 5)


def pydvl_shapley(case: Case) -> Any:
    """KNNShapleyValuation."""
    from pydvl.valuation import Dataset, KNNShapleyValuation
    from sklearn.neighbors import KNeighborsClassifier

    names = [str(i) for i in range(case.x.shape[1])]
    train = Dataset(case.x, case.label, feature_names=names, target_names=["label"])
    test = Dataset(case.goal, case.goal_label, feature_names=names, target_names=["label"])
    model = KNeighborsClassifier(n_neighbors=5, algorithm="brute")
    return KNNShapleyValuation(model, test, progress=False).fit(train).result.values


@dataclass(frozen=True)
class Told:
    """What a way found, with the seconds of its steps."""

    found: Any
    steps: dict[str, dict[str, float]]


def our_top_k(case: Case) -> Told:
    """What `select` does with scores that are there, up to the files that say why."""
    pool, scores, budget, steps = case.pool, {"score": case.scored}, Budget("fraction", 0.05), {}
    session: Any = SimpleNamespace(pool=pool, excluded={}, request=SimpleNamespace(model=None))
    method: Any = SimpleNamespace(name="score", higher="keep")

    def step(name: str, work: Callable[[], Any]) -> Any:
        found, cpu, wall = timed(work)
        steps[name] = {"cpu_seconds": round(cpu, 3), "wall_seconds": round(wall, 3)}
        return found

    with tempfile.TemporaryDirectory() as name:
        run = RunFolder(Path(name) / "run", {"verb": "select"})
        inputs = step("inputs", lambda: pick_inputs(session, method, TopK.needs, case.scored, budget))
        kept = step("pick", lambda: weighed(TopK()(inputs, budget)))
        step("sidecar", lambda: write_sidecar(Path(name) / "picked.jsonl", pool, kept, scores, "", {}))
        step("run", lambda: _store(run, session, scores, kept))
    return Told(kept, steps)


def _store(run: RunFolder, session: Any, scores: dict[str, Scored], kept: Selection) -> None:
    """The tables of `runs.store_selection`."""
    store_scores(run, session, scores)
    store_picked(run, session.pool, kept)


def right_rows(case: Case, told: Told) -> float:
    """1 if as many rows as asked for are kept, none with a lower score than a dropped one, and all have a reason."""
    kept, value_N = told.found, case.scored.values_N
    there = ~np.isnan(value_N)
    best = value_N[kept.kept_N].min() >= value_N[~kept.kept_N & there].max() and there[kept.kept_N].all()
    return float(best and len(kept.ids) == int(0.05 * case.rows) and sum(kept.counts().values()) == case.rows)


def recall(case: Case, found: Any) -> float:
    """Share of the true neighbours of up to 500 rows, by float64 over all pairs."""
    rows = np.random.default_rng(1).permutation(len(case.x))[:500]
    hits = 0.0
    for i in rows:
        cosine = np.asarray(case.x @ case.x[i], dtype=np.float64)
        cosine[i] = -2
        edge = np.partition(cosine, -case.k)[-case.k]
        hits += float((cosine[np.asarray(found[i])] >= edge - 1e-6).mean())
    return hits / len(rows)


def radius(case: Case, picked: Any) -> float:
    """The largest distance of a row to its nearest picked one."""
    picked = np.asarray(picked, dtype=np.int64)
    near = [float((case.x[a : a + 4096] @ case.x[picked].T).max(axis=1).min()) for a in range(0, len(case.x), 4096)]
    return float(np.sqrt(max(0.0, 2 - 2 * min(near))))


def mean_gap(case: Case, picked: Any) -> float:
    """Distance between the mean of the picked rows and that of all."""
    return float(np.linalg.norm(case.x[np.asarray(picked)].mean(axis=0) - case.x.mean(axis=0)))


def shapley_gap(case: Case, values: Any) -> float:
    """The largest difference to ours."""
    return float(np.abs(np.asarray(values) - our_shapley(case)).max())


def objective(case: Case, picked: Any) -> float:
    """Facility location over all pairs, a row."""
    return facility.coverage(case.x, np.asarray(picked, dtype=np.int64)) / len(case.x)


@dataclass(frozen=True)
class Way:
    """One way of doing a task; `package` is the library it needs, `dense` that it holds all pairs."""

    name: str
    package: str | None
    work: Callable[[Case], Any]
    dense: bool = False


@dataclass(frozen=True)
class Task:
    """What is compared: how a result is judged, what is there when the clock starts, sizes, and ways (ours first)."""

    value: Callable[[Case, Any], float]
    ready: tuple[str, ...]
    sizes: tuple[int, ...]
    ways: tuple[Way, ...]


_SMALL = (3_000, 10_000, 30_000)
TASKS: dict[str, Task] = {
    "neighbours": Task(
        recall,
        ("_all",),
        (*_SMALL, 100_000),
        (
            Way(OURS, None, our_neighbours),
            Way("faiss", "faiss", faiss_neighbours),
            Way("scikit-learn", "sklearn", sklearn_neighbours),
        ),
    ),
    "facility": Task(
        objective,
        ("_all",),
        (*_SMALL, 300_000),
        (
            Way(OURS, None, our_facility),
            Way("dataworth-stochastic", None, our_stochastic),
            Way("dataworth-dense", None, our_dense, dense=True),
            Way("apricot-sparse", "apricot", apricot_sparse),
            Way("apricot-dense", "apricot", apricot_dense, dense=True),
            Way("submodlib-sparse", "submodlib", submodlib_sparse),
            Way("submodlib-dense", "submodlib", submodlib_dense, dense=True),
        ),
    ),
    "greedy": Task(
        objective,
        ("_all", "graph", "graph64"),
        (*_SMALL, 100_000),
        (
            Way(OURS, None, our_facility),
            Way("apricot", "apricot", apricot_sparse),
            Way("submodlib", "submodlib", submodlib_graph),
        ),
    ),
    "k-center": Task(
        radius,
        ("_all",),
        _SMALL,
        (
            Way(OURS, None, our_k_center),
            Way("scikit-learn", "sklearn", sklearn_k_center),
            Way("scikit-learn-usual", "sklearn", sklearn_usual_k_center),
            Way("submodlib", "submodlib", submodlib_disparity, dense=True),
        ),
    ),
    "herding": Task(
        mean_gap, ("_all",), _SMALL, (Way(OURS, None, our_herding), Way("coreax", "coreax", coreax_herding))
    ),
    "shapley": Task(
        shapley_gap,
        ("_all",),
        (*_SMALL, 100_000),
        (Way(OURS, None, our_shapley), Way("pydvl", "pydvl", pydvl_shapley)),
    ),
    "top-k": Task(right_rows, ("pool", "scored"), (10_000_000,), (Way(OURS, None, our_top_k),)),
}


@dataclass(frozen=True)
class Goal:
    """A figure that was asked for: `key` of a way's row at that size, at least (or `most`) `wanted`."""

    text: str
    task: str
    way: str
    rows: int
    key: str
    wanted: float
    most: bool = False


GOALS = (
    Goal("top-k with reasons, seconds", "top-k", OURS, 10_000_000, "cpu_seconds", 60, most=True),
    Goal("kNN-Shapley, times pyDVL", "shapley", "pydvl", 100_000, "times_ours", 15),
    Goal("k-center, times submodlib", "k-center", "submodlib", 10_000, "times_ours", 10),
    Goal("k-center, times scikit-learn at its best", "k-center", "scikit-learn", 30_000, "times_ours", 10),
    Goal("k-center, times scikit-learn's usual loop", "k-center", "scikit-learn-usual", 30_000, "times_ours", 10),
    Goal("greedy on the graph, times apricot", "greedy", "apricot", 100_000, "times_ours", 20),
    Goal("greedy on the graph, times submodlib", "greedy", "submodlib", 100_000, "times_ours", 100),
    Goal("exact neighbours, times faiss Flat", "neighbours", "faiss", 100_000, "times_ours", 8),
    Goal("sparse facility location, share of dense objective", "facility", OURS, 10_000, "of_dense", 0.99),
    Goal("facility location, seconds", "facility", OURS, 300_000, "cpu_seconds", 600, most=True),
    Goal("facility location, GiB", "facility", OURS, 300_000, "peak_rss_gib", 8, most=True),
)


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """What `work` returns, its CPU-seconds and its seconds."""
    before = time.process_time(), time.perf_counter()
    found = work()
    return found, time.process_time() - before[0], time.perf_counter() - before[1]


def limited(work: Callable[[], Any], seconds: float) -> tuple[Any, float, float]:
    """`timed`, which ends the process by SIGPROF when it has spent so many CPU-seconds (0: never)."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        return timed(work)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def peak_gib() -> float:
    """The largest resident size since `forget_peak`.

    Not ru_maxrss: a started process inherits the peak of the one that started it.
    """
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 2**20


def forget_peak() -> None:
    """Let the peak count from now (what is held now is in it)."""
    Path("/proc/self/clear_refs").write_text("5")


def measure(task: str, way: str, rows: int, args: dict[str, Any], value: bool = True) -> dict[str, Any]:
    """Run one way of one task in this process; a rival within `args["limit"]` CPU-seconds, if there is one."""
    job = TASKS[task]
    chosen = next(w for w in job.ways if w.name == way)
    limit = args.get("limit", 0) if chosen.package else 0
    try:
        small = Case(min(rows, WARM_ROWS), args).ready(job.ready)
        chosen.work(small)
        _, start, _ = timed(lambda: chosen.work(small.ready(job.ready)))
        case = Case(rows, args).ready(job.ready)
        forget_peak()
        found, cpu, wall = limited(lambda: chosen.work(case), limit)
        if cpu < AGAIN:
            case.ready(job.ready)
            found, cpu, wall = min((found, cpu, wall), limited(lambda: chosen.work(case), limit), key=lambda t: t[1])
        out = {
            "cpu_seconds": round(cpu, 4),
            "wall_seconds": round(wall, 4),
            "start_cpu_seconds": round(start, 4),
            "peak_rss_gib": round(peak_gib(), 3),
        }
        if isinstance(found, Told):
            out["steps"] = found.steps
        return {**out, "value": float(f"{job.value(case, found):.6g}")} if value else out
    except Exception as error:  # a rival's failure is a finding, not the end of the table
        if way.startswith(OURS):
            raise
        return {"failed": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}


def _send(there: Connection, *asked: Any) -> None:
    Path("/proc/self/oom_score_adj").write_text("1000")  # if memory runs out, this process is to go
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    there.send(measure(*asked))


def apart(task: str, way: str, rows: int, args: dict[str, Any], value: bool = True) -> dict[str, Any]:
    """`measure` in a process of its own; one that is ended by its limit, or by a signal, says so."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(there, task, way, rows, args, value))
    process.start()
    there.close()
    try:
        found: dict[str, Any] = here.recv()
    except EOFError:
        process.join()
        if process.exitcode == -signal.SIGPROF:
            return {"more_than_cpu_seconds": args["limit"]}
        if way.startswith(OURS) or process.exitcode == -signal.SIGINT:
            raise SystemExit(f"{task} by {way} at {rows:,} rows ended with {process.exitcode}") from None
        return {"failed": f"ended with {process.exitcode}"}
    process.join()
    return found


Take = dict[str, Any]
"""One take: task, way, rows, turn, the rival it was taken beside, when, and what `measure` found."""


class Ledger:
    """Takes that are finished, kept in a file if there is one."""

    def __init__(self, args: dict[str, Any]) -> None:
        self.args, self.takes = args, []
        self.path = Path(args["out"]) if args["out"] else None
        self.settings = {key: args[key] for key in ("width", "keep", "k", "goal", "spread", "seed")}
        if self.path and self.path.exists():
            was = json.loads(self.path.read_text())
            differ = [key for key, value in self.settings.items() if was[key] != value]
            if differ:
                raise SystemExit(f"{self.path} holds takes with another {', '.join(differ)}: choose another --out")
            self.takes = [take for take in was["takes"] if not {"skipped", "failed"} & set(take)]

    def find(self, **like: Any) -> list[Take]:
        """The takes with these entries."""
        return [take for take in self.takes if all(take.get(key) == value for key, value in like.items())]

    def add(self, *takes: Take) -> None:
        """Keep takes of one turn."""
        self.takes += takes
        if self.path:
            write_atomic(self.path, (json.dumps(self.report(), indent=1) + "\n").encode())
        for take in takes:
            print(line(take), file=sys.stderr, flush=True)

    def report(self) -> dict[str, Any]:
        """All of it as plain values, with a row for each task, way and size, and the goals."""
        text = Path("/proc/cpuinfo").read_text()
        cpu = next((line.split(": ")[1] for line in text.splitlines() if "model name" in line), "")
        found = rows_of(self.takes)
        return {
            "benchmark": "selection",
            "hardware": cpu or platform.processor(),
            **machine(),
            "versions": versions(),
            "threads": 1,
            "limit_cpu_seconds": self.args["limit"],
            **self.settings,
            "goals": goals_of(found),
            "results": found,
            "takes": self.takes,
        }


def rows_of(takes: list[Take]) -> list[dict[str, Any]]:
    """A row for each task, way and size: its quickest take, its value, and its ratios to ours of the same turns."""
    out: dict[tuple[str, int, str], dict[str, Any]] = {}
    for task, rows, way in dict.fromkeys((t["task"], t["rows"], t["way"]) for t in takes):
        mine = [t for t in takes if (t["task"], t["rows"], t["way"]) == (task, rows, way)]
        row: dict[str, Any] = {"task": task, "way": way, "rows": rows}
        counted = [t for t in mine if "cpu_seconds" in t]
        if counted:
            best = min(counted, key=lambda t: t["cpu_seconds"])
            keys = ("cpu_seconds", "wall_seconds", "start_cpu_seconds", "peak_rss_gib", "steps")
            row |= {key: best[key] for key in keys if key in best}
            row |= next(({"value": t["value"]} for t in counted if "value" in t), {})
            row["takes"] = [t["cpu_seconds"] for t in counted]
        else:
            keys = ("more_than_cpu_seconds", "skipped", "failed")
            row |= {key: mine[-1][key] for key in keys if key in mine[-1]}
        out[task, rows, way] = row | ratios(task, way, rows, takes)
    for (task, rows, _), row in out.items():
        dense = out.get((task, rows, "dataworth-dense"), {})
        if "value" in dense and "value" in row:
            row["of_dense"] = round(row["value"] / dense["value"], 5)
    return list(out.values())


def ratios(task: str, way: str, rows: int, takes: list[Take]) -> dict[str, float]:
    """A way's CPU-seconds to ours of the same turn, the median over turns."""
    found: dict[str, list[float]] = {}
    if way == OURS:
        return {}
    beside = [t for t in takes if (t["task"], t["rows"], t["beside"]) == (task, rows, way)]
    ours = {t["turn"]: max(t["cpu_seconds"], 1e-4) for t in beside if t["way"] == OURS}
    for t in beside:
        if t["way"] != way or t["turn"] not in ours:
            continue
        if "more_than_cpu_seconds" in t:
            found.setdefault("times_ours_at_least", []).append(t["more_than_cpu_seconds"] / ours[t["turn"]])
        elif "cpu_seconds" in t:
            started = max(0.0, t["cpu_seconds"] - t["start_cpu_seconds"])
            found.setdefault("times_ours", []).append(t["cpu_seconds"] / ours[t["turn"]])
            found.setdefault("times_ours_started", []).append(started / ours[t["turn"]])
    return {key: round(statistics.median(values), 2) for key, values in found.items()}


def goals_of(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each goal with what was found and whether it is met; None where it wasn't measured."""
    out = []
    for goal in GOALS:
        row = next((r for r in results if (r["task"], r["way"], r["rows"]) == (goal.task, goal.way, goal.rows)), {})
        found, least = row.get(goal.key), row.get(f"{goal.key}_at_least")
        if found is None and least is not None:  # a lower bound: it can meet a goal and not miss one
            met = True if least >= goal.wanted else None
        else:
            met = None if found is None else bool(found <= goal.wanted if goal.most else found >= goal.wanted)
        wanted = f"{'<=' if goal.most else '>='} {goal.wanted:g}"
        said = found if found is not None or least is None else f"> {least:g}"
        out.append({"goal": goal.text, "rows": goal.rows, "wanted": wanted, "found": said, "met": met})
    return out


def line(row: dict[str, Any]) -> str:
    """A take or a row of the report for people."""
    said = "  ".join(f"{k}={v}" for k, v in row.items() if k not in ("task", "way", "rows", "beside", "taken", "takes"))
    return f"{row['task']:<11}{row['way']:<22}{row['rows']:>11,}  {said}"


def turns(task: str, rows: int, args: dict[str, Any]) -> Iterator[tuple[Way, str]]:
    """The ways to set beside ours, each with why it is skipped ("" if it isn't)."""
    for way in TASKS[task].ways:
        if way.name == OURS or (args["ways"] and way.name not in args["ways"]):
            continue
        if way.package and find_spec(way.package) is None:
            yield way, f"{way.package} isn't installed"
        elif way.dense and rows > DENSE_LIMIT:
            yield way, f"it holds all pairs of more than {DENSE_LIMIT:,} rows"
        else:
            yield way, f"not tried with more than {ALONE:,} rows" if rows > ALONE else ""


def compare(task: str, rows: int, args: dict[str, Any], ledger: Ledger) -> None:
    """All ways of a task at one size, each taking turns with ours; what the ledger holds isn't taken again."""

    def take(way: str, beside: str, turn: int) -> Take:
        value = not any("value" in t for t in ledger.find(task=task, rows=rows, way=way))
        found = (measure if args["in_process"] else apart)(task, way, rows, args, value)
        when = time.strftime("%Y-%m-%d %H:%M:%S")
        return {"task": task, "way": way, "rows": rows, "turn": turn, "beside": beside, "taken": when, **found}

    for way, skipped in turns(task, rows, args):
        if skipped:
            about = {"task": task, "way": way.name, "rows": rows, "turn": 0, "beside": way.name}
            ledger.add({**about, "skipped": skipped})
            continue
        for turn in range(TURNS):
            if ledger.find(task=task, rows=rows, way=way.name, turn=turn):
                continue
            done = ledger.find(task=task, rows=rows, beside=way.name)
            if turn and sum(t.get("cpu_seconds", QUICK) for t in done if t["turn"] == 0) >= QUICK:
                break
            ledger.add(take(OURS, way.name, turn), take(way.name, way.name, turn))
    if not ledger.find(task=task, rows=rows, way=OURS):
        ledger.add(take(OURS, OURS, 0))


def plan(args: dict[str, Any]) -> list[tuple[str, int]]:
    """Tasks and sizes in order: those of goals first, then small sizes first."""
    tasks = [task for task in TASKS if not args["only"] or task in args["only"]]
    if args["rows"]:
        return [(task, rows) for rows in args["rows"] for task in tasks]
    rest = sorted(((rows, task) for task in tasks for rows in TASKS[task].sizes), key=lambda pair: pair[0])
    wanted = [(goal.task, goal.rows) for goal in GOALS if goal.task in tasks]
    return list(dict.fromkeys([*wanted, *((task, rows) for rows, task in rest)]))


def versions() -> dict[str, str]:
    """Versions of all that took part."""
    names = (
        "numpy",
        "scipy",
        "numba",
        "scikit-learn",
        "faiss-cpu",
        "apricot-select",
        "submodlib-py",
        "coreax",
        "pyDVL",
    )
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def main(arguments: list[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="*", default=[], help="sizes, each task's own by default")
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--keep", type=float, default=0.1, help="share of the rows to pick (top-k: 0.05)")
    parser.add_argument("--k", type=int, default=32, help="neighbours a row")
    parser.add_argument("--goal", type=int, default=100, help="goal rows of kNN-Shapley")
    parser.add_argument("--spread", type=float, default=0.5, help="standard deviation within a cluster")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=300, help="CPU-seconds after which a rival is stopped")
    parser.add_argument("--only", nargs="*", default=[], choices=list(TASKS))
    parser.add_argument("--ways", nargs="*", default=[], help="names of ways beside ours, all by default")
    parser.add_argument("--in-process", action="store_true", help="no process, and no limit, for each take")
    parser.add_argument("--out", help="file that keeps finished takes and the report")
    parser.add_argument("--json", action="store_true")
    args = vars(parser.parse_args(arguments))
    if args["in_process"]:
        args["limit"] = 0
    else:
        os.environ |= ONE_THREAD
    ledger = Ledger(args)
    with tempfile.TemporaryDirectory() as folder:
        for task, rows in plan(args):
            compare(task, rows, args | {"folder": folder}, ledger)
    report = ledger.report()
    if args["json"]:
        print(json.dumps(report))
        return
    for row in report["results"]:
        print(line(row))
    for goal in report["goals"]:
        print(f"{goal['goal']:<52}{goal['rows']:>11,}  {goal['wanted']:>8}  {goal['found']}  {goal['met']}")


if __name__ == "__main__":
    main()
