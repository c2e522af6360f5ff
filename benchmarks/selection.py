"""Neighbours, facility location, k-center, herding and kNN-Shapley beside other libraries, on the same rows.

    python -m benchmarks.selection --rows 3000 10000 30000 --json
    python -m benchmarks.selection --rows 300000 --only facility --ways dataworth --json

Rows are unit vectors in clusters. Every way of doing a task runs in a fresh process, warmed up on 200 rows, so that its
peak memory is its own; libraries that aren't installed are named and skipped, and one that fails says how. Times are
CPU-seconds of the whole task: a library that is given similarities pays for them (in `greedy`, the graph is given to
all). `value` is computed for all ways alike: facility location's objective and the gap of herding's mean over all
pairs, the radius of k-center, the recall of neighbours and the largest difference of Shapley values to ours.

What peers are given: apricot and submodlib lazy greedy on a graph of as many neighbours and on the dense matrix;
scikit-learn and faiss brute-force products; for k-center submodlib's DisparityMin and a loop over scikit-learn's
pairwise distances with one vector of minima (the usual active-learning code); coreax's KernelHerding with a linear
kernel; pyDVL's KNNShapleyValuation.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import time
from collections.abc import Callable
from functools import cached_property
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.pools import machine

from dataworth.numerics import facility
from dataworth.numerics.herding import herd
from dataworth.numerics.kcenter import farthest_first
from dataworth.numerics.knn_shapley import knn_shapley
from dataworth.numerics.neighbours import nearest

WARM_ROWS = 200
DENSE_LIMIT = 12_000
"""Ways that hold all pairs stop here."""


class Case:
    """Rows, labels and sizes of one task, made from a seed."""

    def __init__(self, rows: int, args: dict[str, Any]) -> None:
        rng = np.random.default_rng(args["seed"])
        clusters = max(2, min(500, rows // 20))
        centers = rng.normal(size=(clusters, args["width"]))
        label = rng.integers(0, clusters, rows + args["goal"])
        x = centers[label] + args["spread"] * rng.normal(size=(rows + args["goal"], args["width"]))
        x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
        self.x, self.label = x[:rows], label[:rows] % 10
        self.goal, self.goal_label = x[rows:], label[rows:] % 10
        self.keep, self.k = max(1, int(rows * args["keep"])), min(args["k"], rows - 1)

    @cached_property
    def graph(self) -> Any:
        """Similarities of neighbours, as `facility.graph` makes them."""
        found = nearest(self.x, np.arange(len(self.x)), self.k)
        return facility.graph(found.index_Nk, found.cosine_Nk)


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
    """Brute-force cosine distances."""
    from sklearn.neighbors import NearestNeighbors

    found = NearestNeighbors(n_neighbors=case.k, algorithm="brute", metric="cosine").fit(case.x)
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
    from scipy.sparse import csr_matrix

    chosen = FacilityLocationSelection(case.keep, metric="precomputed", optimizer="lazy")
    return chosen.fit(csr_matrix(case.graph, dtype=np.float64)).ranking


def apricot_dense(case: Case) -> Any:
    """Lazy greedy on all pairs."""
    from apricot import FacilityLocationSelection

    similarity = np.maximum(case.x @ case.x.T, 0).astype(np.float64)
    return FacilityLocationSelection(case.keep, metric="precomputed", optimizer="lazy").fit(similarity).ranking


def submodlib_sparse(case: Case) -> Any:
    """Its own sparse kernel, lazy greedy."""
    from submodlib import FacilityLocationFunction

    made = FacilityLocationFunction(
        n=len(case.x),
        mode="sparse",
        data=case.x,
        metric="cosine",
        num_neighbors=case.k,
        create_dense_cpp_kernel_in_python=False,
    )
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

    made = DisparityMinFunction(n=len(case.x), mode="dense", sijs=np.asarray(case.x @ case.x.T))
    return _greedily(made, case.keep, optimizer="NaiveGreedy")


def _greedily(function: Any, keep: int, optimizer: str = "LazyGreedy") -> list[int]:
    found = function.maximize(
        budget=keep, optimizer=optimizer, stopIfZeroGain=False, stopIfNegativeGain=False, show_progress=False
    )
    return [i for i, _ in found]


def our_k_center(case: Case) -> Any:
    """One vector of minima, float32 products."""
    return farthest_first(case.x, case.keep, 0)[0]


def sklearn_k_center(case: Case) -> Any:
    """A loop over pairwise_distances with one vector of minima."""
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

    coreset, _ = KernelHerding(coreset_size=case.keep, kernel=LinearKernel(), unique=True).reduce(Data(case.x))
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


Way = tuple[str, str | None, Callable[[Case], Any], bool]
TASKS: dict[str, tuple[Callable[[Case, Any], float], list[Way]]] = {
    "neighbours": (
        recall,
        [
            ("dataworth", None, our_neighbours, False),
            ("faiss", "faiss", faiss_neighbours, False),
            ("scikit-learn", "sklearn", sklearn_neighbours, False),
        ],
    ),
    "facility": (
        objective,
        [
            ("dataworth", None, our_facility, False),
            ("dataworth-stochastic", None, our_stochastic, False),
            ("dataworth-dense", None, our_dense, True),
            ("apricot-sparse", "apricot", apricot_sparse, False),
            ("apricot-dense", "apricot", apricot_dense, True),
            ("submodlib-sparse", "submodlib", submodlib_sparse, True),
            ("submodlib-dense", "submodlib", submodlib_dense, True),
        ],
    ),
    "greedy": (
        objective,
        [("dataworth", None, our_facility, False), ("apricot-sparse", "apricot", apricot_sparse, False)],
    ),
    "k-center": (
        radius,
        [
            ("dataworth", None, our_k_center, False),
            ("scikit-learn", "sklearn", sklearn_k_center, False),
            ("submodlib", "submodlib", submodlib_disparity, True),
        ],
    ),
    "herding": (
        mean_gap,
        [("dataworth", None, our_herding, False), ("coreax", "coreax", coreax_herding, False)],
    ),
    "shapley": (
        shapley_gap,
        [("dataworth", None, our_shapley, False), ("pydvl", "pydvl", pydvl_shapley, False)],
    ),
}


def measure(task: str, way: str, rows: int, args: dict[str, Any]) -> dict[str, Any]:
    """Run one way of one task in this process."""
    value, ways = TASKS[task]
    work = next(w for name, _, w, _ in ways if name == way)
    try:
        work(Case(min(rows, WARM_ROWS), args))
        case = Case(rows, args)
        if task == "greedy":
            assert case.graph is not None  # made before the clock starts
        before = time.process_time(), time.perf_counter()
        found = work(case)
        cpu, wall = time.process_time() - before[0], time.perf_counter() - before[1]
        # Not ru_maxrss: a started process inherits the peak of the one that started it.
        status = Path("/proc/self/status").read_text()
        peak = int(status.partition("VmHWM:")[2].split()[0]) / 2**20
        return {
            "cpu_seconds": round(cpu, 3),
            "wall_seconds": round(wall, 3),
            "peak_rss_gib": round(peak, 3),
            "value": float(f"{value(case, found):.6g}"),
        }
    except Exception as error:  # a peer's failure is a finding, not the end of the table
        if way.startswith("dataworth"):
            raise
        return {"failed": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}


def apart(task: str, way: str, rows: int, args: dict[str, Any]) -> dict[str, Any]:
    """`measure` in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as one:
        return one.apply(measure, (task, way, rows, args))


def compared(rows: int, args: dict[str, Any]) -> list[dict[str, Any]]:
    """All ways of all tasks at one size, with ratios of CPU-seconds to ours."""
    out = []
    for task, (_, ways) in TASKS.items():
        if args["only"] and task not in args["only"]:
            continue
        ours = None
        for name, package, _, dense in ways:
            row = {"task": task, "way": name, "rows": rows}
            if args["ways"] and name not in args["ways"]:
                continue
            if package and find_spec(package) is None:
                out.append({**row, "skipped": f"{package} isn't installed"})
            elif dense and rows > DENSE_LIMIT:
                out.append({**row, "skipped": f"it holds all pairs of more than {DENSE_LIMIT:,} rows"})
            else:
                found = (measure if args["in_process"] else apart)(task, name, rows, args)
                ours = ours or found.get("cpu_seconds")
                if ours and "cpu_seconds" in found:
                    found["times_ours"] = round(found["cpu_seconds"] / ours, 2)
                out.append({**row, **found})
    return out


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
    parser.add_argument("--rows", type=int, nargs="+", default=[3_000])
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--keep", type=float, default=0.1, help="share of the rows to pick")
    parser.add_argument("--k", type=int, default=32, help="neighbours a row")
    parser.add_argument("--goal", type=int, default=100, help="goal rows of kNN-Shapley")
    parser.add_argument("--spread", type=float, default=0.5, help="standard deviation within a cluster")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[], choices=list(TASKS))
    parser.add_argument("--ways", nargs="*", default=[], help="names of ways, all by default")
    parser.add_argument("--in-process", action="store_true", help="no process apart for each way (peaks add up)")
    parser.add_argument("--json", action="store_true")
    args = vars(parser.parse_args(arguments))
    cpu = next((s.split(": ")[1] for s in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in s), "")
    results = [row for rows in args["rows"] for row in compared(rows, args)]
    report = {
        "benchmark": "selection",
        "hardware": cpu or platform.processor(),
        **machine(),
        "versions": versions(),
        **{key: args[key] for key in ("width", "keep", "k", "goal", "spread", "seed")},
        "results": results,
    }
    if args["json"]:
        print(json.dumps(report))
        return
    for row in results:
        said = (
            row.get("skipped")
            or row.get("failed")
            or "  ".join(f"{k}={v}" for k, v in row.items() if k not in ("task", "way", "rows"))
        )
        print(f"{row['task']:<11}{row['way']:<22}{row['rows']:>9,}  {said}")


if __name__ == "__main__":
    main()
