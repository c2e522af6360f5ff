"""`diagnose` from request to answer, on a tiny language model and on vectors with a class."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dataworth as dw
from dataworth.diagnosing.measured import Measured
from dataworth.errors import RequestError
from dataworth.laws.curve import Curve, fit_curve
from dataworth.proof.budget import TrialRates

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.lm


def vectors(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label_N = rng.integers(0, 3, n)
    return (1.2 * np.eye(3, 6)[label_N] + rng.normal(size=(n, 6))).astype(np.float32), label_N


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("diagnose")
    x, y = vectors(400, 0)
    np.savez(folder / "pool.npz", x=x, y=y)
    goal_x, goal_y = vectors(600, 1)
    np.savez(folder / "goal.npz", x=goal_x, y=goal_y)
    (folder / "recipe.yaml").write_text("epochs: 4\nbatch_size: 8\nlr: 0.05\ndtype: fp32\nwidth: 4\n")
    return folder


@pytest.fixture(scope="module", autouse=True)
def fitted_once() -> Iterator[None]:
    """Most of these runs measure the same curve, or give back one; what is fitted to equal numbers is fitted once."""
    known: dict[bytes, Curve] = {}

    def once(sizes_K: Any, loss_CK: Any) -> Curve:
        key = b"|".join(np.asarray(part, dtype=np.float64).tobytes() for part in (sizes_K, loss_CK))
        if key not in known:
            known[key] = fit_curve(sizes_K, loss_CK)
        return known[key]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("dataworth.diagnosing.diagnosis.fit_curve", once)
        patched.setattr("dataworth.laws.regime.fit_curve", once)
        yield


@pytest.fixture
def cache(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DATAWORTH_CACHE", str(place / "cache"))
    return place / "cache"


def fields(place: Path, run: Path, **more: Any) -> dict[str, Any]:
    return {
        "pool": str(place / "pool.npz"),
        "model": "mlp",
        "recipe": str(place / "recipe.yaml"),
        "run": str(run),
        "workers": 0,
        "device": "cpu",
        **more,
    }


@pytest.fixture
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates that don't take a minute to measure."""
    from dataworth import api

    rates = TrialRates(1e-4, 1e-6, opening=0.01)
    monkeypatch.setattr(api, "training_rates", lambda session: rates)


@pytest.mark.usefixtures("cache", "steady")
class TestOnClasses:
    def test_an_answer_with_its_evidence_that_comes_back_from_the_run(self, place, tmp_path):
        asked = fields(place, tmp_path / "run", goal=str(place / "goal.npz"), capacity=True, target=0.5)
        found = dw.diagnose(**asked)
        m = found.measured
        assert m.sizes == (25, 50, 100, 200, 400) and m.chains == 3 and m.pool_rows == 400
        assert (
            m.unit == "error rate (1 - accuracy)"
            and m.loss_unit == "nats/row"
            and m.on == "the goal's steer and tune rows"
        )
        assert np.isfinite(m.grid("test")).all() and np.isfinite(m.grid("train")).all()
        assert 0 < m.grid("test").min() and m.grid("test").max() < 1 and m.untouched > 0.4  # of three classes
        assert not np.isfinite(m.grid("fresh")[:, -1]).any()  # all of the pool is trained on there
        assert m.larger == "width 8" and np.isfinite(m.grid("test", larger=True)[:, [2, 4]]).all()
        assert m.dimension is not None and 3 < m.dimension["at"][0][1] < 9 and "a rough prior" in found.explain()
        assert set(m.chosen) == set(m.sizes) and all(m.chosen[n] in m.tried[n] for n in m.sizes)
        assert found.fill is not None and found.fill.bits == pytest.approx(400 * np.log2(3))
        page = dw.view(tmp_path / "run", html=tmp_path / "page.html")
        assert page.html is not None and "fitted law" in page.html.read_text() and found.headline() in page.explain()
        again = dw.diagnose(**asked)
        assert again.explain() == found.explain() and again.measured == m
        told = json.loads(json.dumps(found.to_dict(), default=str))
        assert Measured.from_dict(told["measured"]) == m
        assert told["headline"] == found.explain().splitlines()[0]
        assert {*told["checks"], *(f["code"] for f in told["findings"])} == {f"DW10{n}" for n in range(1, 7)}

    def test_the_first_chain_tries_more_epochs_until_they_do_worse(self, place, tmp_path):
        m = dw.diagnose(**fields(place, tmp_path / "run", goal=str(place / "goal.npz"))).measured
        for n, loss_of in m.stop_losses().items():
            tried = sorted(loss_of)
            assert tried == list(m.tried[n]) and {2, 4} <= set(tried)
            assert {p.epochs for p in m.points if p.rows == n and p.chain > 0 and not p.larger} == {m.chosen[n]}
            best = min(tried, key=lambda e: (loss_of[e], e))
            assert m.chosen[n] == best
            longest = max(e for e in (2 * 2**k for k in range(9)) if e <= 4 * m.sizes[-1] / n or e == 4)
            ended = all(loss_of[e] >= min((loss_of[d] for d in tried if d < e), default=np.inf) for e in tried[-2:])
            assert tried[-1] == longest or ended
        others = {(p.rows, p.epochs) for p in m.points if p.chain > 0 and not p.larger}
        assert {(n, m.chosen[n]) for n in m.sizes} <= others

    def test_without_a_goal_pool_rows_judge_and_are_never_trained_on(self, place, tmp_path):
        m = dw.diagnose(**fields(place, tmp_path / "run", larger="none")).measured
        assert m.on == "pool rows held out" and m.unit == "nats/row" and m.larger == ""
        assert m.pool_rows == 320 and m.sizes[-1] == 320

    def test_a_copy_of_a_trained_row_isn_t_fresh(self, place, tmp_path):
        x, y = vectors(60, 0)
        np.savez(tmp_path / "copies.npz", x=np.tile(x, (5, 1)), y=np.tile(y, 5))
        asked = {**fields(place, tmp_path / "run", goal=str(place / "goal.npz"), larger="none", sizes="8,16,30,300")}
        m = dw.diagnose(**{**asked, "pool": str(tmp_path / "copies.npz")}).measured
        assert not np.isfinite(m.grid("fresh")[:, -1]).any() and np.isfinite(m.grid("train")[:, -1]).all()
        assert any("240 probed" in n or "60 pool rows are probed" in n for n in m.notes)

    def test_a_proof_finds_the_pilots_trainings(self, place, tmp_path, cache):
        asked = fields(place, tmp_path / "run", goal=str(place / "goal.npz"), larger="none")
        m = dw.diagnose(**asked).measured
        before = {p.name for p in (cache / "trainings").iterdir()}
        x, y = vectors(400, 0)
        np.savez(tmp_path / "mine.npz", x=x[:100], y=y[:100])
        shared = {k: v for k, v in asked.items() if k not in ("larger", "run")}
        dw.prove(str(tmp_path / "mine.npz"), **shared, seeds=3, lr_search=False, against="random", curve=False)
        new = {p.name for p in (cache / "trainings").iterdir()} - before
        expected = 3 + 3 + (0 if m.chosen[100] == 4 else 2)  # the subset's own; three random draws of six were pilots
        assert len(new) == expected

    def test_a_training_log_is_read_for_delayed_generalisation(self, place, tmp_path):
        steps = range(0, 4000, 50)
        lines = [
            {"step": s, "train_accuracy": min(1.0, s / 300), "val_accuracy": 0.1 if s < 2500 else 0.95} for s in steps
        ]
        log = tmp_path / "log.jsonl"
        log.write_text("".join(json.dumps(line) + "\n" for line in [*lines, {"loss": 1.0}]))
        asked = fields(place, tmp_path / "run", goal=str(place / "goal.npz"), larger="none", training_log=str(log))
        found = dw.diagnose(**asked)
        assert "delayed generalisation: shown: training is fitted at step 300" in found.explain()
        assert found.measured.delayed["verdict"] == "shown"

    def test_a_budget_that_pays_for_less_gets_smaller_pilots(self, place, tmp_path, monkeypatch):
        rates = TrialRates(1e-2, 1e-6, opening=0.01)
        monkeypatch.setattr("dataworth.api.training_rates", lambda session: rates)
        found = dw.diagnose(**fields(place, tmp_path / "run", budget="280s", larger="none"))
        assert found.measured.sizes == (8, 16, 31, 62, 125)
        assert "pilots up to" in found.what_would_tell()

    def test_a_budget_that_pays_for_fewer_epochs_of_the_sizes_asked_for_says_so(self, place, tmp_path, monkeypatch):
        monkeypatch.setattr("dataworth.api.training_rates", lambda session: TrialRates(1e-2, 1e-6, opening=0.01))
        asked = {"larger": "none", "sizes": "8,16,31,62,125"}
        whole = dw.diagnose(**fields(place, tmp_path / "all", budget="1d", **asked)).measured
        cut = dw.diagnose(**fields(place, tmp_path / "cut", budget="70s", **asked)).measured
        most = [max(max(e) for e in found.tried.values()) for found in (cut, whole)]
        assert most[0] < most[1]
        assert any(n.startswith(f"--budget 70s pays for at most {most[0]} epochs of a size, not") for n in cut.notes)
        assert not any("--budget" in n for n in whole.notes)
        short = dw.diagnose(**fields(place, tmp_path / "short", budget="20s", **asked)).measured
        assert any("doesn't pay for these sizes: they take at most" in n for n in short.notes)


@pytest.mark.usefixtures("cache", "steady")
@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"model": None}, "diagnose needs the learner"),
        ({"budget": "soon"}, "budget 'soon'"),
        ({"budget": "0.001s"}, "expected at least that"),
        ({"sizes": "1,2"}, "at least 4 different"),
        ({"sizes": "10,20,40,4000"}, "rows can be drawn"),
        ({"chains": 1}, "expected at least 2"),
        ({"larger": "widht=8"}, "makes no larger learner"),
        ({"larger": "width=2"}, "expected lora_r or width above the recipe's"),
        ({"larger": "lr=1.0"}, "makes no larger learner"),
        ({"target": -1.0}, "expected a loss above 0"),
        ({"capacity": True, "reference": "gpt"}, "expected compressor"),
        ({"reference": "compressor"}, "beside --capacity"),
        ({"target": float("inf")}, "expected a loss above 0"),
        ({"sizes": "²,3,4,5"}, "at least 4 different"),
        ({"training_log": "nowhere.csv"}, "isn't there"),
    ],
)
def test_a_wrong_request_is_one_line(place, tmp_path, more, said):
    with pytest.raises(RequestError, match=said):
        dw.diagnose(**fields(place, tmp_path / "run", **more))


@pytest.mark.usefixtures("cache")
def test_a_dry_run_says_the_design_and_refuses_a_larger_learner_that_is_none(place, tmp_path):
    from dataworth import api, config

    def planned(**more: Any) -> Any:
        asked = fields(place, tmp_path / "run", **more)
        return api.plan_diagnosis(config.DiagnoseRequest(**{**asked, "pool": (asked["pool"],)}))

    assert planned().sizes == (25, 50, 100, 200, 400) and planned().larger == (100, 400)
    assert planned(larger="none").larger == () and planned(larger="width=9").larger == (100, 400)
    for larger, said in (
        ("widht=8", "makes no larger learner"),
        ("lora_r=16", "makes no larger learner"),  # of an adapter, not of a net
        ("width=2", "above the recipe's"),
        ("width=8.5", "width"),
        ("width=x", "a number"),
    ):
        with pytest.raises(RequestError, match=said):
            planned(larger=larger)
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("cache", "steady")
def test_a_tiny_language_model(tmp_path):
    pytest.importorskip("peft")
    from tests.learners.tinymodel import tiny_folder
    from tests.test_prove import rows, write

    tiny_folder(tmp_path / "model", layers=1)
    write(tmp_path / "pool.jsonl", [*rows(60, True, 1), *rows(60, False, 2)])
    write(tmp_path / "goal.jsonl", rows(200, True, 3))
    (tmp_path / "recipe.yaml").write_text("lr: 2.0e-2\nbatch_size: 8\nepochs: 1\nlora_r: 2\n")
    found = dw.diagnose(
        str(tmp_path / "pool.jsonl"),
        model=str(tmp_path / "model"),
        goal=str(tmp_path / "goal.jsonl"),
        recipe=str(tmp_path / "recipe.yaml"),
        run=str(tmp_path / "run"),
        sizes="8,16,32,64",
        chains=2,
        capacity=True,
        workers=0,
        device="cpu",
    )
    m = found.measured
    assert m.near == 0 and "DW106" in found.checks[1]
    overlapping = replace(found, measured=replace(m, near=3, kept_near=True))
    assert "DW106" in {f.code for f in overlapping.checks[0]}
    assert m.larger == "lora_r 8, lora_alpha 64.0" and m.unit == "nats/token"
    assert m.parameters == 4 * 2 * (32 + 32) - 2 * 2 * 16  # k and v are half as wide
    assert found.fill is not None and found.fill.adapter and found.fill.bits > 0
    assert "with F1 0." in found.explain() and m.dimension is None
    assert "4 sizes over a factor of 8 can't check a law" in found.explain()
    smaller = replace(found, measured=replace(m, points=()))
    assert smaller.headline().startswith("Cannot tell what more rows would do, because")
