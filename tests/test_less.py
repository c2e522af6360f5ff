"""`select --method less` end to end on a tiny Llama: artefacts, appending, goals, guards, replay, workers."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dataworth as dw
from dataworth import session
from dataworth.errors import NonsenseRefused, RequestError

pytestmark = pytest.mark.lm

WORDS = "amber birch cedar delta ember fjord grove haven inlet jetty knoll lagoon".split()


def rows(count: int, seed: int) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    out = []
    for _ in range(count):
        words = rng.sample(WORDS, rng.randint(2, 5))
        answer = " ".join(sorted(words) if rng.random() < 0.5 else words)
        out.append({"prompt": "Sort: " + " ".join(words), "completion": answer})
    return out


def write(path: Path, found: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in found))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("peft")
    from tests.learners.tinymodel import tiny_folder

    return tiny_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture
def case(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    devices = session.worker_devices  # a replay isn't told its workers: it works in this process, too
    monkeypatch.setattr(session, "worker_devices", lambda device, workers: devices(device, workers or 0))
    write(tmp_path / "pool.jsonl", rows(60, 1))
    write(tmp_path / "goal.jsonl", rows(6, 2))
    (tmp_path / "recipe.yaml").write_text("dtype: fp32\nbatch_size: 2\nlr: 0.001\n")
    return {
        "pool": "pool.jsonl",
        "goal": "goal.jsonl",
        "model": str(model),
        "recipe": "recipe.yaml",
        "option": ("warmup=8", "width=512"),
        "keep": 10,
        "workers": 0,
        "device": "cpu",
    }


def probed(result: dw.SelectResult) -> dict[str, int]:
    costs = json.loads((result.run / "record.json").read_text())["timings"]["costs"]
    return {stage: int(cost["rows"]) for stage, cost in costs.items()}


def test_less_picks_and_replays_and_records_its_guards(case: dict[str, Any]) -> None:
    result = dw.select(**case, out="picked.jsonl")
    assert result.method == "less"
    assert len(result.ids) == 10
    assert len(result.record["warmup"]["ids"]) == 8
    assert {"contamination-gate", "empty-masks", "template-drift", "constant-score"} <= {
        g["guard"] for g in result.record["guards"]
    }
    assert result.record["learner"]["weights_sha256"]
    tokens, overlap = (result.record["beside"][k] for k in ("tokens", "overlap"))
    assert 0 < tokens["kept"] < tokens["pool"]
    assert set(overlap) == {"bm25", "length", "random"} and 0 <= min(overlap.values()) <= max(overlap.values()) <= 1
    line = f"{tokens['kept']:,} of the pool's {tokens['pool']:,} tokens ("
    assert result.beside.startswith(line) and result.beside in result.explain()
    assert f"Kept: {line}" in Path("picked.jsonl.dataworth/card.md").read_text()
    assert dw.select(**case).beside == result.beside
    assert dw.replay(result.run).identical
    again = dw.replay(result.run, from_scratch=True)
    assert again.identical
    assert again.score_difference == 0


def test_new_rows_and_new_goals_cost_only_themselves(case: dict[str, Any]) -> None:
    first = dw.select(**case)
    assert probed(first)["gradients, checkpoint 1 of 2"] == 60
    write(Path("grown.jsonl"), rows(60, 1) + rows(5, 3))
    grown = dw.select(**{**case, "pool": "grown.jsonl"})
    assert probed(grown)["gradients, checkpoint 1 of 2"] == 5
    assert "warm-up" not in probed(grown)
    write(Path("other.jsonl"), rows(4, 4))
    other = dw.select(**{**case, "goal": "other.jsonl"})
    assert "gradients, checkpoint 1 of 2" not in probed(other)
    assert probed(other)["goal gradients, checkpoint 1 of 2"] == 4


def test_appended_rows_get_the_scores_they_get_from_scratch(
    case: dict[str, Any], monkeypatch: Any, tmp_path: Path
) -> None:
    dw.select(**case)
    write(Path("grown.jsonl"), rows(60, 1) + rows(5, 3))
    grown = dw.select(**{**case, "pool": "grown.jsonl"})
    again = dw.replay(grown.run, from_scratch=True)
    assert again.score_difference < 1e-5, "the same warm-up rows, everything else from scratch"


@pytest.mark.parametrize("method", ["less", "rds", "loss"])
def test_another_mapping_of_the_same_rows_has_numbers_of_its_own(
    case: dict[str, Any], method: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write(Path("pool.jsonl"), [{**r, "why": r["prompt"][::-1]} for r in rows(60, 1)])
    case = {**case, "method": method, "option": case["option"] if method == "less" else ()}
    dw.select(**case)
    other = dw.select(**case, map=["completion=why+completion", "prompt=prompt"])
    monkeypatch.setenv("DATAWORTH_CACHE", str(tmp_path / "fresh"))
    assert dw.replay(other.run).score_difference < 1e-6


def test_subtasks_may_map_the_same_rows_differently(case: dict[str, Any]) -> None:
    write(Path("goal.jsonl"), [{**r, "why": r["prompt"][::-1]} for r in rows(6, 2)])
    why = "{name: why, steer: goal.jsonl, map: {prompt: prompt, completion: why}}"
    parts = ["{name: plain, steer: goal.jsonl}", why]
    turned = []
    for order in (parts, parts[::-1]):
        Path("goal.yaml").write_text(f"subtasks: [{', '.join(order)}]")
        turned.append(dw.select(**{**case, "goal": "goal.yaml"}).scored.values_N)
    assert np.allclose(turned[0], turned[1], atol=1e-6)
    plain = dw.select(**case).scored.values_N
    assert (turned[0] >= plain - 1e-6).all(), "the best of two subtasks is no worse than one of them"
    assert not np.allclose(turned[0], plain)


def test_a_pool_grown_by_half_says_so_and_rewarm_draws_again(case: dict[str, Any]) -> None:
    dw.select(**case)
    write(Path("grown.jsonl"), rows(60, 1) + rows(40, 5))
    grown = dw.select(**{**case, "pool": "grown.jsonl"})
    assert any("--rewarm" in note for note in grown.record["notes"])
    fresh = dw.select(**{**case, "pool": "grown.jsonl"}, rewarm=True)
    assert fresh.record["warmup"]["base"] == 100


@pytest.mark.slow
def test_workers_change_no_score(case: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    here = dw.select(**case)
    for workers in (1, 2):
        monkeypatch.setenv("DATAWORTH_CACHE", str(tmp_path / f"cache{workers}"))
        there = dw.select(**{**case, "workers": workers}, run=f"run{workers}")
        assert np.array_equal(there.scored.values_N, here.scored.values_N)


def test_row_order_changes_no_score(case: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    here = dw.select(**case)
    write(Path("turned.jsonl"), rows(60, 1)[::-1])
    monkeypatch.setenv("DATAWORTH_CACHE", str(tmp_path / "other"))
    there = dw.select(**{**case, "pool": "turned.jsonl"})
    assert np.array_equal(there.scored.values_N, here.scored.values_N[::-1])


@pytest.mark.parametrize(
    "option",
    [
        ("optimizer=sgd", "bias_correction=false"),
        ("optimizer=adam_no_momentum",),
        ("eps_mode=inside", "bias_correction=false"),
        ("kind=onesided", "k=4"),
        ("variant=centroid", "reduce=zmax"),
        ("format=int4",),
    ],
)
def test_every_form_of_less_selects(case: dict[str, Any], option: tuple[str, ...]) -> None:
    result = dw.select(**{**case, "option": (*case["option"], *option)})
    assert len(result.ids) == 10


@pytest.mark.parametrize("method", ["loss", "rds"])
def test_the_other_model_scores_select(case: dict[str, Any], method: str) -> None:
    assert len(dw.select(**{**case, "option": ()}, method=method).ids) == 10


def test_a_token_budget_is_kept(case: dict[str, Any]) -> None:
    result = dw.select(**{**case, "keep": "300tok", "option": ()}, method="rds")
    assert 0 < len(result.ids) < 60


@pytest.mark.parametrize("pick", ["top_k", "random"])
def test_a_row_without_tokens_is_not_free_under_a_token_budget(case: dict[str, Any], pick: str) -> None:
    write(Path("pool.jsonl"), [*rows(30, 1), {"prompt": "Sort: amber birch", "completion": "half \ud800"}])
    result = dw.select(**{**case, "keep": "100ktok", "option": ()}, method="bm25", pick=pick)
    assert len(result.ids) == 30
    assert result.selection.counts()["no-tokens"] == 1


def test_rows_without_an_answer_are_unscored_with_the_reason(case: dict[str, Any]) -> None:
    write(Path("pool.jsonl"), [*rows(30, 1), {"prompt": "Sort: nothing", "completion": ""}])
    result = dw.select(**case)
    assert list(result.scored.unscored.values()) == ["its answer is empty"]
    assert result.selection.counts()["unscored"] == 1


def test_a_pool_without_any_answer_is_refused(case: dict[str, Any]) -> None:
    write(Path("pool.jsonl"), [{"prompt": f"Sort: {i}", "completion": ""} for i in range(20)])
    with pytest.raises(NonsenseRefused, match="--map"):
        dw.select(**case)


def test_a_portable_run_replays_without_the_cache(case: dict[str, Any], monkeypatch: Any, tmp_path: Path) -> None:
    result = dw.select(**case, portable=True)
    monkeypatch.setenv("DATAWORTH_CACHE", str(tmp_path / "empty"))
    found = dw.replay(result.run)
    assert found.identical
    assert not (tmp_path / "empty" / "gradients").exists()


def test_lora_features_without_a_warm_up_are_refused(case: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match="onesided"):
        dw.select(**{**case, "option": ("warmup=0",)})
    assert len(dw.select(**{**case, "option": ("warmup=0", "kind=onesided", "width=512")}).ids) == 10
