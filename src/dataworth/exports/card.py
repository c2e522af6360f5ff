"""The dataset card written beside a subset: a Hugging Face README with what was picked, why, and how to repeat it."""

from __future__ import annotations

from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from dataworth.markdown import fenced, line, table
from dataworth.records import Pool
from dataworth.results import Selection

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_TASK_OF = {
    "text": "text-generation",
    "sft": "text-generation",
    "preference": "text-generation",
    "labelled_image": "image-classification",
    "labelled_text": "text-classification",
    "labelled_vector": "tabular-classification",
}
_ELSE = "reinforcement-learning"


def dataset_card(
    pool: Pool,
    selection: Selection,
    *,
    title: str,
    method: str,
    command: str,
    goal: str | None = None,
    learner: str | None = None,
    beside: str = "",
    lengths_N: NDArray[np.integer[Any]] | None = None,
    length_unit: str = "tokens",
    licence: str | None = None,
) -> str:
    """The card as Markdown under a YAML header.

    Args:
        pool: The pool that was picked from.
        selection: What was picked and why.
        title: Name of the subset.
        method: The score and pick, in words.
        command: The command line that repeats the selection.
        goal: What the selection was for, in words.
        learner: The model it was for.
        beside: How the pick stands beside the pool and simple baselines, in words.
        lengths_N: Length of each pool row, in pool order.
        length_unit: What `lengths_N` counts.
        licence: The parent's licence if the user named it; nothing is said about it otherwise.

    Returns:
        The text of a `README.md`.
    """
    aims = [f"{what} {line(name)}" for what, name in (("the model", learner), ("the goal", goal)) if name]
    sections = [
        _header(len(selection.ids), pool, title, licence),
        f"# {line(title)}\n\n{len(selection.ids):,} of {len(pool):,} rows, picked by {line(method)}"
        + (f" for {' and '.join(aims)}" if aims else "")
        + ". Rows are unchanged and in the order of the parent files."
        + (f"\n\nKept: {line(beside)}." if beside else ""),
        "## Why each row was kept or dropped\n\n" + _reasons(selection, pool),
        "## Parent files\n\n" + _parents(pool),
        "## Sources\n\n" + _sources(pool, selection),
    ]
    if lengths_N is not None:
        sections.append(f"## Length in {line(length_unit)}\n\n" + _lengths(lengths_N, selection.kept_N))
    sections.append(f"## How to repeat it\n\n{fenced(command)}")
    if licence is None:
        sections.append("The parent files' licence was not given; it applies to these rows too.")
    return "\n\n".join(sections) + "\n"


def _header(rows: int, pool: Pool, title: str, licence: str | None) -> str:
    header: dict[str, Any] = {"pretty_name": title}
    if licence is not None:
        header["license"] = licence
    header["size_categories"] = [next((name for limit, name in _SIZES if rows < limit), "n>1M")]
    header["task_categories"] = sorted({_TASK_OF.get(f.schema) or _TASK_OF.get(f.kind, _ELSE) for f in pool.files})
    header["tags"] = ["data-selection", "dataworth"]
    return f"---\n{yaml.safe_dump(header, sort_keys=False, allow_unicode=True)}---"


def _reasons(selection: Selection, pool: Pool) -> str:
    rows = [(f"{n:,}", selection.reason_texts.get(r, r)) for r, n in selection.counts().items()]
    text = table(("rows", "reason"), rows)
    rejected = f"Rows that could not be read: {pool.rejected:,}." if pool.rejected else ""
    copies = f"Rows of the pool that are copies of an earlier one: {pool.copies:,}." if pool.copies else ""
    return "\n\n".join(part for part in (text, rejected, copies, *map(line, selection.notes)) if part)


def _parents(pool: Pool) -> str:
    rows = [(f.path.name, f"{f.rows:,}", f.schema, f"{f.size:,}", f"`{f.sha256}`") for f in pool.files]
    return table(("file", "rows", "schema", "bytes", "sha256"), rows)


def _sources(pool: Pool, selection: Selection) -> str:
    """Source shares in the pool and in the pick, the largest of the pick first."""
    every = np.bincount(pool.source_N, minlength=len(pool.sources))
    kept = np.bincount(pool.source_N[selection.kept_N], minlength=len(pool.sources))
    order = np.lexsort((-every, -kept))
    shown = [
        (pool.sources[i], f"{every[i]:,}", _share(every[i], every), f"{kept[i]:,}", _share(kept[i], kept))
        for i in order[:50]
    ]
    found = table(("source", "pool rows", "of pool", "picked rows", "of pick"), shown)
    left = len(order) - len(shown)
    return f"{found}\n\n{left:,} further sources hold {int(kept[order[50:]].sum()):,} picked rows." if left else found


def _share(count: Any, every: NDArray[np.integer[Any]]) -> str:
    total = int(every.sum())
    return f"{100 * int(count) / total:.1f} %" if total else "-"


def _lengths(lengths_N: NDArray[np.integer[Any]], kept_N: NDArray[np.bool_]) -> str:
    cuts = (0, 10, 50, 90, 100)
    names = ("shortest", "10 %", "median", "90 %", "longest")
    rows = [
        (name, *(f"{v:,.0f}" for v in np.percentile(values, cuts)), f"{values.sum():,}")
        for name, values in (("pool", lengths_N), ("pick", lengths_N[kept_N]))
        if len(values)
    ]
    return table(("", *names, "sum"), rows)
