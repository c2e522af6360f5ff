"""Prices: rows to do as a run would find them, tokens as the tokenizer counts them, no torch where none is needed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import dataworth as dw
from dataworth import calibration, config, pricing
from dataworth.demo_pool import write_demo
from dataworth.results import PlanResult, Stage
from dataworth.session import SILENT, open_session
from dataworth.store.cache import Cache

EXAMPLE = Path(dw.__file__).parent / "data" / "example"
COST = {"reading": 1.0, "read": 0.0, "gate": 0.0, "tokenise": 0.001, "training": 0.1, "states": 0.0, "gradients": 0.05}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    return write_demo(tmp_path / "demo", 0, 40)


@pytest.fixture
def model(tmp_path: Path) -> str:
    pytest.importorskip("torch")
    from tests.learners.tinymodel import tiny_folder

    return str(tiny_folder(tmp_path / "tiny"))


def request(files: dict[str, Path], model: str, **more: Any) -> dict[str, Any]:
    shared = {"goal": str(files["goal"]), "model": model, "device": "cpu", "workers": 0, "method": "less"}
    return {**shared, "option": ("warmup=0.2", "width=512"), "keep": "25%", **more}


def stages(plan: PlanResult) -> dict[str, Stage]:
    return {s.name: s for s in plan.stages}


def test_a_text_plan_counts_rows_and_says_how_it_guessed_tokens() -> None:
    plan = dw.plan(str(EXAMPLE / "pool.jsonl"), goal=str(EXAMPLE / "goal.jsonl"), keep=20, calibrate=False)
    assert plan.cpu_seconds is None
    assert {"gate", "score bm25", "pick and write"} <= set(stages(plan))
    assert plan.train_full is not None
    assert plan.train_pick is not None
    assert (plan.train_full.rows, plan.train_pick.rows) == (200, 20)
    assert plan.notes[0].startswith("forecast of the pick") and "characters / 4" in plan.notes[1]
    texts = [json.loads(line) for line in (EXAMPLE / "pool.jsonl").read_text().splitlines()]
    characters = sum(len(m["content"]) for row in texts for m in row.get("messages", [])) or None
    if characters:
        assert abs(plan.train_full.tokens - characters / 4) < 0.1 * characters / 4
    assert "train on everything" in plan.explain()
    json.dumps(plan.to_dict())


def test_calibrating_a_text_method_prices_it_but_not_a_training_nobody_named() -> None:
    plan = dw.plan(str(EXAMPLE / "pool.jsonl"), goal=str(EXAMPLE / "goal.jsonl"), keep=20)
    assert plan.cpu_seconds is not None
    assert plan.cpu_seconds > 0
    assert plan.train_full is not None
    assert plan.train_full.cpu_seconds is None
    assert not [n for n in plan.notes if "selecting costs" in n]


@pytest.mark.parametrize("model", [None, "anything"])
def test_a_plan_without_calibration_imports_no_torch(model: str | None) -> None:
    block = "sys.modules['torch'] = sys.modules['transformers'] = None" if model else "pass"
    code = f"""
import sys
{block}
import dataworth as dw
plan = dw.plan({str(EXAMPLE / "pool.jsonl")!r}, goal={str(EXAMPLE / "goal.jsonl")!r}, model={model!r}, calibrate=False)
print(len(plan.stages), sys.modules.get("torch"), *plan.notes)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    count, torch, *_ = done.stdout.split()
    assert torch == "None"
    assert int(count) >= (8 if model else 4)
    assert ("torch isn't installed" in done.stdout) == (model is not None)


@pytest.mark.lm
def test_what_is_cached_costs_nothing_and_new_rows_cost_only_themselves(files: dict[str, Path], model: str) -> None:
    asked = request(files, model)
    before = dw.plan(str(files["pool"]), calibrate=False, **asked)
    todo = stages(before)
    assert todo["gradients, checkpoint 2 of 2"].rows == 40
    assert todo["goal gradients, checkpoint 1 of 2"].rows == 32
    assert (todo["warm-up training"].rows, todo["warm-up training"].passes) == (20, 2)
    dw.select(str(files["pool"]), **asked)

    sizes = Cache().size()
    for kind, names in (("tokens", ["tokens", "tokens (goal)"]), ("warmup", ["warm-up training"])):
        assert 0.5 < sum(todo[n].disk_bytes for n in names) / sizes[kind] < 1.5, kind
    predicted = sum(s.disk_bytes for n, s in todo.items() if "gradients" in n)
    assert 0.5 < predicted / sizes["gradients"] < 1.5

    after = stages(dw.plan(str(files["pool"]), calibrate=False, **asked))
    for name, stage in after.items():
        if any(word in name for word in ("tokens", "gradients", "warm-up")):
            assert (stage.rows, stage.disk_bytes) == (0, 0), name
            assert stage.cached == todo[name].rows, name
    assert after["model loads in workers"].passes == 0

    grown = files["pool"].with_name("grown.jsonl")
    more = write_demo(files["pool"].parent / "more", 1, 20)["pool"].read_bytes()
    grown.write_bytes(files["pool"].read_bytes() + more)
    appended = stages(dw.plan(str(grown), calibrate=False, **asked))
    assert (appended["gradients, checkpoint 1 of 2"].rows, appended["gradients, checkpoint 1 of 2"].cached) == (20, 40)
    assert appended["goal gradients, checkpoint 1 of 2"].rows == 0
    assert appended["tokens"].rows == 20


@pytest.mark.lm
def test_tokens_are_those_of_the_tokenizer_cached_or_not(files: dict[str, Path], model: str) -> None:
    asked = request(files, model, method="loss", option=())
    first = dw.plan(str(files["pool"]), calibrate=False, **asked)
    dw.select(str(files["pool"]), **asked)
    second = dw.plan(str(files["pool"]), calibrate=False, **asked)
    assert first.train_full is not None
    assert second.train_full is not None
    assert first.train_full.tokens == second.train_full.tokens > 0
    assert stages(first)["losses"].tokens == first.train_full.tokens
    assert stages(second)["losses"].tokens == 0


@pytest.mark.lm
def test_a_bigger_pool_than_the_sample_is_scaled_and_says_so(
    files: dict[str, Path], model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = request(files, model)
    exact = dw.plan(str(files["pool"]), calibrate=False, **asked)
    monkeypatch.setattr(calibration, "SAMPLE_ROWS", 20)
    scaled = dw.plan(str(files["pool"]), calibrate=False, **asked)
    assert exact.train_full is not None
    assert scaled.train_full is not None
    assert abs(scaled.train_full.tokens / exact.train_full.tokens - 1) < 0.1
    assert any("20 of 40 rows" in n for n in scaled.notes)


@pytest.mark.lm
def test_a_calibrated_plan_prices_every_stage_and_compares(
    files: dict[str, Path], model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "SECONDS", 0.05)
    monkeypatch.setattr(calibration, "STAGE_SECONDS", 0.02)
    plan = dw.plan(str(files["pool"]), **request(files, model, workers=2))
    assert plan.cpu_seconds is not None
    assert plan.cpu_seconds > 0
    found, per_unit = stages(plan), plan.calibration["seconds_per_unit"]
    probe = found["gradients, checkpoint 1 of 2"]
    assert probe.cpu_seconds == pytest.approx(probe.tokens * per_unit["gradients"])
    assert plan.train_full is not None
    work = plan.train_full.tokens * plan.train_full.passes * per_unit["training"]
    assert plan.train_full.cpu_seconds == pytest.approx(work + per_unit["load training"] + per_unit["start"])
    assert "times training on everything" in plan.notes[-1]
    assert (probe.at_once, found["gate"].at_once, found["model loads in workers"].at_once) == (2, 1, 2)
    assert found["warm-up training"].at_once == plan.calibration["threads"]["training"]
    assert plan.wall_seconds is not None and plan.cpu_seconds / 2 < plan.wall_seconds < plan.cpu_seconds
    assert "of wall time: CPU time of shared steps over up to" in plan.notes[-2]
    assert json.loads(json.dumps(plan.to_dict()))["wall_seconds"] == plan.wall_seconds
    assert not Cache().size().get("warmup")


@pytest.mark.lm
def test_trials_over_cached_states_are_timed_apart_from_making_the_states(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataworth import api
    from dataworth.learners import upper

    files = write_demo(tmp_path / "few", 0, 20)
    monkeypatch.setattr(calibration, "SECONDS", 0.05)
    monkeypatch.setattr(calibration, "STAGE_SECONDS", 0.02)
    made: list[Any] = []
    lower = upper.Split.lower

    def slow(self: upper.Split, ids: Any) -> Any:
        made.append(ids)
        time.sleep(0.2)
        return lower(self, ids)

    monkeypatch.setattr(upper.Split, "lower", slow)
    monkeypatch.setattr(time, "process_time", time.perf_counter)  # which counts the sleep
    found = {}
    for layers in (0, 1):
        recipe = tmp_path / f"recipe-{layers}.yaml"
        recipe.write_text(f"lora_layers: {layers}\nepochs: 3\nlora_targets: [q_proj, v_proj]\n")
        asked = config.PlanRequest(**{"pool": (str(files["pool"]),), **request(files, model, recipe=str(recipe))})
        with open_session(asked, None, SILENT) as session:
            found[layers] = api.training_rates(session)
        assert bool(made) is bool(layers)
    assert found[0].states == 0 and found[1].states > 0
    rows = len(made)
    mean = sum(len(ids[0]) for ids in made) / rows
    assert 0.1 < found[1].states * mean < 0.4  # of a row
    # Neither rate has the time of making states in it.
    assert 0 < found[1].training < 0.5 * found[1].states and 0 < found[1].judging < 0.5 * found[1].states
    assert found[1].opening > 0.2  # opening checks the cut once


@pytest.mark.lm
@pytest.mark.parametrize(("method", "loads"), [("less", 8), ("rds", 4), ("loss", 2)])
def test_every_worker_loads_the_model_once_a_run_and_starts_once(
    files: dict[str, Path], model: str, method: str, loads: int
) -> None:
    # less: both checkpoints of pool and goal; rds: embeddings of pool and goal; loss: losses of the pool.
    asked = request(files, model, method=method, option=(), workers=2)
    found = stages(dw.plan(str(files["pool"]), calibrate=False, **asked))
    assert found["model loads in workers"].passes == loads
    assert found["process starts"].passes == 3


def test_a_price_is_a_sum_of_products_and_unknown_units_stay_unknown() -> None:
    stage = Stage("x", 1, 0, 100, 2, 0, None)
    item = pricing.Item(stage, (("training", 200), ("load training", 0)))
    assert item.priced(COST).cpu_seconds == pytest.approx(20.0)
    assert item.priced(None).cpu_seconds is None
    assert pricing.Item(stage, (("embeddings", 5),)).priced(COST).cpu_seconds is None
    assert pricing.Item(stage, (("embeddings", 0),)).priced(COST).cpu_seconds == 0


def test_the_comparison_says_plainly_when_selection_cannot_pay() -> None:
    def plan(select: float, pick: float, full: float) -> PlanResult:
        of = Stage("x", 1, 0, 1, 1, 0, select)
        return PlanResult((of,), replace(of, cpu_seconds=pick), replace(of, cpu_seconds=full), {}, {})

    (pays,) = pricing.comparison(plan(100, 50, 1000))
    assert "0.15 times training on everything" in pays
    assert "can't save" not in pays
    (wasted,) = pricing.comparison(plan(960, 50, 1000))
    assert "can't save time here" in wasted
    unknown = plan(1, 1, 1)
    assert pricing.comparison(replace(unknown, train_full=None)) == ()
    (uncalibrated,) = pricing.comparison(replace(unknown, stages=(replace(unknown.stages[0], cpu_seconds=None),)))
    assert "dataworth plan" in uncalibrated


def test_wall_time_is_shared_steps_over_those_who_share_them_and_the_rest_one_after_another() -> None:
    alone, shared = Stage("a", 1, 0, 1, 1, 0, 10.0), Stage("b", 1, 0, 1, 1, 0, 90.0, 3)
    plan = PlanResult((alone, shared), None, None, {}, {})
    assert (plan.cpu_seconds, plan.wall_seconds) == (100.0, 40.0)
    assert pricing.wall_time(plan) == (
        "selecting takes about 40.0 s of wall time: CPU time of shared steps over up to 3 workers or threads, the rest "
        "one after another",
    )
    assert "10.0 s of wall time: all steps one" in pricing.wall_time(replace(plan, stages=(alone,)))[0]
    unknown = replace(plan, stages=(alone, replace(shared, cpu_seconds=None)))
    assert unknown.wall_seconds is None and pricing.wall_time(unknown) == ()


def test_training_is_shared_by_its_threads_on_a_processor_only() -> None:
    item = pricing.Item(Stage("warm-up", 1, 0, 1, 1, 0, None), (("training", 5),))
    assert item.shared({"device": "cpu", "threads": {"training": 4}}).stage.at_once == 4
    assert item.shared({"device": "cuda:0", "threads": {"training": 4}}).stage.at_once == 1
    assert item.shared({}).stage.at_once == 1
    other = pricing.Item(item.stage, (("gate", 5),))
    assert other.shared({"device": "cpu", "threads": {"training": 4}}) == other


def test_adapter_parameters_follow_the_shapes_of_a_decoder() -> None:
    config = {"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2}
    recipe = {"lora_r": 8, "lora_targets": ("q_proj", "k_proj"), "lora_layers": 0}
    # q: 32 -> 32, k: 32 -> 16, rank 8, two layers.
    assert pricing.adapter_parameters(config, recipe) == 2 * 8 * (64 + 48)
    assert pricing.adapter_parameters(config, {**recipe, "lora_layers": 1}) == 8 * (64 + 48)


def test_the_reproduction_compares_with_what_the_processes_used() -> None:
    from reproductions.plan_check import compare

    said = {"cpu_seconds": 80.0, "stages": [], "calibration": {"seconds": 61.0}, "notes": []}
    plan = {"said": said, "wall_seconds": 70.0, "load": (0, 0, 0)}
    real = {"cpu_seconds": 100.0, "wall_seconds": 60.0, "load": (0, 0, 0), "stages": {}}
    assert compare("demo", 300, plan, real)["verdict"] == "held"
    assert compare("demo", 300, plan, real)["off"] == pytest.approx(-0.2)
    assert compare("demo", 300, plan, {**real, "cpu_seconds": 120.0})["verdict"] == "missed"
    assert "not reproduced" in compare("demo", 60, plan, real)["verdict"]
