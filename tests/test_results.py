"""Results say themselves as text, dict and HTML, and their numbers add up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataworth.results import (
    CacheReport,
    PlanResult,
    ReplayResult,
    SampleRow,
    Scored,
    ScoreResult,
    Selection,
    SelectResult,
    Stage,
    duration,
    table,
)

CELL = st.text(st.characters(codec="ascii", exclude_categories=("C",), exclude_characters=" "), min_size=1, max_size=8)


def selection() -> Selection:
    return Selection(
        ids=("b", "d"),
        weights=np.array([1.0, 2.0]),
        kept_N=np.array([False, True, False, True, False]),
        reason_code_N=np.array([1, 0, 2, 0, 1], dtype=np.uint8),
        reasons=("kept-top", "below-cut", "unscored"),
        reason_texts={"kept-top": "kept: best", "below-cut": "dropped: low", "unscored": "dropped: no score"},
        boundary={"last_kept": 0.5, "first_dropped": 0.25},
        notes=("asked for 3 rows, 2 are there",),
    )


def select_result(**more: Any) -> SelectResult:
    scored = Scored(np.array([0.1, 0.5, np.nan, 0.9, 0.25]), {"c": "no answer"})
    kept = (SampleRow("d", "the <b>best</b> & last", 0.9, "kept: best (bm25 0.9, rank 1 of 4)"),)
    dropped = (SampleRow("c", "empty", None, "dropped: no score: no answer"),)
    parts = {"kept_sample": kept, "dropped_sample": dropped, "record": {"seed": 0}, **more}
    return SelectResult(Path("runs/x"), "bm25", "top_k", selection(), scored, **parts)


def stage(name: str = "less", cpu: float | None = 2.0, **more: Any) -> Stage:
    values = {"rows": 1000, "cached": 10, "tokens": 123456, "passes": 2.0, "disk_bytes": 2048, **more}
    return Stage(name=name, cpu_seconds=cpu, **values)


def priced(*stages: Stage, **more: Any) -> PlanResult:
    parts = {"train_pick": None, "train_full": None, "calibration": {}, "recipe": {}, **more}
    return PlanResult(stages, **parts)


def test_every_row_without_a_number_has_a_reason_and_no_other() -> None:
    assert len(Scored(np.array([1.0, np.nan]), {"b": "why"}).unscored) == 1
    with pytest.raises(ValueError, match="1 NaN values but 0"):
        Scored(np.array([1.0, np.nan]))
    with pytest.raises(ValueError, match="0 NaN values but 1"):
        Scored(np.array([1.0, 2.0]), {"b": "why"})
    with pytest.raises(ValueError, match="infinite"):
        Scored(np.array([1.0, -np.inf]))


def test_one_line_says_how_a_pick_stands_beside_pool_and_baselines() -> None:
    tokens = {"kept": 41200, "pool": 812000}
    overlap = {"bm25": 0.412, "length": 0.12, "random": 0.05}
    both = select_result(record={"beside": {"tokens": tokens, "overlap": overlap}})
    assert both.beside == (
        "41,200 of the pool's 812,000 tokens (5.1 %); overlap: bm25 41 %, length 12 %; random would share 5 %"
    )
    assert both.beside in both.explain().splitlines()
    assert both.to_dict()["beside"] == {"tokens": tokens, "overlap": overlap}
    assert select_result(record={"beside": {"tokens": tokens}}).beside.endswith("tokens (5.1 %)")
    assert select_result(record={"beside": {"overlap": overlap}}).beside.startswith("overlap: bm25")
    assert select_result(record={"beside": {"overlap": {"random": 0.05}}}).beside == "", "images have no baseline"
    assert select_result().beside == "" and "" not in select_result().explain().splitlines()


def test_reasons_of_a_selection_add_up_to_the_pool() -> None:
    found = selection()
    assert found.counts() == {"kept-top": 2, "below-cut": 2, "unscored": 1}
    assert sum(found.counts().values()) == len(found.kept_N)
    assert found.counts()["kept-top"] == len(found.ids) == len(found.weights) == found.kept_N.sum()
    lines = found.explain().splitlines()
    assert lines[0] == "kept 2 of 5 rows"
    assert [line.split()[0] for line in lines[1:4]] == ["2", "2", "1"]
    assert lines[-1] == "asked for 3 rows, 2 are there"


def test_a_reason_no_row_has_is_not_listed() -> None:
    found = Selection(
        ("a",), np.ones(1), np.array([True]), np.zeros(1, np.uint8), ("kept-top", "unscored"), {"kept-top": "kept"}
    )
    assert found.counts() == {"kept-top": 1}
    assert list(found.to_dict()["reasons"]) == ["kept-top"]


def test_a_selection_is_plain_json() -> None:
    found = json.loads(json.dumps(selection().to_dict(), allow_nan=False))
    assert found["kept"] == 2
    assert found["pool"] == 5
    assert found["reasons"]["below-cut"] == {"rows": 2, "text": "dropped: low"}
    assert found["boundary"]["last_kept"] == 0.5


def test_a_select_result_says_what_was_kept_and_dropped() -> None:
    found = select_result(written=(Path("picked.jsonl"),))
    text = found.explain()
    assert text.startswith("bm25 -> top_k: kept 2 of 5 rows")
    assert text.index("kept, for example") < text.index("the <b>best</b>") < text.index("dropped, for example")
    assert "rank 1 of 4" in text
    values = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert values["written"] == ["picked.jsonl"]
    assert values["unscored"] == 1
    assert values["kept_sample"][0]["score"] == 0.9
    assert values["dropped_sample"][0]["score"] is None
    assert found.ids == ("b", "d")


def test_without_samples_there_is_no_heading_for_them() -> None:
    assert "for example" not in select_result(kept_sample=(), dropped_sample=()).explain()


def test_a_result_without_its_pool_can_not_write_and_one_with_it_does() -> None:
    with pytest.raises(ValueError, match=r"api\.select"):
        select_result().write("out.jsonl")
    asked: list[Any] = []
    found = select_result(writer=lambda out: (asked.append(out), (Path(out),))[1])
    assert found.write("out.jsonl") == (Path("out.jsonl"),)
    assert asked == ["out.jsonl"]
    assert "writer" not in repr(found)


def test_html_of_data_is_escaped_in_every_notebook_face() -> None:
    hostile = "<script>alert('x')</script>&"
    row = (SampleRow("d", hostile, 0.9, hostile),)
    scored = Scored(np.array([1.0]))
    faces = [
        select_result(kept_sample=row),
        ScoreResult(Path(hostile), ["a"], {hostile: scored}, {hostile: {}}, {}),
        priced(stage(hostile), notes=(hostile,)),
    ]
    for face in faces:
        page = face._repr_html_()
        assert page.startswith("<pre>")
        assert page.endswith("</pre>")
        assert "<script" not in page
        assert "&lt;script&gt;" in page
        assert "&amp;" in page


def test_a_score_result_has_a_line_per_method() -> None:
    scores = {
        "bm25": Scored(np.array([0.0, 1.0, 2.0, 3.0, np.nan]), {"e": "empty"}),
        "loss": Scored(np.full(5, np.nan), dict.fromkeys("abcde", "no answer")),
    }
    rho = {"bm25": {"length": 0.5, "random": -0.125}, "loss": {"length": float("nan"), "random": float("nan")}}
    found = ScoreResult(Path("runs/s"), list("abcde"), scores, rho, {"seed": 0})
    head, _, bm25, loss, where = found.explain().splitlines()
    assert head.split() == ["method", "scored", "unscored", "25%", "50%", "75%", "rho(length)", "rho(random)"]
    assert bm25.split() == ["bm25", "4", "1", "0.75", "1.5", "2.25", "0.50", "-0.12"]
    assert loss.split() == ["loss", "0", "5", "-", "-", "-", "nan", "nan"]
    assert where == "scores: runs/s"
    values = found.to_dict()["methods"]
    assert values["bm25"] == {"scored": 4, "unscored": 1, "rho": {"length": 0.5, "random": -0.125}}
    assert values["loss"]["scored"] == 0


@given(st.lists(st.tuples(CELL, CELL, CELL), max_size=6))
def test_a_table_is_aligned_and_loses_nothing(rows: list[tuple[str, str, str]]) -> None:
    header = ["one", "two", "three"]
    lines = table(rows, header).splitlines()
    assert len(lines) == len(rows) + 2
    assert [line.split() for line in lines] == [header, [*lines[1].split()], *map(list, rows)]
    widths = [len(w) for w in lines[1].split()]
    assert widths == [max(len(h), *(len(r[i]) for r in rows), 0) for i, h in enumerate(header)]
    assert all(len(line) <= sum(widths) + 4 for line in lines)
    assert all(line == line.rstrip() for line in lines)


def test_columns_of_numbers_stand_right_and_words_left() -> None:
    lines = table([["bm25", "1,000", "5%"], ["random", "7", "12.5%"]], ["method", "rows", "share"]).splitlines()
    assert lines == [
        "method   rows  share",
        "------  -----  -----",
        "bm25    1,000     5%",
        "random      7  12.5%",
    ]
    assert table([["1", "x"], ["-", "y"]], ["n", "w"]).splitlines()[2] == "1  x", "one word makes a column of words"


def test_a_table_of_nothing_is_its_header() -> None:
    assert table([], ["a", "bc"]) == "a  bc\n-  --"


def test_a_ragged_table_is_an_error_not_a_shifted_row() -> None:
    with pytest.raises((ValueError, IndexError)):
        table([["a"]], ["x", "y"])


def test_the_price_of_a_plan_is_the_sum_of_its_steps_and_not_of_the_trainings_beside_it() -> None:
    plan = priced(stage(cpu=2.0), stage(cpu=0.5), train_pick=stage("pick", 100.0), train_full=stage("all", 900.0))
    assert plan.cpu_seconds == 2.5
    assert priced().cpu_seconds == 0
    assert plan.to_dict()["cpu_seconds"] == 2.5


def test_one_step_without_a_price_leaves_the_whole_without_one() -> None:
    plan = priced(stage(cpu=2.0), stage("unknown", None))
    assert plan.cpu_seconds is None
    assert plan.explain().splitlines()[3].split()[-1] == "-"
    assert json.loads(json.dumps(plan.to_dict()))["stages"][1]["cpu_seconds"] is None


def test_a_plan_shows_every_step_with_its_trainings_and_notes() -> None:
    plan = priced(stage(), train_pick=stage("train on the pick"), train_full=stage("train on all"), notes=("cheap",))
    lines = plan.explain().splitlines()
    assert [line.split("  ")[0].strip() for line in lines[2:5]] == ["less", "train on the pick", "train on all"]
    assert lines[2].split()[1:4] == ["1,000", "10", "123,456"]
    assert "2.0 KiB" in lines[2]
    assert lines[-1] == "cheap"
    values = plan.to_dict()
    assert values["train_full"]["name"] == "train on all"
    assert priced(stage()).to_dict()["train_full"] is None


def test_a_replay_says_same_or_not_the_same_with_numbers() -> None:
    same = ReplayResult(Path("r"), True, 1200, True, (), (), 0.0)
    assert "from scratch: the same 1,200 ids" in same.explain()
    other = ReplayResult(Path("r"), False, 10, False, ("a", "b"), ("c",), 0.25)
    text = other.explain()
    assert "from the cache: NOT the same" in text
    assert "2 ids only before, 1 only now" in text
    assert json.loads(json.dumps(other.to_dict())) == {
        "run": "r",
        "from_scratch": False,
        "kept": 10,
        "identical": False,
        "only_before": ["a", "b"],
        "only_now": ["c"],
        "score_difference": 0.25,
    }


@pytest.mark.parametrize(
    ("n", "words"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (2**20, "1.0 MiB"),
        (5 * 2**30, "5.0 GiB"),
        (2**40, "1.0 TiB"),
        (2**52, "4096.0 TiB"),
    ],
)
def test_bytes_are_said_in_binary_units(n: int, words: str) -> None:
    assert CacheReport("on disk", {"gradients": n}).explain().splitlines()[2].endswith(words)


def test_a_cache_report_adds_up() -> None:
    report = CacheReport("freed", {"tokens": 1024, "gradients": 3072})
    assert report.explain().splitlines()[-1].split() == ["in", "all", "4.0", "KiB"]
    assert report.to_dict() == {"what": "freed", "bytes_by_kind": {"tokens": 1024, "gradients": 3072}}
    assert CacheReport("on disk", {}).explain().splitlines()[-1].split()[-2:] == ["0", "B"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "-"),
        (0, "0.0 s"),
        (89.9, "89.9 s"),
        (90, "1.5 min"),
        (5399, "90.0 min"),
        (5400, "1.5 h"),
        (36000, "10.0 h"),
    ],
)
def test_durations_are_said_in_fitting_units(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words
