"""The verbs end to end without a model: select, score, replay, resume, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import dataworth as dw
from dataworth import api, config, options, selecting
from dataworth.errors import FormatError, NonsenseRefused, RequestError, TooManyRejects
from dataworth.results import Scored
from dataworth.session import open_session

EXAMPLE = Path(dw.__file__).parent / "data" / "example"

PLAIN = options.MethodOptions(
    options.GradientOptions(), options.GeometryOptions(), options.ClassifierOptions(), {}, {}, frozenset()
)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    path = tmp_path / "pool.jsonl"
    path.write_bytes((EXAMPLE / "pool.jsonl").read_bytes())
    return path


def goal() -> str:
    return str(EXAMPLE / "goal.jsonl")


def test_bm25_picks_the_topic_of_the_goal_and_writes_the_rows_bytes(pool: Path) -> None:
    result = dw.select(str(pool), goal=goal(), keep="10%", out="picked.jsonl")
    original = pool.read_bytes().splitlines(keepends=True)
    picked = Path("picked.jsonl").read_bytes().splitlines(keepends=True)
    assert len(picked) == len(result.ids) == 20
    assert picked == [line for line in original if line in set(picked)]
    assert sum(b"bike" in line for line in picked) >= 15
    reasons = pq.read_table("picked.jsonl.dataworth/reasons.parquet").to_pydict()
    assert sum(reasons["kept"]) == 20
    assert len(reasons["id"]) == len(original)
    assert all(reasons["reason_text"])
    assert sum(result.selection.counts().values()) == len(original)
    assert "dataworth replay" in Path("picked.jsonl.dataworth/card.md").read_text()


def test_the_same_request_is_the_same_run_and_reads_back_equal(pool: Path) -> None:
    first = dw.select(str(pool), goal=goal(), keep=20)
    stamp = (first.run / "record.json").stat().st_mtime_ns
    again = dw.select(str(pool), goal=goal(), keep=20)
    assert again.run == first.run
    assert (first.run / "record.json").stat().st_mtime_ns == stamp
    assert again.ids == first.ids
    assert np.array_equal(again.selection.reason_code_N, first.selection.reason_code_N)
    assert np.array_equal(again.scored.values_N, first.scored.values_N)
    assert again.to_dict() == first.to_dict()


def test_a_finished_run_still_writes_where_it_is_asked_to(pool: Path) -> None:
    dw.select(str(pool), goal=goal(), keep=20, out="one.jsonl")
    dw.select(str(pool), goal=goal(), keep=20, out="two.jsonl")
    assert Path("one.jsonl").read_bytes() == Path("two.jsonl").read_bytes()
    before = Path("two.jsonl").stat().st_mtime_ns
    dw.select(str(pool), goal=goal(), keep=20, out="two.jsonl")
    assert Path("two.jsonl").stat().st_mtime_ns == before
    Path("two.jsonl").unlink()
    dw.select(str(pool), goal=goal(), keep=20, out="two.jsonl")
    assert Path("one.jsonl").read_bytes() == Path("two.jsonl").read_bytes()


def test_a_changed_input_is_another_run(pool: Path) -> None:
    first = dw.select(str(pool), goal=goal(), keep=20)
    pool.write_bytes(pool.read_bytes() + b'{"prompt": "My bike is new.", "completion": "Good."}\n')
    second = dw.select(str(pool), goal=goal(), keep=20)
    assert second.run != first.run
    with pytest.raises(RequestError, match=r"inputs.*changed"):
        dw.replay(first.run)


def test_replay_reproduces_the_ids(pool: Path) -> None:
    run = dw.select(str(pool), goal=goal(), keep=20).run
    for from_scratch in (False, True):
        found = dw.replay(run, from_scratch=from_scratch)
        assert found.identical
        assert found.kept == 20
        assert found.score_difference == 0


def test_a_foreign_run_folder_is_refused_by_key(pool: Path) -> None:
    dw.select(str(pool), goal=goal(), keep=20, run="mine")
    with pytest.raises(RequestError, match="keep"):
        dw.select(str(pool), goal=goal(), keep=21, run="mine")


def test_near_goal_rows_are_excluded_listed_and_can_be_kept(pool: Path) -> None:
    row = json.loads((EXAMPLE / "goal.jsonl").read_text().splitlines()[0])
    pool.write_bytes(pool.read_bytes() + (json.dumps({**row, "completion": "Another answer."}) + "\n").encode())
    left_out = dw.select(str(pool), goal=goal(), keep=20)
    assert left_out.selection.counts()["near-goal"] == 1
    assert left_out.record["guards"][0]["rows"] == 1
    kept = dw.select(str(pool), goal=goal(), keep=20, keep_near_goal=True)
    assert "near-goal" not in kept.selection.counts()
    assert kept.record["guards"][0]["keep_near_goal"] is True


def test_too_many_rejects_end_with_an_error_after_the_result_is_written(pool: Path) -> None:
    pool.write_bytes(pool.read_bytes() + b"{broken\n" * 10)
    fields = {"pool": str(pool), "goal": goal(), "keep": 20, "out": "picked.jsonl", "run": "mine"}
    with pytest.raises(TooManyRejects, match="10 of 210") as caught:
        api.run_select(config.build(config.SelectRequest, fields))
    with pytest.warns(UserWarning, match="10 of 210"):
        assert dw.select(**fields).ids == caught.value.result.ids
    assert len(Path("picked.jsonl").read_bytes().splitlines()) == 20
    assert len(Path("mine/rejected.jsonl").read_bytes().splitlines()) == 10
    dw.select(str(pool), goal=goal(), keep=20, out="picked.jsonl", run="mine", max_rejected=0.1)


def test_score_reports_every_method_beside_its_controls(pool: Path) -> None:
    found = dw.score(str(pool), goal=goal(), method="bm25,length,random")
    assert set(found.scores) == {"bm25", "length", "random"}
    assert found.correlations["length"]["length"] == pytest.approx(1.0)
    assert found.correlations["random"]["random"] == pytest.approx(1.0)
    table = pq.read_table(found.run / "scores" / "bm25.parquet")
    assert table.num_rows == 200
    assert "bm25" in found.explain()
    again = dw.score(str(pool), goal=goal(), method="bm25,length,random")
    assert np.array_equal(again.scores["bm25"].values_N, found.scores["bm25"].values_N)


@pytest.mark.parametrize("pick", ["top_k", "random", "quota"])
def test_every_pick_keeps_what_was_asked(pool: Path, pick: str) -> None:
    assert len(dw.select(str(pool), goal=goal(), keep=30, pick=pick).ids) == 30


def test_weight_and_order_do_not_depend_on_row_order(pool: Path, tmp_path: Path) -> None:
    first = dw.select(str(pool), goal=goal(), keep=20)
    turned = tmp_path / "turned.jsonl"
    turned.write_bytes(b"".join(reversed(pool.read_bytes().splitlines(keepends=True))))
    second = dw.select(str(turned), goal=goal(), keep=20)
    assert set(first.ids) == set(second.ids)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"method": "lees"}, "did you mean 'less'"),
        ({"goal": None}, "no goal and no method.*for images and vectors with a class el2n or aum"),
        ({"method": "less"}, "needs --model"),
        ({"method": "bm25", "goal": None}, "needs --goal"),
        ({"keep": "0"}, "keep"),
        ({"keep": 1.0}, "100%"),
        ({"keep": "many"}, "not understood"),
        ({"keep": "2ktok"}, "token"),
        ({"pick": "best"}, "picks"),
        ({"option": "redduce=max"}, "redduce"),
        ({"option": "reduce"}, "NAME=VALUE"),
        ({"kep": 3}, "did you mean 'keep'"),
        ({"seed": "one"}, "expected int"),
        ({"recipe": "absent.yaml"}, "isn't there"),
        ({"map": "prompt=nothing"}, "nothing"),
        ({"duplicate_keys": "merge"}, "reject or last"),
    ],
)
def test_a_wrong_request_is_one_line_with_the_next_action(pool: Path, wrong: dict[str, object], message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        dw.select(str(pool), **{"goal": goal(), "keep": 20, **wrong})
    assert "\n" not in str(caught.value)


def test_a_pool_without_rows_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises((RequestError, FormatError)):
        dw.select("empty.jsonl", goal=goal(), keep=1)


def test_a_constant_score_is_refused(tmp_path: Path) -> None:
    rows = [json.dumps({"prompt": f"question {i}", "completion": "same"}) for i in range(10, 40)]
    (tmp_path / "flat.jsonl").write_text("\n".join(rows))
    with pytest.raises(NonsenseRefused, match="another method"):
        dw.select("flat.jsonl", method="length", keep=5)


def test_portable_runs_and_plans_need_no_model_library(pool: Path) -> None:
    found = dw.plan(str(pool), goal=goal(), keep=20, calibrate=False)
    assert found.stages
    assert all(s.rows >= 0 for s in found.stages)


@pytest.mark.parametrize(
    ("given", "chosen"),
    [
        ({"goal": "g"}, "bm25"),
        ({"goal": "g", "model": "m"}, "less"),
        ({"goal": "g", "model": "m", "method": "length"}, "length"),
        ({"method": "random"}, "random"),
        ({"model": "m", "method": "loss"}, "loss"),
    ],
)
def test_the_method_follows_from_what_was_given(given: dict[str, str], chosen: str) -> None:
    request = config.build(config.SelectRequest, {"pool": "p", **given})
    assert selecting.choose_method(request, request.method).name == chosen


def test_a_method_without_its_model_lists_those_that_need_none() -> None:
    request = config.build(config.SelectRequest, {"pool": "p", "goal": "g", "method": "less"})
    with pytest.raises(RequestError, match="without a model there are: random, length, response_length, bm25"):
        selecting.choose_method(request, request.method)


def test_a_constant_score_is_recorded_as_a_guard_that_failed(tmp_path: Path) -> None:
    rows = [json.dumps({"prompt": f"question {i}", "completion": "same"}) for i in range(10, 40)]
    (tmp_path / "flat.jsonl").write_text("\n".join(rows))
    request = config.build(config.SelectRequest, {"pool": "flat.jsonl", "method": "length", "workers": 0})
    with open_session(request, None) as session:
        with pytest.raises(NonsenseRefused):
            selecting.score_one(session, _Flat(), PLAIN)
        (guard,) = session.guards
    assert (guard["guard"], guard["passed"]) == ("constant-score", False)
    assert "30 of 30 rows scored, 1 values" in guard["evidence"]


class _Flat:
    name = "flat"
    kinds = frozenset({"sft"})
    needs: frozenset[str] = frozenset()
    higher = "keep"

    def __call__(self, inputs: dict) -> Scored:
        return Scored(np.ones(len(inputs["ids"])))


def test_a_score_for_other_kinds_of_rows_is_refused_by_kind(pool: Path) -> None:
    class ForText(_Flat):
        kinds = frozenset({"text"})

    request = config.build(config.SelectRequest, {"pool": str(pool), "method": "length", "workers": 0})
    with open_session(request, None) as session, pytest.raises(RequestError, match=r"for text rows.*has sft rows"):
        selecting.score_one(session, ForText(), PLAIN)


def test_a_score_that_ranks_like_length_says_so_and_a_flat_one_has_no_correlation(pool: Path) -> None:
    request = config.build(config.ScoreRequest, {"pool": str(pool), "method": "length", "workers": 0})
    with open_session(request, None) as session:
        lengths = np.array([len(e.full_text) for e in session.pool.examples()], dtype=float)
        same = selecting.correlations(session, Scored(lengths**3))
        turned = selecting.correlations(session, Scored(-lengths))
        flat = selecting.correlations(session, Scored(np.ones(len(lengths))))
    assert same["length"] == pytest.approx(-turned["length"])
    assert abs(same["random"]) < 0.3
    assert np.isnan(list(flat.values())).all()


UNANSWERED = [
    {
        "messages": [
            {"role": "user", "content": "How do I mend a bike chain? " * 9},
            {"role": "assistant", "content": " "},
        ]
    },
    {
        "messages": [
            {"role": "user", "content": "How do I true a bike wheel? " * 9},
            {"role": "assistant", "content": ""},
        ]
    },
    {"messages": [{"role": "user", "content": "How do I oil a bike chain? " * 9}]},
]
TALK = [
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi"},
    {"role": "user", "content": "Bye"},
]
ANSWERED = [{"messages": TALK}, {"messages": [*TALK, {"role": "assistant", "content": ""}]}]


@pytest.mark.parametrize("method", ["bm25", "length", "random"])
@pytest.mark.parametrize("pick", ["top_k", "random", "quota"])
def test_a_row_without_an_answer_is_unscored_and_never_kept(tmp_path: Path, method: str, pick: str) -> None:
    rows = [
        *UNANSWERED,
        *ANSWERED,
        *({"messages": [*TALK[:1], {"role": "assistant", "content": "bike " * n}]} for n in (1, 2)),
    ]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    result = dw.select("p.jsonl", goal=goal(), method=method, pick=pick, keep="100%")
    assert list(result.scored.unscored.values()) == ["its answer is empty"] * 3
    assert result.selection.kept_N.tolist() == [False] * 3 + [True] * 4
    assert result.selection.counts()["unscored"] == 3
    assert result.dropped_sample[0].why.endswith(": its answer is empty")
    score = dw.score("p.jsonl", goal=goal(), method="length,random")
    assert [len(s.unscored) for s in score.scores.values()] == [3, 3]


def test_plain_text_needs_no_answer(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({"text": f"line {'x' * n}"}) + "\n" for n in range(4)))
    assert not dw.select("t.jsonl", method="length", keep=2).scored.unscored


def test_a_pool_that_is_the_goal_leaves_nothing_to_pick(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="all 6 rows are near the goal"):
        dw.select(goal(), goal=goal(), keep=2)
    assert len(dw.select(goal(), goal=goal(), keep=2, keep_near_goal=True).ids) == 2


def test_a_plan_refuses_the_kinds_that_a_selection_would_refuse(tmp_path: Path) -> None:
    rows = [{"prompt": f"which? {i}", "chosen": "this", "rejected": "that"} for i in range(5)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(RequestError, match="preference rows"):
        dw.plan("pairs.jsonl", method="loss", model=str(tmp_path), keep=2, calibrate=False)
