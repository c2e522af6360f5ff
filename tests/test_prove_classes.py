"""`prove`, `worth` and `plan` over rows with a class: the trials train classifiers."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import dataworth as dw
from dataworth.errors import RequestError

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.lm

RECIPE = "epochs: 12\nbatch_size: 16\nlr: 0.05\ndtype: fp32\nwidth: 4\n"
CLASSES = 3


def made(n: int, seed: int, wrong: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors, labels, and which labels are wrong."""
    rng = np.random.default_rng(seed)
    right_N, bad_N = rng.integers(0, CLASSES, n), rng.random(n) < wrong
    x_ND = (2 * np.eye(CLASSES, 6)[right_N] + rng.normal(size=(n, 6))).astype(np.float32)
    return x_ND, np.where(bad_N, (right_N + 1) % CLASSES, right_N), bad_N


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classes")
    x, y, bad = made(240, 0, 0.4)
    np.savez(folder / "pool.npz", x=x, y=y)
    clean = np.flatnonzero(~bad)[:80]
    np.savez(folder / "mine.npz", x=x[clean], y=y[clean])
    goal_x, goal_y, _ = made(150, 1)
    np.savez(folder / "goal.npz", x=goal_x, y=goal_y)
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


def fields(place: Path, **more: Any) -> dict[str, Any]:
    return {
        "pool": str(place / "pool.npz"),
        "goal": str(place / "goal.npz"),
        "model": "mlp",
        "recipe": str(place / "recipe.yaml"),
        "seeds": 3,
        "workers": 0,
        "device": "cpu",
        "curve": False,
        "lr_search": False,
        **more,
    }


@pytest.fixture
def cache(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One cache for the proofs of this file."""
    monkeypatch.setenv("DATAWORTH_CACHE", str(place / "cache"))
    return place / "cache"


def test_a_clean_subset_beats_random_rows_of_a_noisy_pool_and_costs_are_those_of_plain_training(
    place: Path, cache: Path
) -> None:
    from dataworth.formats import open_pool
    from dataworth.learners.classifier import Classifier, describe_classifier
    from dataworth.learners.classifier_trainer import train_classifier
    from dataworth.learners.labelled import LabelledEncoder
    from dataworth.recipe import ClassifierRecipe

    proof = dw.prove(str(place / "mine.npz"), run=str(place / "run"), **fields(place, seeds=4))
    assert all(v.gain and v.gain.value > 0.05 for v in proof.verdicts), proof.explain()
    assert (proof.unit, proof.higher, proof.length, proof.protocol) == (
        "accuracy",
        "better",
        "rows seen",
        "12 epochs each",
    )
    arms = {a.name: a for a in proof.arms}
    assert arms["mine"].tokens == 12 * 80 and arms["full"].tokens == 12 * 240
    recipe = ClassifierRecipe(epochs=12, batch_size=16, lr=0.05, dtype="fp32", width=4)
    encoder = LabelledEncoder([0, 1, 2], (6,))
    rows = [encoder.encode(e) for e in open_pool(place / "mine.npz").examples()]
    judge = [encoder.encode(e) for e in open_pool(place / "run" / "goal" / "judge.npz").examples()]
    for number, cost in zip(arms["mine"].numbers, arms["mine"].costs, strict=True):
        card = describe_classifier("mlp", replace(recipe, seed=number), encoder, "cpu")
        net = Classifier(card, "cpu")
        train_classifier(net, rows, out=place / f"plain-{number}")
        right = net.logits(judge).argmax(1) == [r.label for r in judge]
        assert cost == -right.mean()
    fresh = Classifier(describe_classifier("mlp", recipe, encoder, "cpu"), "cpu")
    fresh.model.fit(torch.from_numpy(np.stack([r.x for r in judge])), torch.ones(len(judge)))
    assert proof.untouched == -(fresh.logits(judge).argmax(1) == [r.label for r in judge]).mean()
    page = dw.view(proof.run, html=str(place / "page.html"))
    assert "accuracy" in page.explain() and (place / "page.html").stat().st_size > 10_000


@pytest.mark.parametrize("pick", ["craig", "lightweight", "sensitivity"])
def test_a_weighted_pick_is_set_against_as_many_random_rows_as_it_keeps(
    place: Path, cache: Path, tmp_path: Path, pick: str
) -> None:
    """Their weights sum to the pool: taken as they are, 12 rows would be proved against 240 random ones."""
    from dataworth.api import plan_proof
    from dataworth.config import ProveRequest, build

    out = tmp_path / "picked.npz"
    found = dw.select(str(place / "pool.npz"), pick=pick, keep="5%", workers=0, run=str(tmp_path / "of"), out=str(out))
    weights = pq.read_table(f"{out}.dataworth/weights.parquet").column("weight").to_numpy()
    assert np.ptp(weights) > 0 and weights.sum() == pytest.approx(12)
    assert "in weights.parquet: a trainer that ignores them trains another subset" in found.explain()
    card = (tmp_path / "picked.npz.dataworth" / "card.md").read_text()
    assert "in weights.parquet: a trainer that ignores them trains another subset" in card
    for subset in (out, tmp_path / "of"):
        plan = plan_proof(build(ProveRequest, {"subset": [str(subset)], **fields(place)}))
        (mine, *_), (random, *_), (full, *_) = ((rows, tokens) for _, _, rows, tokens, _ in plan.arms)
        assert (mine, random, full) == (12, 12, 240), plan.arms
        assert plan.arms[0][3] == plan.arms[1][3] == 12 * 12
    if pick == "craig":
        proof = dw.prove(str(out), run=str(tmp_path / "run"), **fields(place))
        arms = {a.name: a for a in proof.arms}
        assert {name: a.rows for name, a in arms.items()} == {"picked": 12, "random": 12, "full": 240}
        assert all(a.tokens == pytest.approx(12 * a.rows) for a in arms.values())
        assert {name: len(a.costs) for name, a in arms.items()} == {"picked": 3, "random": 6, "full": 3}


def test_workers_and_order_leave_the_numbers_and_a_second_proof_trains_nothing(
    place: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = fields(place, seeds=3, against="random,full,goal-only,random-tokens,random-source,el2n")
    found = dw.prove(str(place / "mine.npz"), run=str(place / "one"), **asked)
    assert {"goal-only", "el2n", "random, same tokens"} <= {a.name for a in found.arms}
    trained = {p.name for p in (cache / "trainings").iterdir()}
    monkeypatch.setattr("dataworth.learners.classifier_trainer._Run", None)
    again = dw.prove(str(place / "mine.npz"), run=str(place / "two"), **asked)
    assert {p.name for p in (cache / "trainings").iterdir()} == trained
    monkeypatch.setenv("DATAWORTH_CACHE", str(place / "another"))
    monkeypatch.undo()
    monkeypatch.setenv("DATAWORTH_CACHE", str(place / "another"))
    beside = dw.prove(str(place / "mine.npz"), run=str(place / "three"), **{**asked, "workers": 2})
    costs = {a.name: a.costs for a in found.arms}
    assert {a.name: a.costs for a in again.arms} == costs == {a.name: a.costs for a in beside.arms}


def test_a_score_is_an_arm_and_a_method_draws_other_nets_in_every_trial(place: Path, cache: Path) -> None:
    found = dw.worth(
        [str(place / "mine.npz"), "el2n@33%"],
        run=str(place / "worth"),
        **{k: v for k, v in fields(place).items() if k != "curve"},
    )
    verdict = found.verdicts[0]
    assert (verdict.subject, verdict.comparator, verdict.word) == ("mine", "el2n@33%", "better")
    nets = [json.loads((p / "spec.json").read_text()) for p in (cache / "trainings").iterdir()]
    assert {n["learner"]["recipe"]["seed"] for n in nets if "inputs" in n} >= {0, 1}


def test_the_loss_of_classes_and_a_protected_accuracy(place: Path, cache: Path) -> None:
    dw.goal(place / "goal.npz", place / "split")
    text = (place / "split" / "goal.yaml").read_text()
    assert "judge_kind: accuracy" in text
    (place / "split" / "loss.yaml").write_text(text.replace("accuracy", "loss"))
    (place / "split" / "plain.yaml").write_text(text.replace("judge_kind: accuracy", ""))
    usual = dw.prove(
        str(place / "mine.npz"), run=str(place / "usual"), **fields(place, goal=str(place / "split" / "plain.yaml"))
    )
    assert usual.unit == "accuracy"
    x, y, _ = made(60, 9)
    np.savez(place / "digits.npz", x=x, y=y)
    asked = fields(place, goal=str(place / "split" / "loss.yaml"), protect=f"digits={place / 'digits.npz'}:accuracy")
    found = dw.prove(str(place / "mine.npz"), run=str(place / "loss"), **asked)
    assert found.unit == "nats/row" and found.untouched == pytest.approx(np.log(3), abs=0.6)
    assert {k.skill for k in found.protected} == {"digits"}


def test_judge_rows_alone_are_enough_for_a_proof_and_not_for_a_selection_by_the_goal(
    place: Path, cache: Path, tmp_path: Path
) -> None:
    path = tmp_path / "goal.yaml"
    slice_of = f"{place / 'goal.npz'}:0-90"
    path.write_text(json.dumps({"subtasks": [{"name": "test", "judge": slice_of, "judge_kind": "accuracy"}]}))
    told: list[str] = []

    class Heard:
        def __call__(self, stage: str, done: int, total: int) -> None:
            pass

        def say(self, text: str) -> None:
            told.append(text)

    asked = fields(place, goal=str(path))
    found = dw.prove(str(place / "mine.npz"), run=str(tmp_path / "run"), progress=Heard(), **asked)
    assert found.unit == "accuracy" and found.verdicts[0].gain is not None
    assert told[1] == "every trial is judged on 90 rows of test; a gain above 0 is for the first arm named"
    assert any(line.startswith("interim: gain of mine over random ") for line in told)
    with pytest.raises(RequestError, match="goal subtask 'test' has no steer rows"):
        dw.select(asked["pool"], goal=str(path), method="knn_shapley", model="mlp", keep="10%", device="cpu")


def test_rows_of_unknown_classes_and_unreadable_ones_are_told(place: Path, cache: Path) -> None:
    x, y, _ = made(150, 5)
    np.savez(place / "strange.npz", x=x, y=np.where(np.arange(150) % 5 == 0, 7, y))
    found = dw.prove(
        str(place / "mine.npz"), run=str(place / "strange"), **fields(place, goal=str(place / "strange.npz"))
    )
    told = next(n for n in found.notes if "could be judged" in n)
    judged, rows = (int(w) for w in told.split(": ")[1].split(" judge")[0].split(" of "))
    assert 0.7 * rows < judged < 0.9 * rows


def test_images_and_texts_are_proved_too(place: Path, cache: Path, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(3)
    for folder, n in (("pool", 60), ("mine", 20)):
        for k in range(n):
            label = k % 2
            pixels = np.clip(rng.normal(60 + 120 * label, 20, (8, 8, 3)), 0, 255).astype(np.uint8)
            out = io.BytesIO()
            image.fromarray(pixels).save(out, format="png")
            for target in {folder, "pool"}:
                at = tmp_path / target / f"class{label}" / f"{folder}-{k}.png"
                at.parent.mkdir(parents=True, exist_ok=True)
                at.write_bytes(out.getvalue())
    goal = np.clip(rng.normal(60 + 120 * (np.arange(90) % 2)[:, None, None, None], 20, (90, 8, 8, 3)), 0, 255)
    np.savez(tmp_path / "goal.npz", image=goal.astype(np.uint8), label=[f"class{k % 2}" for k in range(90)])
    asked = fields(place, pool=str(tmp_path / "pool"), goal=str(tmp_path / "goal.npz"), model="resnet")
    found = dw.prove(str(tmp_path / "mine"), run=str(tmp_path / "run"), **asked)
    assert {a.name: a.rows for a in found.arms} == {"mine": 20, "random": 20, "full": 80}
    assert all(-1 <= c <= 0 for a in found.arms for c in a.costs)


def test_prices_of_a_selection_and_what_a_budget_pays_for(place: Path, cache: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("dataworth.pricing_nets._SECONDS", 0.05)
    asked = {k: v for k, v in fields(place).items() if k in ("pool", "goal", "model", "recipe", "device")}
    before = {p.name for p in cache.rglob("*")} if cache.exists() else set()
    plan = dw.plan(method="grand", option={"nets": 3}, keep="30%", workers=2, **asked)
    stage = {s.name: s for s in plan.stages}
    assert stage["train 3 nets"].passes == 36 and stage["train 3 nets"].at_once == 2
    assert stage["gradient norms"].cpu_seconds > 0 and plan.train_full.cpu_seconds > plan.train_pick.cpu_seconds > 0
    assert plan.cpu_seconds > stage["train 3 nets"].cpu_seconds > 2 * plan.train_full.cpu_seconds
    assert ({p.name for p in cache.rglob("*")} if cache.exists() else set()) == before
    bare = dw.plan(method="el2n", keep="30%", calibrate=False, **asked)
    assert bare.cpu_seconds is None and "train 1 net" in {s.name for s in bare.stages}
    said: list[str] = []

    class Heard:
        def __call__(self, stage: str, done: int, total: int) -> None: ...

        def say(self, text: str) -> None:
            said.append(text)

    finished = dw.prove(
        str(place / "mine.npz"), run=str(place / "paid"), progress=Heard(), **fields(place, budget="2h", curve=True)
    )
    assert any(a.role == "curve" for a in finished.arms)
    (paid,) = (s for s in said if "pays for 3 seeds of mine, random, full" in s)
    size = next(a.rows for a in finished.arms if a.name == "mine")
    assert f"random {size:,.0f}" not in paid.split(", "), "the random arm isn't told twice"


def test_a_trainer_of_the_users_own_judges_by_its_metric(place: Path, cache: Path, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        "import json, sys, numpy as np\n"
        "data, seed, out = sys.argv[1:]\n"
        "rows = np.load(data)\n"
        "json.dump({'error': 1 / len(rows['y']) + int(seed) / 1000}, open(f'{out}/metrics.json', 'w'))\n"
    )
    command = f"python {script} {{data}} {{seed}} {{out}}"
    asked = {**fields(place, train_command=command, metric="error", model="anything"), "goal": None}
    found = dw.prove(str(place / "mine.npz"), run=str(tmp_path / "run"), **asked)
    arms = {a.name: a.costs for a in found.arms}
    assert arms["mine"] == pytest.approx([1 / 80 + n / 1000 for n in range(3)])
    assert arms["full"] == pytest.approx([1 / 240 + n / 1000 for n in range(3)])
    with pytest.raises(RequestError, match=r"rows with a class: expected --metric NAME"):
        dw.prove(str(place / "mine.npz"), run=str(tmp_path / "bare"), **fields(place, train_command=command))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("choice", r"judge 'choice' for rows with a class: expected accuracy or loss"),
        ("judge.py:mine", r"judge 'judge\.py:mine' for rows with a class|judge_kind is"),
    ],
)
def test_judges_that_a_classifier_has_none_of(
    place: Path, cache: Path, tmp_path: Path, kind: str, message: str
) -> None:
    dw.goal(place / "goal.npz", tmp_path / "goal")
    path = tmp_path / "goal" / "goal.yaml"
    path.write_text(path.read_text().replace("accuracy", kind))
    with pytest.raises(RequestError, match=message):
        dw.prove(str(place / "mine.npz"), run=str(tmp_path / "run"), **fields(place, goal=str(path)))


def test_a_row_of_another_file_is_found_by_its_pixels_and_class(place: Path, tmp_path: Path) -> None:
    """An image has no text, so that all would be one row if words alone were compared."""
    from dataworth.formats import open_pool
    from dataworth.proving.subsets import read_subset

    x, y, bad = made(240, 0, 0.4)
    at = np.flatnonzero(~bad)[:80]
    np.savez(tmp_path / "renamed.npz", vector=x[at], label=y[at], note=np.arange(80))
    pool = open_pool(place / "pool.npz")
    found = read_subset(tmp_path / "renamed.npz", pool)
    assert list(found.ids) == [pool.ids[i] for i in at]


def test_an_untouched_net_is_near_chance_on_pixels(place: Path, cache: Path, tmp_path: Path) -> None:
    """Fails where untrained inputs stay at 0 to 255, so that any training looks like a great improvement."""
    rng = np.random.default_rng(0)
    for name, n in (("pool", 60), ("goal", 90)):
        pixels = rng.integers(0, 256, (n, 8, 8, 3)).astype(np.uint8)
        np.savez(tmp_path / f"{name}.npz", image=pixels, label=np.arange(n) % 3)
    dw.goal(tmp_path / "goal.npz", tmp_path / "goal")
    text = (tmp_path / "goal" / "goal.yaml").read_text()
    (tmp_path / "goal" / "goal.yaml").write_text(text.replace("accuracy", "loss"))
    np.savez(tmp_path / "mine.npz", **{k: v[:20] for k, v in np.load(tmp_path / "pool.npz").items()})
    more = {"pool": str(tmp_path / "pool.npz"), "goal": str(tmp_path / "goal" / "goal.yaml")}
    for model in ("mlp", "linear", "resnet"):
        asked = fields(place, **more, model=model)
        found = dw.prove(str(tmp_path / "mine.npz"), run=str(tmp_path / model), **asked)
        assert found.untouched == pytest.approx(np.log(3), abs=0.5), model


def test_one_row_under_two_labels_is_judged_by_each(place: Path, cache: Path, tmp_path: Path) -> None:
    """Clean and noisy labels of the same rows side by side."""
    x, y, _ = made(120, 8)
    np.savez(tmp_path / "both.npz", x=x, clean=y, noisy=(y + 1) % CLASSES)
    steer, judge = tmp_path / "both.npz:0-40", tmp_path / "both.npz:40-120"
    parts = {"steer": steer.name, "judge": judge.name, "judge_kind": "accuracy"}
    entries = [{"name": name, "map": {"vector": "x", "label": name}, **parts} for name in ("clean", "noisy")]
    (tmp_path / "goal.yaml").write_text(json.dumps({"subtasks": entries}))
    found = dw.prove(
        str(place / "mine.npz"), run=str(tmp_path / "run"), **fields(place, goal=str(tmp_path / "goal.yaml"))
    )
    for arm in found.arms:
        clean, noisy = arm.subtasks["clean"], arm.subtasks["noisy"]
        assert clean + noisy <= 1 and abs(clean - noisy) > 0.05


def test_another_model_of_ones_own_is_another_trial(place: Path, cache: Path, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        "import json, sys, pathlib\n"
        "data, seed, out, model = sys.argv[1:]\n"
        "value = float(pathlib.Path(model).read_text()) + int(seed) / 1000\n"
        "json.dump({'error': value}, open(f'{out}/metrics.json', 'w'))\n"
    )
    command = f"python {script} {{data}} {{seed}} {{out}} {{model}}"
    for value in (1.0, 7.0):
        (tmp_path / "init.txt").write_text(str(value))
        asked = {**fields(place, train_command=command, metric="error", model=str(tmp_path / "init.txt")), "goal": None}
        found = dw.prove(str(place / "mine.npz"), run=str(tmp_path / f"run{value}"), **asked)
        assert next(a.costs for a in found.arms if a.name == "mine")[0] == value


def test_pixels_of_a_pool_that_are_not_all_bytes_make_other_trials(place: Path, cache: Path, tmp_path: Path) -> None:
    """One pixel beyond a byte turns the whole pool to floats, which are scaled in another way."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (60, 4, 4, 3)).astype(np.int16)
    label = (pixels.mean((1, 2, 3)) > 127).astype(int)
    other = pixels.copy()
    other[59, 0, 0, 0] = 300
    np.savez(tmp_path / "goal.npz", image=rng.integers(0, 256, (90, 4, 4, 3)).astype(np.int16), label=np.arange(90) % 2)
    np.savez(tmp_path / "mine.npz", image=pixels[:30], label=label[:30])
    keys = []
    for name, found in (("a", pixels), ("b", other)):
        np.savez(tmp_path / f"{name}.npz", image=found, label=label)
        more = {"pool": str(tmp_path / f"{name}.npz"), "goal": str(tmp_path / "goal.npz")}
        before = {p.name for p in (cache / "trials").iterdir()} if (cache / "trials").exists() else set()
        dw.prove(str(tmp_path / "mine.npz"), run=str(tmp_path / name), **fields(place, **more))
        keys.append({p.name for p in (cache / "trials").iterdir()} - before)
    assert keys[0] and keys[1] and not keys[0] & keys[1]


def test_a_goal_of_another_range_is_refused(place: Path, cache: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (90, 4, 4, 3)).astype(np.uint8)
    np.savez(tmp_path / "pool.npz", image=pixels, label=np.arange(90) % 2)
    np.savez(tmp_path / "goal.npz", image=(pixels[::-1] / 255).astype(np.float32), label=np.arange(90) % 2)
    np.savez(tmp_path / "mine.npz", image=pixels[:30], label=np.arange(30) % 2)
    more = {"pool": str(tmp_path / "pool.npz"), "goal": str(tmp_path / "goal.npz")}
    with pytest.raises(RequestError, match=r"the goal's pixels go to 1, the pool's to 255: expected one range"):
        dw.prove(str(tmp_path / "mine.npz"), run=str(tmp_path / "run"), **fields(place, **more))


def test_a_pool_of_two_kinds_is_refused(place: Path, cache: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    from tests.learners.tinymodel import tiny_folder

    tiny_folder(tmp_path / "model", layers=1)
    lines = [{"vector": [1.0, 2.0], "label": k % 2} for k in range(30)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in lines))
    (tmp_path / "words.jsonl").write_text("".join(json.dumps({"text": f"row {k}"}) + "\n" for k in range(30)))
    (tmp_path / "goal.jsonl").write_text("".join(json.dumps({"text": f"goal {k}"}) + "\n" for k in range(90)))
    mixed = [str(tmp_path / "rows.jsonl"), str(tmp_path / "words.jsonl")]
    with pytest.raises(RequestError, match="mixes rows with a class and others"):
        more = {"goal": str(tmp_path / "goal.jsonl"), "recipe": None, "model": str(tmp_path / "model")}
        dw.prove(mixed[1], run=str(tmp_path / "run"), **fields(place, pool=mixed, **more))


def test_classes_that_the_pool_lacks_are_named_and_a_goal_of_none_of_its_classes_is_refused_before_training(
    place: Path, cache: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    x, y, _ = made(150, 5)
    np.savez(tmp_path / "strange.npz", x=x, y=np.where(np.arange(150) % 5 == 0, 7, y))
    found = dw.prove(
        str(place / "mine.npz"), run=str(tmp_path / "run"), **fields(place, goal=str(tmp_path / "strange.npz"))
    )
    assert any("goal rows are of classes that the pool lacks (7): they count in no number" in n for n in found.notes)
    split = next(n for n in found.notes if "was split" in n)
    assert "rows to steer by" in split and str(tmp_path / "run" / "goal") in split
    np.savez(tmp_path / "words.npz", x=x, y=np.array(["cat", "dog", "cow"])[y])
    monkeypatch.setattr("dataworth.proving.trials.TrialSet", None)
    with pytest.raises(RequestError, match=r"the goal's classes \(.*cat.*\) are none of the pool's \(0, 1, 2\)"):
        dw.prove(str(place / "mine.npz"), run=str(tmp_path / "no"), **fields(place, goal=str(tmp_path / "words.npz")))


def test_a_field_that_a_later_version_gives_rows_leaves_their_key() -> None:
    """Trials of the first day were lost to a new field once: their judge rows had another hash."""
    import dataclasses

    from dataworth.proving.trials import _row_key
    from dataworth.records import Example

    @dataclasses.dataclass(frozen=True)
    class Later(Example):
        licence: str = "unknown"

    told = {"id": "a", "kind": "text", "schema": "text", "text": "words"}
    assert _row_key(Later(**told)) == _row_key(Example(**told))
    assert _row_key(Example(**told)) != _row_key(Example(**{**told, "text": "others"}))
