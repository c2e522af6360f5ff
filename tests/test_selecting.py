"""What stands between a pick and what is stored and trained: weights that count as the rows kept."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from tests.made_pools import held_pool, numbered
from tests.picks.ballots import scored

import dataworth as dw
from dataworth.dynamics import Recorder
from dataworth.errors import NonsenseRefused, RequestError
from dataworth.picks.bottom_k import BottomK
from dataworth.picks.top_k import TopK
from dataworth.records import Budget
from dataworth.results import Scored, Selection
from dataworth.selecting import answered_only, weighed


def kept(*weights: float) -> Selection:
    found = TopK()(scored(np.arange(9.0)), Budget("rows", len(weights)))
    return replace(found, weights=np.array(weights), notes=("of the pick",))


def test_weights_count_as_the_rows_kept_and_the_factor_gives_those_of_the_method_back() -> None:
    got = weighed(kept(1.0, 4.0, 7.0))
    assert got.weights.tolist() == [0.25, 1.0, 1.75]
    of_pick, ignored, divided = got.notes
    assert of_pick == "of the pick"
    assert "weights, 0.25 to 1.75, in weights.parquet: a trainer that ignores them" in ignored
    factor = float(divided.split("by their mean, ")[1].split(",")[0])
    np.testing.assert_allclose(got.weights * factor, [1, 4, 7])


def test_weights_that_count_as_the_rows_kept_already_are_told_and_left() -> None:
    got = weighed(kept(0.5, 1.5))
    assert got.weights.tolist() == [0.5, 1.5] and len(got.notes) == 2


def test_rows_that_all_weigh_the_same_weigh_one() -> None:
    plain = kept(1.0, 1.0)
    assert weighed(plain) is plain
    alike = weighed(kept(0.1, 0.1, 0.1))
    assert alike.weights.tolist() == [1, 1, 1] and "divided by their mean, 0.1" in alike.notes[1]
    nothing = replace(plain, weights=np.empty(0))
    assert weighed(nothing) is nothing


def pool_of(folder, rows) -> str:
    path = folder / "pool.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_the_low_end_of_a_column_keeps_its_numbers_in_values_reasons_and_thresholds(tmp_path) -> None:
    pool = pool_of(tmp_path, [{"text": f"row {n}", "quality": n / 10} for n in range(100)])
    low = {"method": "column:quality", "run": str(tmp_path / "run")}
    found = dw.select(pool, option=("direction=low",), keep="5", **low)
    assert sorted(found.scored.values_N[found.selection.kept_N].tolist()) == [0.0, 0.1, 0.2, 0.3, 0.4]
    assert found.selection.reason_texts["kept-top"] == "kept: among the lowest by column:quality within the budget"
    assert found.selection.boundary == {"last_kept": 0.4, "first_dropped": 0.5}
    assert {row.score for row in found.kept_sample} == {0.0, 0.1, 0.2}
    within = dw.select(
        pool,
        option=("direction=low", "below=5"),
        pick="threshold",
        keep="100%",
        method="column:quality",
        run=str(tmp_path / "within"),
    )
    assert found.scored.values_N[within.selection.kept_N].max() == 5.0 and within.selection.kept_N.sum() == 51


def test_a_score_that_only_tells_excluded_rows_apart_is_refused(tmp_path) -> None:
    told = "le chat dort sur la chaise du jardin toute la nuit numero {}"
    goal = tmp_path / "goal.jsonl"
    goal.write_text("".join(json.dumps({"text": told.format(n)}) + "\n" for n in range(5)))
    rows = [{"text": f"an english sentence about topic {n}"} for n in range(50, 150)]
    pool = pool_of(tmp_path, [*rows, *({"text": told.format(n)} for n in range(3))])
    with pytest.raises(NonsenseRefused, match="bm25: 100 of 100 rows scored, 1 values"):
        dw.select(pool, goal=str(goal), method="bm25", keep="5", run=str(tmp_path / "run"))


def test_one_row_with_a_number_among_many_without_is_no_ranking(tmp_path) -> None:
    pool = pool_of(tmp_path, [{"text": "a", "quality": 1}, *({"text": f"row {n}", "quality": ""} for n in range(9))])
    with pytest.raises(NonsenseRefused, match="1 of 10 rows scored"):
        dw.select(pool, method="column:quality", keep="5", run=str(tmp_path / "run"))


def test_rows_that_tie_at_the_cut_are_told() -> None:
    values = np.array([3.0, 1.0, 1.0, 1.0, 0.0])
    (note,) = TopK()(scored(values), Budget("rows", 2)).notes
    assert note == "3 rows tie at the cut: the 1 of them that are kept are the first by id"
    assert TopK()(scored(values), Budget("rows", 4)).notes == ()
    (other,) = BottomK()(scored(-values), Budget("rows", 3)).notes
    assert other.startswith("3 rows tie at the cut: the 2 of them")


def test_options_of_trainings_are_refused_beside_a_recording_and_a_policy_beside_a_pick_of_one_end(tmp_path) -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 40)
    np.savez(tmp_path / "pool.npz", vector=rng.normal(size=(40, 3)) + label[:, None], label=label)
    run = str(tmp_path / "run")
    with pytest.raises(RequestError, match="--policy auto with --pick dual_beta, which can keep the high end only"):
        dw.select(
            str(tmp_path / "pool.npz"),
            method="dual",
            pick="dual_beta",
            policy="auto",
            model="linear",
            keep="10",
            run=run,
        )
    recorder = Recorder(range(40), 3)
    for epoch in range(3):
        recorder.record(epoch, range(40), rng.normal(size=(40, 2)), label)
    recorder.save(tmp_path / "seen.npz")
    given = {"method": "el2n", "dynamics": (str(tmp_path / "seen.npz"),), "keep": "10"}
    with pytest.raises(RequestError, match="nets=7 record=train beside --dynamics"):
        dw.select(str(tmp_path / "pool.npz"), option=("nets=7",), run=run, **given)
    assert len(dw.select(str(tmp_path / "pool.npz"), run=str(tmp_path / "fine"), **given).selection.ids) == 10


def test_rows_without_an_answer_lose_their_score_and_nothing_else_changes() -> None:
    rows = numbered(3)
    pool = held_pool([rows[0], {**rows[1], "completion": ""}, rows[2]])
    given = Scored(np.array([1.0, 2.0, np.nan]), {pool.ids[2]: "spoiled"}, notes=("2 values were clipped",))
    got = answered_only(given, pool)
    np.testing.assert_array_equal(got.values_N, [1.0, np.nan, np.nan])
    assert got.unscored == {pool.ids[2]: "spoiled", pool.ids[1]: "its answer is empty"}
    assert got.notes == ("2 values were clipped",)
