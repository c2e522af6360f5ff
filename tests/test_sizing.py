"""`--keep auto`: the smallest pick as good as everything within a margin, or everything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dataworth as dw
from dataworth.errors import NonsenseRefused, RequestError
from dataworth.formats import ORIGIN, open_goal

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.lm


def vectors(n: int, seed: int, apart: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label_N = rng.integers(0, 3, n)
    return (apart * np.eye(3, 6)[label_N] + rng.normal(size=(n, 6))).astype(np.float32), label_N


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sizing")
    for name, n, seed in (("pool", 320, 0), ("goal", 600, 1)):
        x, y = vectors(n, seed, 2.5)
        np.savez(folder / f"{name}.npz", x=x, y=y)
    (folder / "recipe.yaml").write_text("epochs: 8\nbatch_size: 8\nlr: 0.05\ndtype: fp32\nwidth: 4\n")
    dw.goal(str(folder / "goal.npz"), folder / "goal")
    return folder


@pytest.fixture(autouse=True)
def _cache(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATAWORTH_CACHE", str(place / "cache"))


def fields(place: Path, run: Path, **more: Any) -> dict[str, Any]:
    return {
        "pool": str(place / "pool.npz"),
        "goal": str(place / "goal" / "goal.yaml"),
        "model": "mlp",
        "method": "random",
        "keep": "auto",
        "recipe": str(place / "recipe.yaml"),
        "run": str(run),
        "workers": 0,
        "device": "cpu",
        **more,
    }


def test_a_wide_margin_keeps_few_rows_and_says_what_the_next_would_gain(place, tmp_path):
    found = dw.select(**fields(place, tmp_path / "run", margin=0.05))
    assert len(found.selection.ids) == 40
    told = "\n".join(found.selection.notes)
    assert "--keep auto keeps 40 rows (12%)" in told and "the next 40 rows would gain" in told
    assert (
        "by the recipe's epochs and each one's own learning rate (3 trainings each" in told
        and "for 2 times the training" in told
    )
    assert " .. " in next(line for line in told.splitlines() if "(everything)" in line), "sizes have intervals"
    assert [f"{n} picked rows: " in told for n in (160, 80, 40, 20)] == [True] * 4
    assert "as many random rows (gain" in told
    assert "320 (everything)" in told
    assert dw.select(**fields(place, tmp_path / "run", margin=0.05)).selection.ids == found.selection.ids
    assert dw.replay(tmp_path / "run").identical
    seen = set(json.loads((tmp_path / "run" / ORIGIN).read_text())["steer"])
    assert seen == set(open_goal(place / "goal" / "goal.yaml").subtasks[0].tune.ids), (
        "tune rows chose, so none may judge"
    )
    asked = {**fields(place, tmp_path / "forty"), "keep": 40}
    assert set(dw.select(**asked).selection.ids) == set(found.selection.ids)


def test_fewer_rows_are_not_worse_for_the_fewer_steps_that_they_mean_at_one_learning_rate(place, tmp_path, monkeypatch):
    """By a rate that only everything learns at, everything would be kept; each size's own rate tells the truth."""
    (tmp_path / "recipe.yaml").write_text((place / "recipe.yaml").read_text().replace("0.05", "0.0031"))
    asked = {"margin": 0.05, "recipe": str(tmp_path / "recipe.yaml")}
    found = dw.select(**fields(place, tmp_path / "searched", **asked))
    assert len(found.selection.ids) == 40
    shown = next(note for note in found.selection.notes if "(everything)" in note).splitlines()
    rate = {line.split()[0]: float(line.split(" at ")[1].split()[0]) for line in shown[2:]}
    assert rate["40"] > 2 * 0.0031 > rate["320"] / 2, "few rows go on from the end of the search"
    monkeypatch.setattr("dataworth.proving.rates.FACTORS", (1.0,))
    monkeypatch.setattr("dataworth.proving.rates.FURTHER", 0)
    assert len(dw.select(**fields(place, tmp_path / "one-rate", **asked)).selection.ids) > 40


def test_a_size_whose_training_fails_is_left_out_and_everything_s_failure_is_an_error(place, tmp_path, monkeypatch):
    from dataworth.proving.trials import TrialSet

    costs, broken = TrialSet.costs, {}

    def without(self, trainings):
        found = costs(self, trainings)
        lost = [t for t in found if len(t.ids) in broken and t.recipe.seed == 1]
        self.failed |= {t: f"the loss of {len(t.ids)} rows is nan" for t in lost}
        return {t: c for t, c in found.items() if t not in lost}

    monkeypatch.setattr(TrialSet, "costs", without)
    broken = {80}
    found = dw.select(**fields(place, tmp_path / "eighty", margin=0.05))
    assert len(found.selection.ids) == 160, "sizes below one that isn't shown aren't tested"
    told = "\n".join([*found.selection.notes, found.explain()])
    assert (
        "pick 80 rows at a learning rate of 0." in told and "the loss of 80 rows is nan; so they are left out" in told
    )
    assert "a training failed" in told and "train them at a learning rate of 0." in told
    broken = {320, 80}
    with pytest.raises(
        NonsenseRefused, match=r"everything rows at a learning rate of 0\..*: the loss of 320 rows is nan"
    ):
        dw.select(**fields(place, tmp_path / "all", margin=0.05))


def test_a_margin_that_accepts_what_learnt_little_keeps_everything(place, tmp_path):
    found = dw.select(**fields(place, tmp_path / "run", margin=0.4))
    assert len(found.selection.ids) == 320
    assert "more than half of what training on everything gains" in "\n".join(found.selection.notes)


def test_a_margin_that_nothing_meets_keeps_everything(place, tmp_path):
    found = dw.select(**fields(place, tmp_path / "run", margin=1e-6))
    assert len(found.selection.ids) == 320
    told = "\n".join(found.selection.notes)
    assert "--keep auto keeps everything: 160 rows aren't shown to be as good" in told
    assert "the other 160 rows gain " in told and "as much training again" in told
    assert "160 picked rows: " in "\n".join(found.selection.notes)
    assert "80 picked rows: " not in "\n".join(found.selection.notes)  # the first failure ends the tests


def test_without_a_goal_held_out_rows_judge_and_may_be_kept(place, tmp_path):
    found = dw.select(**fields(place, tmp_path / "run", margin=1e-6, goal=None))
    assert len(found.selection.ids) == 320
    assert "288 (everything)" in "\n".join(found.selection.notes)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, "--margin X"),
        ({"margin": -0.1}, "--margin X"),
        ({"margin": 0.1, "model": None}, "expected --model and --margin"),
        ({"margin": 0.1, "keep": "10%"}, "--margin is for --keep auto"),
        ({"margin": 0.1, "policy": "auto"}, "expected one of them"),
    ],
)
def test_a_wrong_request_is_one_line(place, tmp_path, more, said):
    with pytest.raises(RequestError, match=said):
        dw.select(**fields(place, tmp_path / "run", **more))


def test_plan_says_what_the_sizes_cost_besides(place):
    asked = fields(place, Path("unused"), margin=0.1)
    found = dw.plan(**{k: v for k, v in asked.items() if k != "run"}, calibrate=False)
    assert "takes 17 to 29 times training on everything" in found.explain()


def test_sizes_of_a_weighted_pick_are_trained_on_as_many_rows_as_it_keeps(place, tmp_path, monkeypatch):
    """Weights that sum to the pool would make every size cost, and learn, as much as everything."""

    class Asked(Exception):
        def __init__(self, *_: object) -> None: ...

        def run(self, trainings, *_, **__):
            self.masses = {(len(t.ids), round(sum(t.weights), 6)) for t in trainings if t.weights}
            raise self

    monkeypatch.setattr("dataworth.proving.trials.TrialSet", Asked)
    with pytest.raises(Asked) as told:
        dw.select(**fields(place, tmp_path / "run", margin=0.2, pick="lightweight"))
    assert told.value.masses == {(n, n) for n in (160, 80, 40, 20)}
