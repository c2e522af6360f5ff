"""What every pick shares: the ranking, the budget, and a reason code for every row of the pool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataworth.errors import RequestError
from dataworth.records import Budget, id_order
from dataworth.results import Scored, Selection

REASONS = {
    "kept-top": "kept: among the best scores within the budget",
    "kept-random": "kept: drawn at random",
    "kept-quota": "kept: among the best of its source within the source's share",
    "below-cut": "dropped: scored below the cut",
    "not-drawn": "dropped: not drawn",
    "over-budget": "dropped: next in line, but it didn't fit into the token budget",
    "unscored": "dropped: it has no score (its reason is listed with the scores)",
    "excluded": "dropped: excluded before picking",
    "no-tokens": "dropped: the learner finds nothing to train on in it, so it has no place in a token budget",
    "near-goal": "dropped: nearly equal to a goal row",
}


@dataclass(frozen=True)
class Ballot:
    """The rows a pick may take, with what it ranks them by.

    `value_N` is oriented so that larger is better (NaN: not to be ranked), `rank_N` the place in id order that
    breaks ties, `code_N` the reason codes of rows that are out already ("" for eligible rows).
    """

    ids: Sequence[str]
    value_N: NDArray[np.float64]
    rank_N: NDArray[np.int64]
    code_N: list[str]
    texts: Mapping[str, str]

    @classmethod
    def of(cls, inputs: Mapping[str, Any], value_N: NDArray[np.float64] | None = None) -> Ballot:
        """A ballot from a pick's inputs; `value_N` replaces the score (for picks that need none).

        Raises:
            RequestError: No score, or more than one, was handed in, or there are no rows.
        """
        ids = inputs["ids"]
        if not len(ids):
            raise RequestError(
                "the pool has no readable row: expected at least one; check the files and rejected.jsonl"
            )
        code_N, texts = _exclusions(inputs)
        if value_N is None:
            scored, sign = _the_score(inputs)
            value_N = sign * scored.values_N
            code_N = [c or ("unscored" if ids[i] in scored.unscored else "") for i, c in enumerate(code_N)]
        out = np.fromiter((bool(c) for c in code_N), dtype=bool, count=len(ids))
        rank_N = np.empty(len(ids), dtype=np.int64)
        rank_N[id_order(ids)] = np.arange(len(ids))
        return cls(ids, np.where(out, np.nan, value_N), rank_N, code_N, texts)

    def without(self, rows: NDArray[np.int64], code: str) -> Ballot:
        """The same without eligible rows that a rule of the pick's own drops, for the reason of that code."""
        value_N, code_N = self.value_N.copy(), list(self.code_N)
        value_N[rows] = np.nan
        for i in rows.tolist():
            code_N[i] = code
        return Ballot(self.ids, value_N, self.rank_N, code_N, self.texts)

    def ranking(self, rows: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """Eligible positions (among `rows`), best first, ties on id."""
        rows = np.arange(len(self.ids)) if rows is None else rows
        rows = rows[~np.isnan(self.value_N[rows])]
        return rows[np.lexsort((self.rank_N[rows], -self.value_N[rows]))]

    def select(
        self,
        kept: NDArray[np.int64],
        codes: Mapping[str, NDArray[np.int64]],
        *,
        kept_code: str,
        rest_code: str,
        notes: Sequence[str] = (),
        boundary: Mapping[str, float] | None = None,
        texts: Mapping[str, str] | None = None,
        weights: NDArray[np.float64] | None = None,
    ) -> Selection:
        """The selection, with `kept_code` for kept rows, `codes` for some, `rest_code` for the other eligible rows.

        `texts` says what codes of the rule's own mean; `weights` are those of `kept`, in its order (1 each by default).
        """
        code_N = [c or rest_code for c in self.code_N]
        for code, rows in [*codes.items(), (kept_code, kept)]:
            for i in rows.tolist():
                code_N[i] = code
        known = {**REASONS, **self.texts, **(texts or {})}
        used = set(code_N)
        reasons = tuple(r for r in known if r in used)
        number = {r: n for n, r in enumerate(reasons)}
        kept_N = np.zeros(len(self.ids), dtype=bool)
        kept_N[kept] = True
        return Selection(
            ids=tuple(self.ids[i] for i in np.flatnonzero(kept_N).tolist()),
            weights=np.ones(len(kept)) if weights is None else np.asarray(weights, np.float64)[np.argsort(kept)],
            kept_N=kept_N,
            reason_code_N=np.fromiter((number[c] for c in code_N), dtype=np.uint8, count=len(code_N)),
            reasons=reasons,
            reason_texts={r: known[r] for r in reasons},
            boundary=dict(boundary or {}),
            notes=tuple(notes),
        )


def _exclusions(inputs: Mapping[str, Any]) -> tuple[list[str], dict[str, str]]:
    ids = inputs["ids"]
    excluded: Mapping[str, tuple[str, str]] = inputs.get("excluded", {})
    eligible_N = inputs.get("eligible_N")
    out = ["" if eligible_N is None or eligible_N[i] else "excluded" for i in range(len(ids))]
    texts: dict[str, str] = {}
    for i, row_id in enumerate(ids):
        if row_id in excluded:
            out[i], text = excluded[row_id]
            texts.setdefault(out[i], REASONS.get(out[i], text))
    return out, texts


def _the_score(inputs: Mapping[str, Any]) -> tuple[Scored, float]:
    found = [key for key in inputs if key.startswith("score:")]
    if len(found) != 1:
        raise RequestError(
            f"picking by score was handed {found or 'no score'}: expected exactly one; name one --method"
        )
    return inputs[found[0]], -1.0 if inputs.get("higher", "keep") == "drop" else 1.0


def within(
    budget: Budget, ranking: NDArray[np.int64], inputs: Mapping[str, Any]
) -> tuple[NDArray[np.int64], NDArray[np.int64], list[str]]:
    """The part of a ranking that a budget pays for.

    A count or share takes that many rows; a token budget takes the longest prefix of the ranking that fits, so that
    a low-ranked row never gets in because it is short.

    Returns:
        `(kept, next_in_line, notes)`: positions kept in ranking order; the row that no longer fitted a token budget.

    Raises:
        RequestError: A budget of nothing, tokens without `tokens_N`, or a token budget below the first row.
    """
    if budget.unit != "tokens":
        wanted = budget.rows(len(inputs["ids"]))
        if wanted <= 0:
            raise RequestError(f"keep {budget} keeps nothing: expected at least one row; correct --keep")
        return ranking[:wanted], ranking[:0], _shortage(wanted, len(ranking), "rows")
    if inputs.get("tokens_N") is None:
        raise RequestError(
            f"keep {budget} needs token counts: expected a tokenizer; give --model, or keep rows or a share"
        )
    tokens = np.asarray(inputs["tokens_N"], dtype=np.float64)[ranking]
    fits = int(np.searchsorted(np.cumsum(tokens), budget.amount, side="right"))
    if len(ranking) and not fits:
        raise RequestError(
            f"keep {budget} is less than the first row's {tokens[0]:.0f} tokens: expected more; correct --keep"
        )
    notes = [] if fits < len(ranking) else _shortage(int(budget.amount), int(tokens.sum()), "tokens")
    return ranking[:fits], ranking[fits : fits + 1], notes


def _shortage(wanted: int, there: int, unit: str) -> list[str]:
    if wanted <= there:
        return []
    return [f"only {there:,} of the {wanted:,} {unit} asked for are eligible: all of them are kept"]
