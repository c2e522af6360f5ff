"""`--policy auto`: two pilots choose the end of a score."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dataworth as dw
from dataworth.errors import RequestError
from dataworth.piloting import _standard_error

pytest.importorskip("torch")
pytestmark = pytest.mark.lm


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows with a `wrong` column: 1 where the label is wrong, whatever the method takes it for."""
    folder, rng = tmp_path_factory.mktemp("pilots"), np.random.default_rng(0)

    def made(n: int, wrong: float) -> dict[str, np.ndarray]:
        right_N, bad_N = rng.integers(0, 2, n), rng.random(n) < wrong
        x_ND = (2 * np.eye(2, 5)[right_N] + rng.normal(size=(n, 5))).astype(np.float32)
        return {"x": x_ND, "y": np.where(bad_N, 1 - right_N, right_N), "wrong": bad_N + rng.random(n) / 10}

    np.savez(folder / "pool.npz", **made(240, 0.5))
    np.savez(folder / "goal.npz", **made(160, 0.0))
    dw.goal(folder / "goal.npz", folder / "goal")
    (folder / "recipe.yaml").write_text("epochs: 5\nbatch_size: 16\nlr: 0.1\ndtype: fp32\nwidth: 4\n")
    return folder


def asked(place: Path, **more: Any) -> dict[str, Any]:
    return {
        "goal": str(place / "goal" / "goal.yaml"),
        "model": "linear",
        "recipe": str(place / "recipe.yaml"),
        "method": "column:wrong",
        "policy": "auto",
        "keep": "40%",
        "workers": 0,
        "device": "cpu",
        **more,
    }


def policy_note(found: Any) -> str:
    return next(n for n in found.record["notes"] if n.startswith("--policy auto"))


def test_the_end_on_which_a_pilot_does_better_is_kept_whichever_end_the_score_would_keep(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATAWORTH_CACHE", str(tmp_path / "cache"))
    pool = str(place / "pool.npz")
    found = dw.select(pool, run=str(tmp_path / "auto"), **asked(place))
    note = policy_note(found)
    assert "kept the other end of the score" in note and "accuracy" in note
    assert "within its noise" not in note, "right labels against wrong ones"
    fixed = dw.select(pool, run=str(tmp_path / "low"), **asked(place, policy=None, pick="bottom_k"))
    assert set(found.ids) == set(fixed.ids)
    turned = dw.select(pool, run=str(tmp_path / "turned"), **asked(place, option={"direction": "low"}))
    assert "kept the score's usual end" in policy_note(turned) and set(turned.ids) == set(found.ids)
    monkeypatch.setattr("dataworth.learners.classifier_trainer._Run", None)
    again = dw.select(pool, run=str(tmp_path / "again"), **asked(place))
    assert again.ids == found.ids, "pilots are cached trials"


def test_without_a_goal_rows_held_out_of_the_pool_judge_and_may_still_be_picked(place: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    label_N = rng.integers(0, 2, 300)
    x_ND = (3 * np.eye(2, 5)[label_N] + rng.normal(size=(300, 5))).astype(np.float32)
    junk_N = np.arange(300) < 120  # a noise direction far from everything: nothing is learned from these
    x_ND[junk_N] = 20 * rng.normal(size=(120, 5)).astype(np.float32)
    np.savez(tmp_path / "pool.npz", x=x_ND, y=label_N, junk=junk_N + rng.random(300) / 10)
    found = dw.select(
        str(tmp_path / "pool.npz"),
        run=str(tmp_path / "run"),
        **asked(place, goal=None, method="column:junk", keep="35%"),
    )
    assert "over 30 rows" in policy_note(found)
    assert len(found.ids) == 105 and "kept the other end" in policy_note(found)
    reasons = set(found.record["selection"]["reasons"])
    assert "held-out" not in reasons, "the pick itself is made of all rows"


def test_a_language_model_is_piloted_too(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    from tests.learners.tinymodel import tiny_folder
    from tests.test_prove import rows, write

    tiny_folder(tmp_path / "model", layers=1)
    good, bad = rows(40, True, 1), rows(40, False, 2)
    listed = [{**row, "quality": n + 0.01 * k} for n, part in ((1, good), (0, bad)) for k, row in enumerate(part)]
    write(tmp_path / "pool.jsonl", listed)
    write(tmp_path / "goal.jsonl", rows(90, True, 3))
    dw.goal(tmp_path / "goal.jsonl", tmp_path / "goal")
    (tmp_path / "recipe.yaml").write_text("lr: 2.0e-2\nbatch_size: 8\nepochs: 2\nlora_r: 2\n")
    more = {"model": str(tmp_path / "model"), "recipe": str(tmp_path / "recipe.yaml"), "method": "column:quality"}
    found = dw.select(
        str(tmp_path / "pool.jsonl"),
        run=str(tmp_path / "run"),
        **asked(tmp_path, goal=str(tmp_path / "goal" / "goal.yaml"), **more),
    )
    note = policy_note(found)
    usual, other = (float(v) for v in re.findall(r"([\d.]+) on the (?:usual end|other)", note))
    assert "nats/token" in note and usual != other
    assert ("kept the score's usual end" in note) == (usual < other), "a loss is better where it is lower"


def test_the_standard_error_is_that_of_the_weighted_difference_row_by_row() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 50))
    weight, order = rng.uniform(1, 5, 50), rng.permutation(50).astype(np.int32)
    place = np.arange(50, dtype=np.int32)
    found = _standard_error([(place, one, weight)], [(order, other[order], weight[order])])
    share = weight / weight.sum()
    difference = one - other
    assert found == pytest.approx(np.sqrt((share**2 * (difference - (share * difference).sum()) ** 2).sum()))
    two = _standard_error([(place, one, weight)] * 2, [(place, other, weight)] * 2)
    assert two == pytest.approx(found / np.sqrt(2))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"policy": "hard"}, r"policy='hard': expected auto"),
        ({"pick": "random"}, r"pick that reads no score"),
        ({"model": None}, r"--policy auto trains pilots: expected --model"),
        ({"goal": "steer"}, r"without tune rows: expected `tune:`"),
    ],
)
def test_policies_that_cannot_be_followed(place: Path, tmp_path: Path, more: dict[str, Any], message: str) -> None:
    if more.get("goal") == "steer":
        more = {"goal": str(place / "goal" / "steer.npz")}
    with pytest.raises(RequestError, match=message):
        dw.select(str(place / "pool.npz"), run=str(tmp_path / "run"), **asked(place, **more))


def test_too_few_rows_to_hold_out_and_ends_that_are_the_same_rows(place: Path, tmp_path: Path) -> None:
    data = np.load(place / "pool.npz")
    np.savez(tmp_path / "small.npz", **{k: v[:100] for k, v in data.items()})
    with pytest.raises(RequestError, match=r"holds out 10% of the 100 rows"):
        dw.select(str(tmp_path / "small.npz"), run=str(tmp_path / "run"), **asked(place, goal=None))
    whole = dw.select(str(place / "pool.npz"), run=str(tmp_path / "whole"), **asked(place, keep="100%"))
    assert "both ends are the same rows" in policy_note(whole)


def test_the_price_has_the_pilots(place: Path) -> None:
    fields = {k: v for k, v in asked(place).items() if k != "workers"}
    plan = dw.plan(str(place / "pool.npz"), calibrate=False, workers=2, **fields)
    pilots = next(s for s in plan.stages if s.name == "pilots of --policy auto")
    assert pilots.passes == 10 and pilots.at_once == 2


def test_reasons_and_examples_are_those_of_the_end_that_was_kept(place: Path, tmp_path: Path) -> None:
    found = dw.select(str(place / "pool.npz"), run=str(tmp_path / "run"), **asked(place))
    texts = {r["text"] for r in found.record["selection"]["reasons"].values()}
    assert all(t.endswith("(from the other end of the score, by --policy auto)") for t in texts)
    best = found.record["samples"]["kept"][0]["why"]
    assert "rank 1 of 240" in best


def test_a_replay_knows_the_tune_rows(place: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(place / "goal", tmp_path / "goal")
    goal = str(tmp_path / "goal" / "goal.yaml")
    found = dw.select(str(place / "pool.npz"), run=str(tmp_path / "run"), **asked(place, goal=goal))
    assert dw.replay(found.run).identical
    tune = np.load(tmp_path / "goal" / "tune.npz")
    np.savez(tmp_path / "goal" / "tune.npz", **{k: v[::2] for k, v in tune.items()})
    with pytest.raises(RequestError, match="tune rows"):
        dw.replay(found.run)


def test_subtasks_of_two_units_are_no_number(place: Path, tmp_path: Path) -> None:
    text = (place / "goal" / "goal.yaml").read_text()
    entry = text.split("subtasks:\n")[1]
    both = text + entry.replace("name: goal", "name: again").replace("accuracy", "loss")
    (place / "goal" / "two.yaml").write_text(both)
    with pytest.raises(RequestError, match="expected one unit"):
        dw.select(
            str(place / "pool.npz"), run=str(tmp_path / "run"), **asked(place, goal=str(place / "goal" / "two.yaml"))
        )


def test_copies_of_rows_that_judge_are_trained_on_by_neither_pilot(place: Path, tmp_path: Path, monkeypatch) -> None:
    from dataworth import piloting
    from dataworth.proving import held_out

    data = np.load(place / "pool.npz")
    order = np.concatenate([np.arange(240), np.repeat(np.arange(100), 3)])
    np.savez(tmp_path / "copies.npz", **{k: v[order] for k, v in data.items()})
    seen = {}
    made = piloting._trainings

    def spy(session, pilots):
        seen["ids"] = {i for picked in pilots.values() for i in picked.ids}
        return made(session, pilots)

    drawn = held_out.held_out_rows

    def held(*given):
        found = drawn(*given)
        seen["judged"], seen["copies"] = list(found.rows.ids), found.untrained
        return found

    monkeypatch.setattr(piloting, "_trainings", spy)
    monkeypatch.setattr(held_out, "held_out_rows", held)
    dw.select(str(tmp_path / "copies.npz"), run=str(tmp_path / "run"), **asked(place, goal=None, keep="45%"))
    assert len(seen["judged"]) == 24 and not any("#" in i for i in seen["judged"])
    assert len(seen["copies"]) > 24
    assert not {i.partition("#")[0] for i in seen["ids"]} & set(seen["judged"])


def test_unjudged_tune_rows_are_told_and_not_counted(place: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(place / "goal", tmp_path / "goal")
    tune = dict(np.load(tmp_path / "goal" / "tune.npz"))
    tune["y"] = np.where(np.arange(len(tune["y"])) % 2 == 0, 9, tune["y"])
    np.savez(tmp_path / "goal" / "tune.npz", **tune)
    goal = str(tmp_path / "goal" / "goal.yaml")
    found = dw.select(str(place / "pool.npz"), run=str(tmp_path / "run"), **asked(place, goal=goal))
    judged = len(tune["y"]) // 2
    assert f"over {judged} rows" in policy_note(found)
    assert any(f"{judged} of {len(tune['y'])} judge rows could be judged" in n for n in found.record["notes"])


def test_pilots_that_would_be_one_are_refused(place: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="both pilots would take all"):
        dw.select(str(place / "pool.npz"), run=str(tmp_path / "run"), **asked(place, goal=None, keep="95%"))
