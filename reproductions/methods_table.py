"""Every score and pick of the catalogue through the command line: `python -m reproductions.methods_table`.

Each is one `dataworth score` or `dataworth select --keep 10%` in a process and with a cache of its own, so its seconds
hold all it needs: start-up, reading, models, trainings. Texts are Alpaca's random sample with a goal of 32 rows of
Dolly, fewer of them where a language model runs; images are CIFAR-10's, with a small ResNet trained for each method;
vectors are the same images as 8 x 8 means of colours. Picks that read a score get `length` (images: `aum`, `dual`),
those that read vectors of texts a static encoder.

Told are seconds (wall, and CPU of the process with its workers), rows without a number, Spearman's correlation with
length and with `random` (of a pick: of whether a row is kept), and the test that holds the method against what is known
of it: a formula, a naive twin, a published example. What is finished is kept in the ledger, and the same command goes
on; it ends with the table in `docs/methods-table.md`.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from dataworth import plugins
from dataworth.formats import open_pool
from dataworth.numerics.ranks import rank_correlation
from dataworth.records import hash_unit
from reproductions import flan
from reproductions.less_fidelity import Ledger

FULL = {"rows": 9_229, "lm_rows": 250, "image_rows": 5_000, "epochs": 10, "width": 16}
GOAL_ROWS = 32
VECTOR_GOAL = 500
ENCODER = "potion_base_4m_int8"
PAGE = """# Every method through the command line

Made by `python -m reproductions.methods_table`, which says how; don't edit. {verdict}.
Texts: {rows:,} rows of Alpaca; where a language model runs (SmolLM2-135M), {lm_rows:,} of them. Images:
{image_rows:,} of CIFAR-10, nets of width {width} trained for {epochs} epochs. Vectors: the same images as 192 means of
colours. Seconds hold start-up and everything the method needs, one thread a process, beside other work; CPU-seconds
are of all its processes. rho is Spearman's correlation with length and with `random` (of a pick: of whether a row is
kept, which is a tenth of them), `-` where rows have no text. Most picks of texts read the score `length`, so their
correlation is no finding."""
ROOT = Path(__file__).resolve().parents[1]
MAIN = "from dataworth.cli import main; main()"


@dataclass(frozen=True)
class Case:
    """On which rows a method is run, with which further flags, and the test that is its oracle."""

    pool: str
    oracle: str
    flags: tuple[str, ...] = ()


GOAL, LEARNER, EMBEDDED = ("--goal", "GOAL"), ("--model", "MODEL"), ("--encoder", "ENCODER")
NET, LONG = ("--model", "resnet", "--recipe", "RECIPE"), ("--method", "length")
_TEXTS, _FORMS, _PLACES = (
    "tests/scores/test_{}.py::",
    "tests/picks/test_{}.py::",
    "tests/picks/test_geometry_picks.py::",
)
S, P, V = _TEXTS.format, _FORMS.format, "tests/scores/test_geometry_scores.py::"
U, R = "tests/scores/test_uncertainty.py::test_formulas", P("places_in_the_ranking")

SCORES = {
    "random": Case("texts", S("assemble") + "test_random_is_uniform_and_belongs_to_the_id"),
    "length": Case("texts", S("assemble") + "test_length_counts_characters_and_lists_empty_rows"),
    "response_length": Case("texts", S("response_length") + "test_the_published_longest_are_found_by_words_and_marks"),
    "bm25": Case("texts", S("scores_by_loop") + "test_bm25_equals_fifteen_naive_lines", GOAL),
    "dsir": Case("texts", S("dsir") + "test_equals_the_formula", GOAL),
    "ncd": Case("texts", S("compression") + "test_alignment_is_one_minus_the_mean_distance", GOAL),
    "compression": Case("texts", S("compression") + "test_the_raw_ratio_is_the_papers"),
    "column:words": Case("texts", S("column") + "test_numbers_truth_and_text_that_is_a_number_count"),
    "prototypes": Case("texts", V + "test_prototypes_are_one_minus_the_cosine_and_far_is_high", EMBEDDED),
    "density": Case("texts", V + "test_density_is_the_mean_distance_to_the_nearest", EMBEDDED),
    "loss": Case("lm", S("assemble") + "test_loss_has_a_direction", LEARNER),
    "perplexity": Case(
        "lm", S("uncertainty") + "test_perplexity_is_the_exponential_and_its_directions_are_opposite", LEARNER
    ),
    "entropy": Case("lm", S("uncertainty") + "test_entropy_is_what_was_measured", LEARNER),
    "memorised": Case("lm", S("memorised") + "test_bits_are_what_training_on_a_row_saves_beyond_others", LEARNER),
    "ifd": Case("lm", S("ifd") + "test_equals_a_naive_loop_over_perplexities", LEARNER),
    "rds": Case("lm", S("scores_by_loop") + "test_rds_equals_loops_over_rows_goals_and_rounds", (*GOAL, *LEARNER)),
    "less": Case("lm", S("scores_by_loop") + "test_less_is_the_weighted_sum_over_checkpoints", (*GOAL, *LEARNER)),
    "el2n": Case("images", S("el2n") + "test_the_norm_of_probabilities_off_the_label", NET),
    "grand": Case(
        "images", S("el2n") + "test_the_gradient_of_the_last_layer_is_el2n_times_the_length_of_its_input", NET
    ),
    "forgetting": Case("images", S("forgetting") + "test_mean_over_nets_against_a_loop", NET),
    "aum": Case("images", S("aum") + "test_the_mean_of_two_updates", NET),
    "aum_threshold": Case(
        "images", S("threshold_classes") + "test_zero_and_below_is_exactly_what_the_paper_s_rule_flags", NET
    ),
    "cartography": Case("images", S("cartography") + "test_measures_against_their_formulas", NET),
    "dual": Case("images", S("dual") + "test_windows_against_a_loop", NET),
    "least_confidence": Case("images", U, NET),
    "margin": Case("images", U, NET),
    "moderate": Case("images", S("moderate") + "test_distances_to_the_median_of_the_class", NET),
    "pvi": Case("vectors", S("pvi") + "test_bits_against_the_prior_and_the_prediction"),
    "knn_shapley": Case(
        "vectors",
        "tests/numerics/test_knn_shapley.py::test_equal_to_all_subsets_even_with_more_neighbours_than_rows",
        ("--goal", "VECTOR_GOAL"),
    ),
}
PICKS = {
    "top_k": Case("texts", P("budgets_and_quotas") + "test_top_k_and_random_are_prefixes_of_their_ranking", LONG),
    "random": Case("texts", P("picks") + "test_random_is_seeded_uniform_and_ignores_scores", LONG),
    "quota": Case("texts", P("budgets_and_quotas") + "test_proportional_rows_are_hamiltons_apportionment", LONG),
    "bottom_k": Case("texts", R + "test_bottom_k_keeps_the_other_end_and_ties_on_id", LONG),
    "window": Case("texts", R + "test_a_window_begins_at_its_offset", LONG),
    "band": Case("texts", R + "test_a_band_is_the_middle", LONG),
    "threshold": Case("texts", R + "test_thresholds_are_in_the_score_s_own_unit", (*LONG, "--option", "below=600")),
    "stratified": Case("texts", P("stratified") + "test_allotment_of_any_budget_against_the_loop", LONG),
    "gumbel": Case(
        "texts",
        P("gumbel") + "test_one_row_is_drawn_in_proportion_to_the_exponential_of_its_score",
        (*LONG, "--option", "temperature=100"),
    ),
    "zip": Case("texts", P("zip") + "test_one_row_a_round_is_the_naive_greedy"),
    "deduplicate": Case("texts", "tests/numerics/test_near_duplicates.py::test_equals_all_pairs", LONG),
    "diverse": Case("texts", _PLACES + "test_diverse_is_the_filter_row_by_row", (*LONG, *EMBEDDED)),
    "semdedup": Case(
        "texts", _PLACES + "test_semdedup_keeps_the_best_of_duplicates_within_a_cluster", (*LONG, *EMBEDDED)
    ),
    "cluster_quota": Case("texts", _PLACES + "test_cluster_quota_gives_every_cluster_its_share", (*LONG, *EMBEDDED)),
    "k_center": Case(
        "texts", "tests/numerics/test_coresets.py::test_k_center_is_naive_and_within_twice_the_best_radius", EMBEDDED
    ),
    "facility_location": Case(
        "texts", "tests/numerics/test_facility.py::test_greedy_is_within_its_bound_of_the_best_of_all_subsets", EMBEDDED
    ),
    "herding": Case("texts", "tests/numerics/test_coresets.py::test_herding_is_naive", EMBEDDED),
    "d2": Case(
        "texts", "tests/numerics/test_message_passing.py::test_both_passes_equal_loops_over_rows", (*LONG, *EMBEDDED)
    ),
    "lightweight": Case(
        "texts", "tests/numerics/test_coresets.py::test_lightweight_and_sensitivity_by_their_formulas", EMBEDDED
    ),
    "sensitivity": Case(
        "texts", "tests/numerics/test_coresets.py::test_lightweight_and_sensitivity_by_their_formulas", EMBEDDED
    ),
    "balanced": Case(
        "images", P("balanced") + "test_every_class_keeps_the_floor_of_its_own_size", ("--method", "aum", *NET)
    ),
    "dual_beta": Case(
        "images", P("dual_beta") + "test_draws_are_in_proportion_to_density_times_score", ("--method", "dual", *NET)
    ),
    "craig": Case("vectors", "tests/numerics/test_coresets.py::test_craig_of_one_class_is_greedy_on_distances"),
}


def missing_oracles() -> list[str]:
    """Oracles of methods of the catalogue that aren't in their file."""
    out = []
    for cases, names in ((SCORES, plugins.SCORES), (PICKS, plugins.PICKS)):
        for name, case in cases.items():
            path, _, test = case.oracle.partition("::")
            if name in names or ":" in name:
                file = ROOT / path
                known = ast.walk(ast.parse(file.read_text())) if file.is_file() else ()
                if not any(isinstance(node, ast.FunctionDef) and node.name == test for node in known):
                    out.append(f"{name}: {case.oracle}")
    return out


def prepare(args: argparse.Namespace) -> dict[str, str]:
    """The files that the flags name: pools, goals, recipe, model and encoder."""
    work = args.work / "-".join(str(getattr(args, n)) for n in FULL)
    names = ("instruction", "input", "output")
    texts = [
        {**{n: r[n] for n in names}, "words": len(r["output"].split())}
        for r in flan.read("alpaca/alpaca_random9k.jsonl.gz")
    ]
    goal = [{n: r[n] for n in names} for r in flan.read("dolly/dolly_3k.jsonl.gz")[:GOAL_ROWS]]
    flan.settle(
        work / "recipe.yaml", yaml.safe_dump({"epochs": args.epochs, "width": args.width, "augment": "flip_crop"})
    )
    images = work / "images.parquet"
    vectors, vector_goal = work / "vectors.npz", work / "vector-goal.npz"
    if not vector_goal.is_file():
        _images(args, images, vectors, vector_goal)
    return {
        "texts": str(flan.write(work / "alpaca.jsonl", drawn(texts, args.rows))),
        "lm": str(flan.write(work / "alpaca-lm.jsonl", drawn(texts, args.lm_rows))),
        "images": str(images),
        "vectors": str(vectors),
        "GOAL": str(flan.write(work / "goal.jsonl", goal)),
        "VECTOR_GOAL": str(vector_goal),
        "RECIPE": str(work / "recipe.yaml"),
        "MODEL": args.model,
        "ENCODER": str(flan.data_folder() / ENCODER),
    }


def drawn(rows: Sequence[Any], count: int) -> list[Any]:
    """So many of the rows by hash, in their order."""
    order = np.argsort(hash_unit([str(i) for i in range(len(rows))], 0, "methods table"), kind="stable")
    return [rows[i] for i in sorted(order[:count].tolist())]


def _images(args: argparse.Namespace, images: Path, vectors: Path, goal: Path) -> None:
    """Images of CIFAR-10 as a table, the same as vectors, and other ones as a goal of vectors."""
    from dataworth.learners.labelled import array_of

    data = flan.data_folder() / "cifar10"
    whole = pa.concat_tables([pq.read_table(path) for path in sorted(data.glob("train-*.parquet"))])
    chosen = drawn(range(len(whole)), args.image_rows + VECTOR_GOAL)
    images.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(whole.take(chosen), images)
    pixels = np.stack([array_of(e) for e in open_pool(images).examples()]).astype(np.float32)
    means = pixels.reshape(len(pixels), 3, 8, 4, 8, 4).mean((3, 5)).reshape(len(pixels), -1)
    labels = np.asarray(whole.take(chosen)["label"])
    pq.write_table(whole.take(chosen[: args.image_rows]), images)
    np.savez(vectors, vector=means[: args.image_rows], label=labels[: args.image_rows])
    np.savez(goal, vector=means[args.image_rows :], label=labels[args.image_rows :])


def run(args: argparse.Namespace, files: dict[str, str], kind: str, name: str, case: Case) -> dict[str, Any]:
    """One command in a process of its own, with a cache and a run folder that are thrown away."""
    pool = files[case.pool]
    flags = [files.get(flag, flag) for flag in case.flags]
    flags += ["--device", args.device] + (["--workers", str(args.workers)] if args.workers is not None else [])
    verb = ["score", pool, "--method", name] if kind == "scores" else ["select", pool, "--pick", name, "--keep", "10%"]
    with tempfile.TemporaryDirectory() as aside:
        command = [sys.executable, "-c", MAIN, *verb, *flags, "--run", f"{aside}/run", "--json"]
        env = {**os.environ, "DATAWORTH_CACHE": f"{aside}/cache"}
        before, began = _children(), time.perf_counter()
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        wall, cpu = time.perf_counter() - began, _children() - before
        if done.returncode:
            raise SystemExit(f"{' '.join(command[3:])} ended with {done.returncode}:\n{done.stderr[-2000:]}")
        told = json.loads(done.stdout)
        out = {"seconds": wall, "cpu_seconds": cpu, "pool": case.pool, "flags": list(case.flags)}
        if kind == "scores":
            found = told["methods"][name]
            rho = {k: None if v is None or np.isnan(v) else v for k, v in found["rho"].items()}
            return {**out, "rows": found["scored"] + found["unscored"], "unscored": found["unscored"], "rho": rho}
        kept = pq.read_table(f"{aside}/run/selection.parquet")["kept"].to_numpy().astype(np.float64)
        return {
            **out,
            "rows": told["pool"],
            "kept": told["kept"],
            "unscored": told["unscored"],
            "rho": of_kept(pool, kept),
        }


def _children() -> float:
    """CPU-seconds of all processes that were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def of_kept(pool: str, kept_N: np.ndarray) -> dict[str, float | None]:
    """Spearman's correlation of whether a row is kept with its length and with `random`."""
    found, out = open_pool(pool), {}
    texts = [e.full_text for e in found.examples()]
    for name in ("length", "random"):
        values = plugins.load("scores", name)({"ids": found.ids, "text:pool": texts}).values_N
        usable = not np.isnan(values).any() and np.ptp(values) > 0 and np.ptp(kept_N) > 0
        out[name] = rank_correlation(values, kept_N) if usable else None
    return out


def markdown(result: dict[str, Any]) -> str:
    """The page with both tables."""
    lines = [PAGE.format(verdict=result["verdict"].capitalize(), **result["sizes"])]
    for kind, title in (("scores", "Scores"), ("picks", "Picks")):
        more = " kept |" if kind == "picks" else ""
        lines += [
            "",
            f"## {title}",
            "",
            f"| {kind[:-1]} | on |{more} s | CPU-s | unscored | rho(length) | rho(random) | oracle |",
        ]
        lines.append("| --- | --- |" + (" --- |" if more else "") + " --- | --- | --- | --- | --- | --- |")
        for name, m in result[kind].items():
            rho = [f"{m['rho'][k]:.2f}" if m["rho"][k] is not None else "-" for k in ("length", "random")]
            kept = f" {m['kept']:,} |" if more else ""
            cells = [f"{m['seconds']:.1f}", f"{m['cpu_seconds']:.1f}", f"{m['unscored']:,}", *rho, f"`{m['oracle']}`"]
            on = f"{m['rows']:,} {'texts' if m['pool'] == 'lm' else m['pool']}"
            lines.append(f"| `{name}` | {on} |{kept} {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Run what the ledger lacks, write the result and the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--only", nargs="*", default=None, help="methods by name; without: all of the catalogue")
    parser.add_argument("--work", type=Path, default=Path("runs/methods_table"))
    parser.add_argument("--ledger", type=Path, default=Path("reproductions/results/methods_table.jsonl"))
    parser.add_argument("--out", type=Path, default=None, help="the result; reproductions/results/methods_table.json")
    parser.add_argument("--page", type=Path, default=Path("docs/methods-table.md"))
    parser.add_argument("--json", action="store_true")
    for size, value in FULL.items():
        parser.add_argument(f"--{size.replace('_', '-')}", type=int, default=value)
    args = parser.parse_args(arguments)
    lost = missing_oracles()
    if lost:
        raise SystemExit("no such test: " + "; ".join(lost))
    files, ledger = prepare(args), Ledger(args.ledger)
    sizes = " ".join(str(getattr(args, n)) for n in FULL)
    result: dict[str, Any] = {**flan.stated(args, FULL), "machine": platform.platform(), "scores": {}, "picks": {}}
    for kind, cases, names in (("scores", SCORES, plugins.SCORES), ("picks", PICKS, plugins.PICKS)):
        for name, case in cases.items():
            if (name in names or ":" in name) and (args.only is None or name in args.only):
                key = f"{kind} {name} {sizes}"
                found = ledger.get(key, lambda kind=kind, name=name, case=case: run(args, files, kind, name, case))
                result[kind][name] = {**found, "oracle": case.oracle}
    flan.keep_result(args, "methods_table.json", result)
    args.page.parent.mkdir(parents=True, exist_ok=True)
    args.page.write_text(markdown(result))
    print(json.dumps(result) if args.json else markdown(result), end="")


if __name__ == "__main__":
    main()
