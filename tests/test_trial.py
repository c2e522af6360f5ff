"""One trial: trained on one subset, judged on other rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.made_pools import held_pool, numbered

from dataworth.errors import RequestError
from dataworth.recipe import Recipe
from dataworth.trial import ResponseLoss, response_loss, train_on

pytestmark = pytest.mark.lm

RECIPE = Recipe(dtype="fp32", batch_size=2, epochs=2, lr=5e-3, lora_r=4, max_length=96)
TRAIN = list(held_pool(numbered(6)).examples())
JUDGE = list(held_pool(numbered(3, 30)).examples())
EMPTY = list(held_pool([{"prompt": "nothing", "completion": ""}]).examples())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("peft")
    from tests.learners.tinymodel import tiny_folder

    return str(tiny_folder(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def adapter(model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_on(model, RECIPE, TRAIN, tmp_path_factory.mktemp("trained"))


def test_the_loss_of_several_rows_is_per_token_not_per_row() -> None:
    loss = ResponseLoss(np.array([2.0, 30.0]), np.array([1, 9]))
    assert loss.per_token == 3.2


def test_the_untouched_model_is_judged_as_transformers_judges_it(model: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from dataworth.learners.causal_lm import describe_learner

    found = response_loss(model, RECIPE, None, JUDGE)
    bare = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    renderer = describe_learner(model, RECIPE, device="cpu").renderer
    for n, example in enumerate(JUDGE):
        row = renderer.encode(example)
        ids = torch.tensor(row.input_ids, dtype=torch.long)[None]
        labels = torch.where(torch.tensor(row.supervised)[None], ids, -100)
        with torch.no_grad():
            mean = bare(input_ids=ids, labels=labels).loss.item()
        assert found.targets_Q[n] == row.targets
        assert found.sum_Q[n] == pytest.approx(mean * row.targets, rel=1e-4)


def test_rows_are_judged_apart_and_in_their_order(model: str) -> None:
    whole = response_loss(model, RECIPE, None, JUDGE)
    turned = response_loss(model, RECIPE, None, JUDGE[::-1])
    alone = response_loss(model, RECIPE, None, JUDGE[1:2])
    assert turned.sum_Q == pytest.approx(whole.sum_Q[::-1], rel=1e-5)
    assert alone.sum_Q[0] == pytest.approx(whole.sum_Q[1], rel=1e-5)


def test_training_lowers_the_loss_of_its_own_rows(model: str, adapter: Path) -> None:
    before = response_loss(model, RECIPE, None, TRAIN).per_token
    after = response_loss(model, RECIPE, adapter, TRAIN).per_token
    assert after < before - 0.01


def test_the_same_trial_again_goes_on_from_what_is_there_and_is_the_same(model: str, adapter: Path) -> None:
    stamp = {p: p.stat().st_mtime_ns for p in adapter.iterdir()}
    assert train_on(model, RECIPE, TRAIN, adapter.parent) == adapter
    assert {p: p.stat().st_mtime_ns for p in adapter.iterdir()} == stamp


def test_progress_counts_the_steps_of_all_epochs(model: str, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    train_on(model, RECIPE, TRAIN, tmp_path / "out", progress=lambda done, total: told.append((done, total)))
    assert told == [(n, 6) for n in range(1, 7)]


def test_a_row_of_weight_nothing_is_as_if_it_were_not_there(model: str, tmp_path: Path) -> None:
    without = train_on(model, RECIPE, TRAIN[:4], tmp_path / "a")
    weighed = train_on(model, RECIPE, TRAIN, tmp_path / "b", weights=[1, 1, 1, 1, 0, 0])
    losses = [response_loss(model, RECIPE, a, JUDGE).sum_Q for a in (without, weighed)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_a_row_without_an_answer_is_refused_by_its_id_before_any_training(model: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=f"row {EMPTY[0].id} can't be trained on: .*; leave it out"):
        train_on(model, RECIPE, [*TRAIN, *EMPTY], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(RequestError, match=f"row {EMPTY[0].id} can't be judged: .*; leave it out"):
        response_loss(model, RECIPE, None, [*JUDGE, *EMPTY])


def test_no_rows_at_all_are_refused(model: str, tmp_path: Path) -> None:
    rows: list[Any] = []
    with pytest.raises(RequestError):
        train_on(model, RECIPE, rows, tmp_path / "out")
