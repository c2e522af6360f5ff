"""What a pick shares with the baselines' picks, against sorted lists; and where nothing is said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.made_pools import held_pool, numbered

from dataworth import beside as module
from dataworth import config, plugins
from dataworth.beside import beside
from dataworth.picks.top_k import TopK
from dataworth.recipe import Recipe
from dataworth.records import Budget, Goal, Pool, Subtask
from dataworth.results import Scored, Selection
from dataworth.scores.bm25 import BM25
from dataworth.session import SILENT, Session
from dataworth.store.cache import Cache

LOSS, TOP = plugins.load("scores", "loss"), plugins.load("picks", "top_k")
NEAR = ("near-goal", "near")


def opened(pool: Pool, goal: bool = True) -> Session:
    request = config.build(config.SelectRequest, {"pool": "p.jsonl"})
    found = Goal((Subtask("g", held_pool([{"prompt": "amber fjord", "completion": "yes"}])),)) if goal else None
    return Session(request, pool, found, Recipe(), Cache(), SILENT)


def picked(session: Session, scored: Scored, size: int) -> Selection:
    eligible = np.array([i not in session.excluded for i in session.pool.ids])
    inputs = {"ids": session.pool.ids, "eligible_N": eligible, "score:loss": scored, "higher": "keep"}
    return TopK()(inputs, Budget("rows", size), seed=0)


def a_case(goal: bool = True) -> tuple[Session, Scored, Selection]:
    pool = held_pool(numbered(40))
    session = opened(pool, goal)
    session.excluded = dict.fromkeys(pool.ids[:4], NEAR)
    values = np.random.default_rng(3).normal(size=40)
    values[[5, 9]] = np.nan
    scored = Scored(values, {pool.ids[i]: "no loss" for i in (5, 9)})
    return session, scored, picked(session, scored, 10)


def test_overlaps_are_those_of_the_best_rows_each_baseline_may_take() -> None:
    session, scored, selection = a_case()
    found = beside(session, LOSS, TOP, scored, selection)["overlap"]
    may = [i for i in range(4, 40) if i not in (5, 9)]
    texts = [e.full_text for e in session.pool.examples()]
    bm25 = BM25()({"ids": session.pool.ids, "text:pool": texts, "text:goal": {"g": ["amber fjord\nyes"]}}).values_N
    for name, value in (("length", [len(t) for t in texts]), ("bm25", bm25)):
        best = sorted(may, key=lambda i: (-value[i], session.pool.ids[i]))[:10]
        assert found[name] == pytest.approx(len(set(best) & set(np.flatnonzero(selection.kept_N))) / 10), name
    assert list(found) == ["bm25", "length", "random"] and found["random"] == pytest.approx(10 / 34)
    assert session.costs["overlap with baselines"]["rows"] == 40


def test_a_score_s_rank_correlations_are_those_that_the_verb_score_tells() -> None:
    from scipy.stats import spearmanr

    session, scored, selection = a_case()
    found = beside(session, LOSS, TOP, scored, selection)["correlations"]
    scored_N = ~np.isnan(scored.values_N)
    length_N = np.array([len(e.full_text) for e in session.pool.examples()])
    assert list(found) == ["length", "random"]
    assert found["length"] == pytest.approx(spearmanr(length_N[scored_N], scored.values_N[scored_N]).statistic)
    flat = Scored(np.ones(40))
    assert "correlations" not in beside(session, LOSS, TOP, flat, selection), "nothing to correlate"


def test_without_a_goal_or_with_one_without_words_there_is_no_bm25() -> None:
    session, scored, selection = a_case(goal=False)
    assert list(beside(session, LOSS, TOP, scored, selection)["overlap"]) == ["length", "random"]
    session, scored, selection = a_case()
    session.goal = Goal((Subtask("g", held_pool([{"prompt": "?", "completion": "!"}])),))
    assert list(beside(session, LOSS, TOP, scored, selection)["overlap"]) == ["length", "random"]


@pytest.mark.parametrize("name", ["bm25", "length", "random"])
def test_baselines_are_not_compared_with_themselves(name: str) -> None:
    session, scored, selection = a_case()
    assert beside(session, plugins.load("scores", name), TOP, scored, selection) == {}


def test_a_pick_that_looks_at_no_score_an_empty_one_and_a_large_pool_are_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session, scored, selection = a_case()
    assert beside(session, LOSS, plugins.load("picks", "random"), scored, selection) == {}
    nothing: dict[str, Any] = {"ids": session.pool.ids, "eligible_N": np.zeros(40, bool), "score:loss": scored}
    assert beside(session, LOSS, TOP, scored, TopK()(nothing, Budget("rows", 3), seed=0)) == {}
    monkeypatch.setattr(module, "LARGEST", 39)
    assert beside(session, LOSS, TOP, scored, selection) == {}
