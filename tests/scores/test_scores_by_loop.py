"""Scores against loops, and what must not change them: row order, rows without content, repeated goals."""

import math
import warnings
from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dataworth.numerics.lexical import words
from dataworth.results import Similarity
from dataworth.scores.assemble import over_subtasks
from dataworth.scores.bm25 import BM25
from dataworth.scores.length import Length
from dataworth.scores.less import Less
from dataworth.scores.loss import Loss
from dataworth.scores.random import Random
from dataworth.scores.rds import RDS

WORD = st.sampled_from(["cat", "dog", "sun", "a", "B", "the", "x9", "猫", "ﬁ"])
TEXT = st.lists(WORD, max_size=7).map(" ".join)
POOL = st.lists(TEXT, min_size=1, max_size=9)
GOAL = st.dictionaries(st.sampled_from("pqr"), st.lists(TEXT, min_size=1, max_size=3), min_size=1)
NUMBER = st.one_of(st.floats(-9, 9).map(lambda v: round(v, 2)), st.just(math.nan))


def ids(n: int) -> list[str]:
    return [f"{i:032x}" for i in range(n)]


def naive_bm25(pool, goal, k1, b):
    """One number per (row, subtask); None for a row without words. Lucene's idf; statistics of rows with words."""
    docs = [words(t) for t in pool]
    full = [d for d in docs if d]
    mean = sum(map(len, full)) / len(full)
    lone = set("abcdefghijklmnopqrstuvwxyz")
    out = []
    for d in docs:
        row, tf = [], Counter(d)
        for texts in goal.values() if d else ():  # with b = 1 a row without words would divide by 0
            total = 0.0
            for q in (w for t in texts for w in words(t) if w not in lone):
                df = sum(q in other for other in full)
                idf = math.log(1 + (len(full) - df + 0.5) / (df + 0.5))
                total += idf * tf[q] * (k1 + 1) / (tf[q] + k1 * (1 - b + b * len(d) / mean))
            row.append(total / len(texts))
        out.append(row if d else None)
    return out


@settings(max_examples=150)
@given(POOL, GOAL, st.floats(0.1, 3), st.floats(0, 1), st.sampled_from(["max", "mean"]))
def test_bm25_equals_fifteen_naive_lines(pool, goal, k1, b, reduce):
    assume(any(words(t) for t in pool))
    assume(any(len(w) > 1 or not w.isascii() for ts in goal.values() for t in ts for w in words(t)))
    got = BM25()({"ids": ids(len(pool)), "text:pool": iter(pool), "text:goal": goal}, k1=k1, b=b, reduce=reduce)
    for i, row in enumerate(naive_bm25(pool, goal, k1, b)):
        if row is None:
            assert np.isnan(got.values_N[i]) and got.unscored[ids(len(pool))[i]] == "it has no words"
        else:
            wanted = max(row) if reduce == "max" else sum(row) / len(row)
            assert got.values_N[i] == pytest.approx(wanted, rel=1e-5, abs=1e-6)


@settings(max_examples=60)
@given(POOL, GOAL, st.sampled_from(["max", "mean", "zmax"]), st.randoms(use_true_random=False))
def test_bm25_ignores_row_order_rows_without_words_and_goals_given_twice(pool, goal, reduce, random):
    assume(any(len(w) > 1 or not w.isascii() for ts in goal.values() for t in ts for w in words(t)))

    def score(texts, goals=goal):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return BM25()({"ids": ids(len(texts)), "text:pool": texts, "text:goal": goals}, reduce=reduce).values_N

    base = score(pool)
    order = list(range(len(pool)))
    random.shuffle(order)
    np.testing.assert_allclose(score([pool[i] for i in order]), base[order], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(score([*pool, "", " ?!"])[: len(pool)], base, rtol=1e-6, atol=1e-9)
    twice = {name: texts * 2 for name, texts in goal.items()}
    np.testing.assert_allclose(score(pool, twice), base, rtol=1e-6, atol=1e-9)


TABLE = st.lists(st.lists(NUMBER, min_size=3, max_size=3), min_size=1, max_size=8)


@settings(max_examples=120)
@given(TABLE)
def test_reductions_equal_loops(table):
    values = np.array(table)
    whole = [row for row in table if all(math.isfinite(v) for v in row)]
    columns = list(zip(*whole, strict=True))
    means = [sum(c) / len(c) for c in columns] or [0.0] * 3
    spreads = [math.sqrt(sum((v - m) ** 2 for v in c) / len(c)) for c, m in zip(columns, means, strict=False)] or [
        0.0
    ] * 3
    for how in ("max", "mean", "zmax"):
        got = over_subtasks(values, how)
        for i, row in enumerate(table):
            if not all(math.isfinite(v) for v in row):
                assert np.isnan(got[i])
            elif how == "zmax":
                z = [(v - m) / s if s > 1e-9 else 0.0 for v, m, s in zip(row, means, spreads, strict=True)]
                assert got[i] == pytest.approx(max(z), abs=1e-6)
            else:
                assert got[i] == pytest.approx(max(row) if how == "max" else sum(row) / 3)


@settings(max_examples=60)
@given(TABLE, st.floats(0.1, 50), st.floats(-20, 20))
def test_zmax_ignores_the_scale_and_origin_of_a_subtask_and_max_keeps_one_subtask_as_it_is(table, scale, shift):
    values = np.array(table)
    moved = values.copy()
    moved[:, 1] = moved[:, 1] * scale + shift
    np.testing.assert_allclose(over_subtasks(moved, "zmax"), over_subtasks(values, "zmax"), atol=1e-6)
    np.testing.assert_array_equal(over_subtasks(values[:, :1], "max"), values[:, 0])
    np.testing.assert_array_equal(over_subtasks(values[:, :1], "mean"), values[:, 0])


@settings(max_examples=80)
@given(
    st.integers(1, 3),
    st.integers(1, 6),
    st.integers(1, 3),
    st.integers(0, 10**6),
    st.sampled_from(["mean", "centroid"]),
    st.sampled_from(["max", "mean"]),
)
def test_less_is_the_weighted_sum_over_checkpoints(checkpoints, rows, subtasks, seed, variant, reduce):
    rng = np.random.default_rng(seed)
    mean, centroid = rng.normal(size=(2, checkpoints, rows, subtasks)).astype(np.float32)
    weights = rng.dirichlet(np.ones(checkpoints))
    holes = np.flatnonzero(rng.random(rows) < 0.3)
    mean[:, holes], centroid[:, holes] = np.nan, np.nan
    known = {ids(rows)[i]: f"hole {i}" for i in holes[::2]}
    found = Similarity(mean, centroid, weights, tuple("abc"[:subtasks]), known)
    got = Less()({"ids": ids(rows), "similarity": found}, variant=variant, reduce=reduce)
    table = mean if variant == "mean" else centroid
    for i in range(rows):
        if i in holes:
            assert got.unscored[ids(rows)[i]] == known.get(ids(rows)[i], "it has no gradient features")
            continue
        per_subtask = [sum(weights[c] * float(table[c, i, g]) for c in range(checkpoints)) for g in range(subtasks)]
        wanted = max(per_subtask) if reduce == "max" else sum(per_subtask) / subtasks
        assert got.values_N[i] == pytest.approx(wanted, abs=1e-6)
    assert len(got.unscored) == len(holes)


@settings(max_examples=60)
@given(st.integers(1, 7), st.integers(1, 3), st.integers(1, 3), st.integers(0, 10**6))
def test_rds_equals_loops_over_rows_goals_and_rounds(rows, subtasks, each, seed):
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-2, 3, size=(rows, 3)).astype(np.float32)  # small integers: many ties and zero rows
    goals = {f"s{k}": rng.integers(1, 4, size=(each, 3)).astype(np.float32) for k in range(subtasks)}
    inputs = {"ids": ids(rows), "vectors": vectors, "goal_vectors": goals}

    def cosine(x, y):
        return float(x @ y) / math.sqrt(float(x @ x) * float(y @ y))

    usable = [i for i in range(rows) if vectors[i].any()]
    mean_max, turns = RDS()(inputs).values_N, RDS()(inputs, reduce="round_robin").values_N
    flat = [g for table in goals.values() for g in table]
    for i in range(rows):
        if i not in usable:
            assert np.isnan(mean_max[i]) and np.isnan(turns[i])
            continue
        own = [cosine(vectors[i], g) for g in flat]
        assert mean_max[i] == pytest.approx(max(np.mean([cosine(vectors[i], g) for g in t]) for t in goals.values()))
        near = [sum(cosine(vectors[j], g) > c + 1e-9 for j in usable) for g, c in zip(flat, own, strict=True)]
        assert turns[i] == pytest.approx(-min(near) + (max(own) + 1) / 4, abs=1e-9)


@given(st.lists(st.text(max_size=5), min_size=1, max_size=8), st.integers(0, 3))
def test_length_counts_characters_and_random_belongs_to_id_and_seed(texts, seed):
    names = ids(len(texts))
    got = Length()({"ids": names, "text:pool": iter(texts)})
    assert [0 if np.isnan(v) else int(v) for v in got.values_N] == [len(t) for t in texts]
    assert set(got.unscored) == {n for n, t in zip(names, texts, strict=True) if not t}
    values = Random()({"ids": names}, seed=seed).values_N
    backwards = Random()({"ids": names[::-1]}, seed=seed).values_N
    assert backwards[::-1].tolist() == values.tolist() and ((values >= 0) & (values < 1)).all()
    assert len(set(values.tolist())) == len(names)
    assert values[0] != Random()({"ids": names}, seed=seed + 1).values_N[0]


@given(st.lists(NUMBER, min_size=1, max_size=8))
def test_loss_in_both_directions_is_the_same_number_of_which_another_end_is_kept(losses):
    inputs = {"ids": ids(len(losses)), "losses": np.array(losses)}
    high, low = Loss()(inputs), Loss()(inputs, direction="low")
    np.testing.assert_array_equal(high.values_N, low.values_N)
    assert (high.higher, low.higher) == (None, "drop")
    assert dict(high.unscored) == dict(low.unscored)
    assert inputs["losses"].tobytes() == np.array(losses).tobytes()  # the input is not changed
