"""Two published selections of Alpaca against our scores: `python -m reproductions.alpaca_checks`.

The pool is a uniform sample of Alpaca (9,229 rows) with flags of what others selected from all 52,002.

*Length* (Zhao et al. 2024, arXiv 2402.04833: the 1,000 longest responses). As many rows as are flagged are picked by
`length`, which counts characters of all that a learner reads, and by columns that count other things of the response;
the last one, words and punctuation marks as the Penn Treebank splits them, is what the flag turns out to be.
*IFD* (Li et al. 2023, arXiv 2308.12032: the top 5 % by LLaMA-7B). Both forms of `ifd` under a model of ours, with the
papers' cut-off at 1, are asked to find the flagged rows: area under the ROC curve, share of the flagged found among as
many rows, and that over chance. The model, the prompt's template and the loss alone (theirs follows "### Response:")
differ, so agreement is expected to be partial. Since long responses are flagged more often, the same is asked of
length itself, and of IFD among rows of like length (twenty bins; the mean over pairs of one flagged and one other row
of the same bin).

`--rows` takes a sample by hash for the IFD, whose two passes over the model are the command's whole cost; the
library's cache keeps them, and the same command with more rows pays for those alone.
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

import dataworth as dw
from dataworth.numerics.ranks import rank_correlation
from dataworth.records import hash_unit
from dataworth.results import table
from dataworth.scores.response_length import words_and_marks
from reproductions import flan

FULL = {"rows": 9_229}
ALPACA = "alpaca/alpaca_random9k.jsonl.gz"
COUNTS = {
    "response_characters": len,
    "response_words": lambda text: len(text.split()),
    "response_words_and_marks": words_and_marks,
}
LENGTHS = ("length", "column:response_characters", "column:response_words", "response_length")
BINS = 20
DRAWS = 1000


def counted(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of Alpaca with counts of their response as columns, without the flags."""
    names = ("id", "instruction", "input", "output")
    return [{**{n: r[n] for n in names}, **{c: f(r["output"]) for c, f in COUNTS.items()}} for r in rows]


def by_length(args: argparse.Namespace, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """How much of the published 1,000 longest each measure of length finds, and what explains the residue."""
    pool = flan.write(args.work / "alpaca.jsonl", counted(rows))
    flag_N = np.array([r["longest_1k"] for r in rows])
    out: dict[str, Any] = {"flagged": int(flag_N.sum()), "measures": {}}
    for method in LENGTHS:
        run = args.work / "runs" / method.replace(":", "-")
        told = dw.select(str(pool), method=method, keep=int(flag_N.sum()), run=str(run), workers=0)
        kept_N, value_N = told.selection.kept_N, told.scored.values_N
        lowest, tallest = float(np.nanmin(value_N[flag_N])), float(np.nanmax(value_N[~flag_N]))
        out["measures"][method] = {
            "found": float(flag_N[kept_N].mean()),
            "lowest_flagged": lowest,
            "highest_other": tallest,
            "between": int(((value_N >= lowest) & (value_N <= tallest)).sum()),
        }
        if method == "length":
            missed_N = flag_N & ~kept_N
    out["residue"] = residue(rows, missed_N)
    return out


def residue(rows: list[dict[str, Any]], missed_N: NDArray[np.bool_]) -> dict[str, Any]:
    """What sets the flagged rows that `length` misses apart: short prompts, or many marks among their characters."""
    flag_N = np.array([r["longest_1k"] for r in rows])
    prompt_N = np.array([len(r["instruction"]) + len(r["input"]) for r in rows])
    response_N = np.array([len(r["output"]) for r in rows])
    marks_N = np.array([words_and_marks(r["output"]) for r in rows])
    found_N, per_mark_N = flag_N & ~missed_N, response_N / np.maximum(1, marks_N)
    by_response_N = np.zeros(len(rows), bool)
    by_response_N[np.argsort(-response_N, kind="stable")[: flag_N.sum()]] = True
    return {
        "missed": int(missed_N.sum()),
        "found_by_characters_of_the_response": int((missed_N & by_response_N).sum()),
        "prompt_characters": {k: float(np.median(prompt_N[m])) for k, m in (("missed", missed_N), ("found", found_N))},
        "characters_a_mark": {k: float(per_mark_N[m].mean()) for k, m in (("missed", missed_N), ("found", found_N))},
    }


def by_ifd(args: argparse.Namespace, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """How both forms of IFD, and length, tell the published top 5 % from the other rows."""
    chosen = np.argsort(hash_unit([str(r["id"]) for r in rows], 0, "alpaca checks"), kind="stable")[: args.rows]
    sample = [rows[i] for i in sorted(chosen.tolist())]
    name = f"alpaca-{len(sample)}"
    pool = flan.write(args.work / f"{name}.jsonl", counted(sample))
    flag_N = np.array([r["cherry_ifd_top5pct"] for r in sample])
    length_N = np.array([len(r["output"]) for r in sample], np.float64)
    found: dict[str, Any] = {"response characters": told_apart(length_N, flag_N, length_N)}
    every = {}
    for form in ("ppl", "loss"):
        scored = dw.score(
            str(pool),
            method="ifd",
            option=[f"form={form}", "threshold=inf"],
            model=args.model,
            device=args.device,
            workers=args.workers,
            run=str(args.work / "runs" / f"ifd-{form}-{name}"),
        ).scores["ifd"]
        every[form] = scored.values_N
        # From 1 up the prompt doesn't help, and such rows are never kept: below all others.
        ranked_N = np.where(scored.values_N < 1, scored.values_N, -1.0)
        found[f"ifd, {form}"] = told_apart(ranked_N, flag_N, length_N)
        found[f"ifd, {form}"]["at_1_or_more"] = int((scored.values_N >= 1).sum())
        found[f"ifd, {form}"]["unscored"] = len(scored.unscored)
    both_N = ~np.isnan(every["ppl"]) & ~np.isnan(every["loss"])
    forms = rank_correlation(every["ppl"][both_N], every["loss"][both_N])
    with_length = {form: rank_correlation(v[both_N], length_N[both_N]) for form, v in every.items()}
    counts = {"rows": len(sample), "flagged": int(flag_N.sum())}
    return {**counts, "scores": found, "spearman": {"ppl and loss": forms, "with length": with_length}}


def told_apart(score_N: NDArray[np.float64], flag_N: NDArray[np.bool_], length_N: NDArray[np.float64]) -> Any:
    """AUROC, the same within bins of length, and the share found among as many rows, with 95 % bootstrap intervals."""
    rng, values = np.random.default_rng(0), []
    bin_N = np.digitize(length_N, np.quantile(length_N, np.linspace(0, 1, BINS + 1)[1:-1]))
    everything = np.arange(len(flag_N))
    for draw in range(DRAWS + 1):
        n = everything if draw == 0 else rng.integers(0, len(flag_N), len(flag_N))
        values.append(_figures(score_N[n], flag_N[n], bin_N[n]))
    low, high = np.quantile(np.array(values[1:]), [0.025, 0.975], axis=0)
    names = ("auroc", "auroc_among_like_lengths", "found", "lift")
    return {
        name: {"value": v, "low": float(a), "high": float(b)}
        for name, v, a, b in zip(names, values[0], low, high, strict=True)
    }


def _figures(score_N: NDArray[np.float64], flag_N: NDArray[np.bool_], bin_N: NDArray[np.int64]) -> list[float]:
    wins = pairs = 0.0
    for b in np.unique(bin_N).tolist():
        at, others = flag_N & (bin_N == b), ~flag_N & (bin_N == b)
        if at.any() and others.any():
            count = float(at.sum()) * float(others.sum())
            wins, pairs = wins + count * auroc(score_N[bin_N == b], flag_N[bin_N == b]), pairs + count
    top = np.argsort(-score_N, kind="stable")[: flag_N.sum()]
    found = float(flag_N[top].mean())
    return [auroc(score_N, flag_N), wins / pairs if pairs else 0.5, found, found / float(flag_N.mean())]


def auroc(score_N: NDArray[np.float64], flag_N: NDArray[np.bool_]) -> float:
    """The share of pairs of a flagged and another row in which the flagged one scores higher; ties count half."""
    flagged, others = int(flag_N.sum()), int((~flag_N).sum())
    if not flagged or not others:
        return 0.5
    return float((rankdata(score_N)[flag_N].sum() - flagged * (flagged + 1) / 2) / (flagged * others))


def main(arguments: list[str] | None = None) -> None:
    """Score or go on, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--rows", type=int, default=FULL["rows"], help="for the IFD; length is checked on all")
    parser.add_argument("--work", type=Path, default=Path("runs/alpaca_checks"))
    parser.add_argument("--out", type=Path, default=None, help="the result; reproductions/results/alpaca_checks.json")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(arguments)
    rows = flan.read(ALPACA)
    result = {
        **flan.stated(args, FULL),
        "length": by_length(args, rows),
        "ifd": by_ifd(args, rows),
        "machine": platform.platform(),
    }
    flan.keep_result(args, "alpaca_checks.json", result)
    print(json.dumps(result) if args.json else report(result))


def report(result: dict[str, Any]) -> str:
    """The figures as two tables."""
    length, ifd = result["length"], result["ifd"]
    lines = [
        [name, *(f"{m[k]:.3f}" if k == "found" else f"{m[k]:g}" for k in m)] for name, m in length["measures"].items()
    ]
    header = ["measure", f"found of {length['flagged']}", "lowest flagged", "highest other", "rows between"]

    def cell(found: dict[str, float]) -> str:
        return f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"

    keys = ("auroc", "auroc_among_like_lengths", "found", "lift")
    told = [[name, *(cell(s[k]) for k in keys)] for name, s in ifd["scores"].items()]
    title = f"{ifd['rows']:,} rows, {ifd['flagged']} of them in the published top 5 % by IFD"
    columns = ["score", "AUROC", "AUROC among like lengths", "found", "over chance"]
    parts = [result["verdict"], table(lines, header), of_residue(length["residue"]), title, table(told, columns)]
    ranks = ", ".join(f"{form} {rho:.2f}" for form, rho in ifd["spearman"]["with length"].items())
    ones = ", ".join(f"{name} {s['at_1_or_more']}" for name, s in ifd["scores"].items() if "at_1_or_more" in s)
    parts.append(
        f"Spearman of the forms {ifd['spearman']['ppl and loss']:.2f}, with length {ranks}; rows at 1 or more: {ones}"
    )
    return "\n".join(parts)


def of_residue(found: dict[str, Any]) -> str:
    """What sets the missed rows apart, as a sentence."""
    by_prompt, a_mark = found["found_by_characters_of_the_response"], found["characters_a_mark"]
    return (
        f"length misses {found['missed']}: {by_prompt} of them for the others' prompts, the rest for their many marks "
        f"({a_mark['missed']:.2f} characters a word or mark, those found {a_mark['found']:.2f})"
    )


if __name__ == "__main__":
    main()
