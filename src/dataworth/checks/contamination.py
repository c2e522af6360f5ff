"""DW001, the contamination gate: pool rows whose question is a goal row's question.

Compared are *stems*: the text without a leading `Question:` label and without everything from an `Options:` or
`Choices:` line or a lettered list on. A pool row is near the goal if its words equal a goal stem's, or if it holds
at least half of a goal stem's n-grams, n = min(13, words of the stem). N-grams that more than 5 rows of one source
hold are that source's template and don't count for its rows. Likewise a whole stem under which one source has more
than 5 different texts ("Which of these makes no sense?"): what is asked stands in the options, and such a row is near
a goal row whose text has the same words, in any order.

The pool is streamed once. Only n-grams of the goal are looked for: a rolling 64-bit hash over each batch, a bit
table to discard nearly everything, an exact comparison of what is left. Cost is linear in pool words, memory in the
goal.

Source: 13-gram overlap is GPT-3's decontamination rule (Brown et al. 2020, arXiv 2005.14165, appendix C); stems, short
n and the template rule are this project's.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dataworth.errors import NotApplicable
from dataworth.numerics.lexical import Vocabulary, encode, words
from dataworth.results import Finding

LENGTH = 13
TEMPLATE_ROWS = 5
CONTAINMENT = 0.5
_BITS = 22
_LABEL = re.compile(r"\s*(?:question|q)\s*:\s*", re.IGNORECASE)
_LIST = re.compile(
    r"(?:^|\n)\s*(?:answer\s+)?(?:options|choices)\s*:"  # Options: / Answer choices:
    r"|\n\s*\(?a[).:]\s"  # a line that starts with A) A. (A) A:
    r"|\s\(a\)\s.*\(b\)\s",  # (A) ... (B) within a line
    re.IGNORECASE,
)


def stem(text: str) -> str:
    """The question itself: without its label, options and lettered list (the whole text if nothing would be left)."""
    bare = _unlabelled(text)
    found = _LIST.search(bare)
    cut = bare[: found.start()] if found else bare
    return cut if cut.strip() else bare


def _unlabelled(text: str) -> str:
    label = _LABEL.match(text)
    return text[label.end() :] if label else text


def _bag(text: str) -> bytes:
    """A digest of a text's words in any order, as options may be listed in another one."""
    return hashlib.blake2b(" ".join(sorted(words(_unlabelled(text)))).encode(), digest_size=16).digest()


class Contamination:
    """Pool rows near the goal, and the goal rows they are near to."""

    code = "DW001"
    title = "pool rows nearly equal to goal rows"
    severity: Literal["issue", "tip"] = "issue"
    cost: Literal["free", "text", "model"] = "text"
    needs = frozenset({"prompts:pool", "prompts:goal"})

    def __call__(self, inputs: Mapping[str, Any]) -> Finding | None:
        """Look for near-goal rows.

        Reads `prompts:pool`, an iterable of `(id, source, text)` read once, and `prompts:goal`, pairs `(name,
        text)` of all goal rows (steer, tune and, through the gate alone, judge): prompts, or whole texts of rows
        that have none.

        Raises:
            NotApplicable: No goal row has any words.
        """
        index = _GoalIndex.of(inputs["prompts:goal"])
        if not index.stems:
            raise NotApplicable("the goal has no row with words in its question")
        scan = _Scan(index)
        matches = list(_matches(scan, inputs["prompts:pool"]))
        if not matches:
            return None
        near = sorted({index.names[q] for m in matches for q in m.goals})
        sources = Counter(m.source for m in matches)
        return Finding(
            code=self.code,
            title=self.title,
            severity=self.severity,
            text=f"{len(matches):,} pool rows are nearly equal to {len(near):,} of {len(index.names):,} goal rows."
            + _most_of(scan.rows, sources),
            advice="They are left out, because training on them would make the goal measure memory; "
            "--keep-near-goal keeps them.",
            evidence={"goal_rows": len(index.names), "near_goal_names": near, "pool_rows_by_source": dict(sources)},
            rows={m.row_id: m.words for m in matches},
        )


def _most_of(rows: Mapping[str, int], near: Mapping[str, int]) -> str:
    """A sentence for each of several sources that loses more than half of its rows."""
    if len(rows) < 2:
        return ""
    lost = [s for s, n in sorted(near.items()) if rows[s] > TEMPLATE_ROWS and 2 * n > rows[s]]
    return "".join(f" Among them are {near[s]:,} of the {rows[s]:,} rows of source {s}." for s in lost)


@dataclass(frozen=True)
class _GoalIndex:
    """Goal stems as word numbers, and where each of their n-grams occurs."""

    vocabulary: Vocabulary
    names: list[str]
    stems: dict[tuple[int, ...], list[int]]
    grams: dict[tuple[int, ...], int]
    goals_of: list[list[int]]
    gram_count: dict[int, int]
    bags: list[bytes]

    @classmethod
    def of(cls, goal: Iterable[tuple[str, str]]) -> _GoalIndex:
        self = cls(Vocabulary(), [], defaultdict(list), {}, [], {}, [])
        for q, (name, text) in enumerate(goal):
            self.names.append(name)
            self.bags.append(_bag(text))
            found = tuple(self.vocabulary.add(words(stem(text))))
            if not found:
                continue
            self.stems[found].append(q)
            n = min(LENGTH, len(found))
            held = {found[i : i + n] for i in range(len(found) - n + 1)}
            self.gram_count[q] = len(held)
            for gram in held:
                number = self.grams.setdefault(gram, len(self.grams))
                if number == len(self.goals_of):
                    self.goals_of.append([])
                self.goals_of[number].append(q)
        return self


@dataclass(frozen=True)
class _Match:
    row_id: str
    source: str
    goals: list[int]
    words: str


@dataclass
class _Scan:
    """One pass over the pool: which rows hold which goal n-grams, with counts per source."""

    index: _GoalIndex
    held: dict[int, list[int]] = field(default_factory=dict)
    whole: dict[int, list[int]] = field(default_factory=dict)
    counts: Counter[tuple[str, int]] = field(default_factory=Counter)
    labels: dict[int, tuple[str, str]] = field(default_factory=dict)
    bags: dict[int, bytes] = field(default_factory=dict)
    rows: Counter[str] = field(default_factory=Counter)

    def run(self, pool: Iterable[tuple[str, str, str]]) -> None:
        waiting: list[tuple[str, str, str]] = []

        def stems() -> Iterator[str]:
            for row_id, source, text in pool:
                waiting.append((row_id, source, text))
                self.rows[source] += 1
                yield stem(text)

        tables = _HashTables(self.index)
        first = 0
        for words_T, length_B in encode(stems(), self.index.vocabulary):
            self._batch(first, waiting, words_T, length_B, tables)
            waiting.clear()
            first += len(length_B)

    def _batch(
        self,
        first: int,
        rows: Sequence[tuple[str, str, str]],
        words_T: NDArray[np.int32],
        length_B: NDArray[np.int64],
        tables: _HashTables,
    ) -> None:
        ends = np.cumsum(length_B)
        unknown_T = np.concatenate([[0], np.cumsum(words_T < 0)])
        known_B = (unknown_T[ends] == unknown_T[ends - length_B]) & (length_B > 0)
        for b in np.flatnonzero(known_B).tolist():
            goals = self.index.stems.get(tuple(words_T[ends[b] - length_B[b] : ends[b]].tolist()))
            if goals:
                self.whole[first + b] = goals
                self.labels[first + b] = rows[b][:2]
                self.bags[first + b] = _bag(rows[b][2])
        seen: dict[int, set[int]] = defaultdict(set)
        for b, gram in tables.find(words_T, ends, unknown_T):
            seen[b].add(gram)
        for b, grams in seen.items():
            source = rows[b][1]
            kept = []
            for gram in grams:
                self.counts[source, gram] += 1
                # A template's further rows are only counted, so memory stays bounded by sources x goal n-grams.
                if self.counts[source, gram] <= TEMPLATE_ROWS:
                    kept.append(gram)
            if kept:
                self.held[first + b] = kept
                self.labels[first + b] = rows[b][:2]

    def same(self) -> dict[int, list[int]]:
        """Goal rows whose question each row asks; under a source's template only those of the same words."""
        bags: dict[tuple[str, int], set[bytes]] = defaultdict(set)
        for row, goals in self.whole.items():
            bags[self.labels[row][1], goals[0]].add(self.bags[row])
        return {
            row: goals
            if len(bags[self.labels[row][1], goals[0]]) <= TEMPLATE_ROWS
            else [q for q in goals if self.index.bags[q] == self.bags[row]]
            for row, goals in self.whole.items()
        }


class _HashTables:
    """Finds goal n-grams in a batch: rolling hashes, a bit table, then exact comparison."""

    def __init__(self, index: _GoalIndex) -> None:
        rng = np.random.default_rng(0)
        self._index = index
        self._word = rng.integers(0, 2**64, size=max(1, len(index.vocabulary)), dtype=np.uint64)
        self._base = np.uint64(rng.integers(0, 2**63, dtype=np.uint64) * 2 + 1)
        self._bit = np.zeros((LENGTH + 1, 1 << _BITS), dtype=bool)
        self._lengths = sorted({len(g) for g in index.grams})
        by_length: dict[int, list[tuple[int, ...]]] = defaultdict(list)
        for gram in index.grams:
            by_length[len(gram)].append(gram)
        for n, grams in by_length.items():
            flat = np.array(grams, dtype=np.int32).ravel()
            self._bit[n, self._slots(self._rolling(flat, n)[::n])] = True

    def _rolling(self, words_T: NDArray[np.int32], length: int) -> NDArray[np.uint64]:
        value = np.zeros(max(0, len(words_T) - length + 1), dtype=np.uint64)
        word_T = self._word[words_T]
        for j in range(length):
            value = value * self._base + word_T[j : j + len(value)]
        return value

    @staticmethod
    def _slots(value: NDArray[np.uint64]) -> NDArray[np.intp]:
        return (value >> np.uint64(64 - _BITS)).astype(np.intp)

    def find(
        self, words_T: NDArray[np.int32], ends: NDArray[np.int64], unknown_T: NDArray[np.int64]
    ) -> Iterator[tuple[int, int]]:
        """`(row of the batch, n-gram)` for every occurrence of a goal n-gram inside one row."""
        row_T = np.repeat(np.arange(len(ends)), np.diff(ends, prepend=0))
        word_T = self._word[words_T]
        value = np.zeros(len(words_T), dtype=np.uint64)
        for n in range(1, (self._lengths or [0])[-1] + 1):
            windows = len(words_T) - n + 1
            if windows <= 0:
                return
            value = value[:windows] * self._base + word_T[n - 1 :]
            if n not in self._lengths:
                continue
            starts = np.flatnonzero((unknown_T[n:] == unknown_T[:windows]) & (row_T[n - 1 :] == row_T[:windows]))
            for t in starts[self._bit[n, self._slots(value[starts])]].tolist():
                gram = self._index.grams.get(tuple(words_T[t : t + n].tolist()))
                if gram is not None:
                    yield int(row_T[t]), gram


def _matches(scan: _Scan, pool: Iterable[tuple[str, str, str]]) -> Iterator[_Match]:
    scan.run(pool)
    same_of = scan.same()
    for row in sorted(scan.labels):
        row_id, source = scan.labels[row]
        shares: Counter[int] = Counter()
        for gram in scan.held.get(row, []):
            if scan.counts[source, gram] <= TEMPLATE_ROWS:
                shares.update(scan.index.goals_of[gram])
        share_of = {q: n / scan.index.gram_count[q] for q, n in shares.items()}
        goals = {q: s for q, s in share_of.items() if s >= CONTAINMENT}
        same = same_of.get(row, [])
        if same:
            text = f"the same question as goal row {scan.index.names[same[0]]}"
        elif goals:
            best = max(goals, key=lambda q: (goals[q], -q))
            text = f"holds {goals[best]:.0%} of the word sequences of goal row {scan.index.names[best]}"
        else:
            continue
        yield _Match(row_id, source, sorted({*same, *goals}), text)
