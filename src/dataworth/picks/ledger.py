"""What every pick shares: the ranking, the budget, and a reason code for every row of the pool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataworth.errors import RequestError
from dataworth.records import Budget, id_order
from dataworth.results import Scored, Selection

REASONS = {
    "kept-top": "kept: among the {best} by {score} within the budget",
    "kept-random": "kept: drawn at random",
    "kept-quota": "kept: among the {best} by {score} of its source within the source's share",
    "below-cut": "dropped: past the cut, towards the {worst} by {score}",
    "not-drawn": "dropped: not drawn",
    "over-budget": "dropped: next in line, but it didn't fit into the token budget",
    "unscored": "dropped: it has no score (its reason is listed with the scores)",
    "excluded": "dropped: excluded before picking",
    "no-tokens": "dropped: the learner finds nothing to train on in it, so it has no place in a token budget",
    "near-goal": "dropped: nearly equal to a goal row",
}
"""What codes mean; `{best}` and `{worst}` stand for what the score calls the end that is kept and the other one."""
ENDS = ("lowest", "highest")
"""What the low and the high end of a score are called that has no words (`ends`) of its own for them."""


@dataclass(frozen=True)
class Ballot:
    """The rows a pick may take, with what it ranks them by.

    `value_N` is oriented so that larger is better (NaN: not to be ranked), `rank_N` the place in id order that
    breaks ties, `code_N` the places in `codes` of the reason codes of rows that are out already (0, "": eligible).
    `words` are what `{best}`, `{worst}` and `{score}` of a rule's texts stand for.
    """

    ids: Sequence[str]
    value_N: NDArray[np.float64]
    rank_N: NDArray[np.int64]
    code_N: NDArray[np.int32]
    codes: tuple[str, ...]
    texts: Mapping[str, str]
    words: Mapping[str, str]

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
        code_N, place, texts = _exclusions(inputs)
        words: Mapping[str, str] = {}
        if value_N is None:
            scored, sign = _the_score(inputs)
            value_N, words = sign * scored.values_N, _words(inputs)
            code_N[(code_N == 0) & _named(ids, scored.unscored)] = place.setdefault("unscored", len(place))
        rank_N = np.empty(len(ids), dtype=np.int64)
        rank_N[id_order(ids)] = np.arange(len(ids))
        return cls(ids, np.where(code_N != 0, np.nan, value_N), rank_N, code_N, tuple(place), texts, words)

    def without(self, rows: NDArray[np.int64], code: str) -> Ballot:
        """The same without eligible rows that a rule of the pick's own drops, for the reason of that code."""
        value_N, code_N, place = self.value_N.copy(), self.code_N.copy(), self._places()
        value_N[rows] = np.nan
        code_N[rows] = place.setdefault(code, len(place))
        return replace(self, value_N=value_N, code_N=code_N, codes=tuple(place))

    def _places(self) -> dict[str, int]:
        return {code: n for n, code in enumerate(self.codes)}

    def _told(self, text: str) -> str:
        for word, meaning in self.words.items():
            text = text.replace(f"{{{word}}}", meaning)
        return text

    def ranking(self, rows: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """Eligible positions (among `rows`), best first, ties on id."""
        if rows is None:  # rows in the order of ids need but one sort that leaves ties as they stand
            rows = np.empty_like(self.rank_N)
            rows[self.rank_N] = np.arange(len(self.ids))
            rows = rows[~np.isnan(self.value_N[rows])]
            return rows[np.argsort(-self.value_N[rows], kind="stable")]
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
        place = self._places()
        code_N = self.code_N.copy()
        code_N[code_N == 0] = place.setdefault(rest_code, len(place))
        for code, rows in [*codes.items(), (kept_code, kept)]:
            code_N[rows] = place.setdefault(code, len(place))
        told = {code: self._told(text) for code, text in {**REASONS, **(texts or {})}.items()}
        known = {**REASONS, **self.texts, **told}
        there = np.bincount(code_N, minlength=len(place)) > 0
        used = {code for code, n in place.items() if there[n]}
        reasons = tuple(r for r in known if r in used)
        number = {r: n for n, r in enumerate(reasons)}
        number_of = np.array([number[code] if code in used else 0 for code in place], dtype=np.uint8)
        kept_N = np.zeros(len(self.ids), dtype=bool)
        kept_N[kept] = True
        return Selection(
            ids=tuple([self.ids[i] for i in np.flatnonzero(kept_N).tolist()]),
            weights=np.ones(len(kept)) if weights is None else np.asarray(weights, np.float64)[np.argsort(kept)],
            kept_N=kept_N,
            reason_code_N=number_of[code_N],
            reasons=reasons,
            reason_texts={r: known[r] for r in reasons},
            boundary=dict(boundary or {}),
            notes=tuple(notes),
        )


def _named(ids: Sequence[str], some: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Which of `ids` are keys of `some`."""
    if not some:
        return np.zeros(len(ids), dtype=bool)
    return np.fromiter(map(some.__contains__, ids), dtype=bool, count=len(ids))


def _exclusions(inputs: Mapping[str, Any]) -> tuple[NDArray[np.int32], dict[str, int], dict[str, str]]:
    """Of rows that are out before the pick: the code of each row as a number, the numbers, and what codes mean."""
    ids = inputs["ids"]
    excluded: Mapping[str, tuple[str, str]] = inputs.get("excluded", {})
    eligible_N = inputs.get("eligible_N")
    code_N, place = np.zeros(len(ids), dtype=np.int32), {"": 0, "excluded": 1}
    if eligible_N is not None:
        code_N[~np.asarray(eligible_N, dtype=bool)] = place["excluded"]
    texts: dict[str, str] = {}
    for i in np.flatnonzero(_named(ids, excluded)).tolist():
        code, text = excluded[ids[i]]
        code_N[i] = place.setdefault(code, len(place))
        texts.setdefault(code, REASONS.get(code, text))
    return code_N, place, texts


def _the_score(inputs: Mapping[str, Any]) -> tuple[Scored, float]:
    found = [key for key in inputs if key.startswith("score:")]
    if len(found) != 1:
        raise RequestError(
            f"picking by score was handed {found or 'no score'}: expected exactly one; name one --method"
        )
    return inputs[found[0]], -1.0 if inputs.get("higher", "keep") == "drop" else 1.0


def _words(inputs: Mapping[str, Any]) -> dict[str, str]:
    """What the ends of the score are called, the one to keep as `best`, and the score's name."""
    low, high = inputs.get("ends", ENDS)
    best, worst = (low, high) if inputs.get("higher", "keep") == "drop" else (high, low)
    (name,) = (key.removeprefix("score:") for key in inputs if key.startswith("score:"))
    return {"best": best, "worst": worst, "score": name}


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


def ties_at_the_cut(value_N: NDArray[np.float64], ranking: NDArray[np.int64], kept: int) -> list[str]:
    """A note where equal scores lie on both sides of the cut, so that ids alone say who is kept."""
    if not 0 < kept < len(ranking) or value_N[ranking[kept - 1]] != value_N[ranking[kept]]:
        return []
    equal = int((value_N[ranking] == value_N[ranking[kept]]).sum())
    first = int(np.argmax(value_N[ranking] == value_N[ranking[kept]]))
    return [f"{equal:,} rows tie at the cut: the {kept - first:,} of them that are kept are the first by id"]


def _shortage(wanted: int, there: int, unit: str) -> list[str]:
    if wanted <= there:
        return []
    return [f"only {there:,} of the {wanted:,} {unit} asked for are eligible: all of them are kept"]
