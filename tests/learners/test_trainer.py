import json

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from tests.learners.tinymodel import tiny_folder

from dataworth.errors import FingerprintMismatch, FormatError, NonsenseRefused, RequestError
from dataworth.learners import trainer
from dataworth.learners.adapter import trainable
from dataworth.learners.causal_lm import CausalLM
from dataworth.learners.checkpoint import read_moments
from dataworth.learners.forward import Forward
from dataworth.learners.render import Encoded
from dataworth.learners.trainer import load_trained, plan_steps, train
from dataworth.recipe import Recipe

pytestmark = pytest.mark.lm
TINY = Recipe(dtype="fp32", batch_size=4, epochs=2, lr=5e-3, lora_r=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.set_num_threads(1)
    return tiny_folder(tmp_path_factory.mktemp("tiny"))


def some_rows(count, seed=0, longest=40):
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        length = int(rng.integers(6, longest))
        supervised = np.arange(length) >= rng.integers(1, length - 2)
        rows.append(Encoded(f"{i:032x}", rng.integers(0, 256, length).astype(np.int32), supervised))
    return rows


def load(folder, recipe=TINY, **options):
    return CausalLM.load(str(folder), recipe=recipe, device="cpu", cache_root=folder / "cache", **options)


def hf_losses(folder, rows, recipe, order, tmp_path):
    """transformers' Trainer on the same rows in the same order."""
    from transformers import Trainer, TrainingArguments

    model = load(folder, recipe).model
    data = [
        {
            "input_ids": rows[i].input_ids.astype(np.int64),
            "labels": np.where(rows[i].supervised, rows[i].input_ids, -100).astype(np.int64),
        }
        for i in order
    ]

    def collate(items):
        width = max(len(x["input_ids"]) for x in items)
        pad = lambda name, fill: torch.tensor(  # noqa: E731
            np.stack([np.pad(x[name], (0, width - len(x[name])), constant_values=fill) for x in items])
        )
        mask = torch.tensor(np.stack([np.arange(width) < len(x["input_ids"]) for x in items]).astype(np.int64))
        return {"input_ids": pad("input_ids", 0), "labels": pad("labels", -100), "attention_mask": mask}

    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        per_device_train_batch_size=recipe.batch_size // 2,
        gradient_accumulation_steps=2,
        num_train_epochs=1,
        learning_rate=recipe.lr,
        lr_scheduler_type=recipe.schedule,
        warmup_steps=recipe.warmup_ratio,
        max_grad_norm=recipe.max_grad_norm,
        weight_decay=recipe.weight_decay,
        train_sampling_strategy="sequential",
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    run = Trainer(model=model, args=arguments, train_dataset=data, data_collator=collate)
    run.train()
    return [x["loss"] for x in run.state.log_history if "loss" in x], [
        x["learning_rate"] for x in run.state.log_history if "loss" in x
    ]


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_loss_curve_is_that_of_transformers_trainer(folder, tmp_path, schedule):
    pytest.importorskip("accelerate")
    recipe = Recipe(dtype="fp32", batch_size=4, epochs=2, lr=5e-3, lora_r=4, schedule=schedule, weight_decay=0.01)
    rows = some_rows(100)
    ours = train(load(folder, recipe), rows, recipe=recipe, out=tmp_path / "ours")
    plan = plan_steps([r.id for r in rows], [1.0] * len(rows), recipe)
    theirs, lr = hf_losses(folder, rows, recipe, [i for step in plan.rows_S for i in step], tmp_path / "hf")
    assert ours.steps == len(theirs) == 50
    assert ours.losses[-1] < ours.losses[0] - 0.1, "the comparison means nothing if nothing is learned"
    assert np.abs(np.array(ours.losses) - theirs).max() < 1e-4
    assert np.allclose(ours.lr, lr, rtol=1e-6)


def test_checkpoints_hold_adapter_and_moments_by_name(folder, tmp_path):
    learner = load(folder)
    done = train(learner, some_rows(10), out=tmp_path / "run", recipe=TINY)
    assert done.checkpoint_steps == (3, 6) and [f.name for f in done.folders] == ["checkpoint-3", "checkpoint-6"]
    assert done.mean_lr == pytest.approx([np.mean(done.lr[:3]), np.mean(done.lr[3:])])
    moments = read_moments(done.folders[-1])
    assert moments.step == 6 and set(moments.exp_avg) == set(moments.exp_avg_sq) == set(trainable(learner.model))
    assert all(t.dtype == torch.float32 for t in moments.exp_avg.values())
    again = load(folder, adapter=done.folders[-1])
    for name, p in trainable(learner.model).items():
        assert torch.equal(p, trainable(again.model)[name])
    assert not [p for p in (tmp_path / "run").rglob("*") if p.suffix in (".bin", ".pt", ".pkl")]
    assert load_trained(tmp_path / "run") == done


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_a_killed_training_resumes_to_the_same_bytes(folder, tmp_path, monkeypatch, dropout):
    recipe = Recipe(dtype="fp32", batch_size=4, epochs=2, lr=5e-3, lora_r=4, lora_dropout=dropout)
    rows = some_rows(20)
    whole = train(load(folder, recipe), rows, recipe=recipe, out=tmp_path / "whole")
    monkeypatch.setattr(trainer, "STATE_SECONDS", -1.0)

    def kill(done, total):
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(load(folder, recipe), rows, recipe=recipe, out=tmp_path / "cut", progress=kill)
    steps = []
    resumed = train(
        load(folder, recipe), rows, recipe=recipe, out=tmp_path / "cut", progress=lambda d, t: steps.append(d)
    )
    assert steps == [8, 9, 10] and resumed.sha256 == whole.sha256 and resumed.losses == whole.losses
    for path in sorted(p for p in (tmp_path / "whole").rglob("*") if p.is_file()):
        assert path.read_bytes() == (tmp_path / "cut" / path.relative_to(tmp_path / "whole")).read_bytes(), path.name


def test_a_finished_training_is_not_repeated_and_another_one_is_refused(folder, tmp_path):
    rows = some_rows(8)
    done = train(load(folder), rows, out=tmp_path)
    steps = []
    assert train(load(folder), rows, out=tmp_path, progress=lambda d, t: steps.append(d)) == done and not steps
    with pytest.raises(FingerprintMismatch, match="rows"):
        train(load(folder), rows[:-1], out=tmp_path)


def test_weight_two_is_the_row_twice_and_weight_zero_is_no_row(folder, tmp_path):
    rows = some_rows(3)
    recipe = Recipe(dtype="fp32", batch_size=4, epochs=6, lr=5e-3, lora_r=4)
    twin = Encoded("f" * 32, rows[0].input_ids, rows[0].supervised)
    doubled = train(load(folder, recipe), rows, weights=[2, 1, 1], out=tmp_path / "w", recipe=recipe)
    listed = train(load(folder, recipe), [*rows, twin], out=tmp_path / "l", recipe=recipe)
    assert doubled.steps == listed.steps == 6
    assert np.allclose(doubled.losses, listed.losses, atol=1e-5)
    plain = train(load(folder, recipe), rows, out=tmp_path / "p", recipe=recipe)
    assert not np.allclose(doubled.losses, plain.losses, atol=1e-4)
    zero = train(load(folder, recipe), [*rows, twin], weights=[1, 1, 1, 0], out=tmp_path / "z", recipe=recipe)
    assert zero.losses == plain.losses


def test_weights_count_slots():
    ids = [f"{i:032x}" for i in range(9)]
    recipe = Recipe(batch_size=4, epochs=1)
    assert [len(s) for s in plan_steps(ids, [1] * 9, recipe).rows_S] == [4, 4, 1]
    assert [len(s) for s in plan_steps(ids, [2] * 9, recipe).rows_S] == [2, 2, 2, 2, 1]
    assert [len(s) for s in plan_steps(ids, [0.5] * 9, recipe).rows_S] == [8, 1]


def test_neither_row_order_nor_micro_batches_change_the_result(folder, tmp_path, monkeypatch):
    rows = some_rows(20)
    base = train(load(folder), rows, out=tmp_path / "a")
    assert train(load(folder), rows[::-1], out=tmp_path / "b").losses == base.losses
    monkeypatch.setitem(trainer.MICRO_TOKENS, "cpu", 64)
    assert np.allclose(train(load(folder), rows, out=tmp_path / "c").losses, base.losses, atol=1e-5)


def test_the_seed_decides_adapter_and_order(folder, tmp_path):
    one, two = load(folder), load(folder)
    for name, p in trainable(one.model).items():
        assert torch.equal(p, trainable(two.model)[name])
    other = load(folder, Recipe(dtype="fp32", lora_r=4, seed=1))
    assert any(not torch.equal(p, trainable(other.model)[n]) for n, p in trainable(one.model).items() if "lora_A" in n)
    ids = [f"{i:032x}" for i in range(30)]
    assert plan_steps(ids, [1] * 30, TINY) != plan_steps(ids, [1] * 30, Recipe(batch_size=4, seed=1))


def test_upper_layers_over_cached_states_equal_the_same_adapters_trained_whole(folder, tmp_path, monkeypatch):
    recipe = Recipe(dtype="fp32", batch_size=4, epochs=2, lr=5e-3, lora_r=4, lora_layers=1)
    rows = some_rows(16)
    learner = load(folder, recipe)
    assert all(".layers.1." in n for n in trainable(learner.model))
    cached = train(learner, rows, out=tmp_path / "cached")
    monkeypatch.setattr(trainer, "open_forward", lambda learner, *_: Forward(learner.model))
    whole = train(load(folder, recipe), rows, out=tmp_path / "whole")
    assert np.allclose(cached.losses, whole.losses, atol=1e-5) and not (tmp_path / "cached" / "states").exists()


def test_rows_without_loss_and_impossible_weights_are_refused(folder, tmp_path):
    learner = load(folder)
    dull = Encoded("0" * 32, np.zeros(4, np.int32), np.zeros(4, bool), reason="every assistant turn is empty")
    with pytest.raises(RequestError, match="every assistant turn is empty"):
        train(learner, [*some_rows(2), dull], out=tmp_path)
    with pytest.raises(RequestError, match="no rows"):
        train(learner, [], out=tmp_path)
    for weights in ([1.0], [1.0, -1.0], [np.nan, 1.0], [0.0, 0.0]):
        with pytest.raises(RequestError, match="weights"):
            train(learner, some_rows(2), weights=weights, out=tmp_path)
    with pytest.raises(RequestError, match="checkpoints"):
        train(learner, some_rows(2), checkpoints=99, out=tmp_path)
    with pytest.raises(RequestError, match="no adapter"):
        train(load(folder, lora=False), some_rows(2), out=tmp_path)
    with pytest.raises(RequestError, match="no finished training"):
        load_trained(tmp_path)


def test_a_loss_that_is_not_finite_stops_the_training(folder, tmp_path):
    learner = load(folder)
    with torch.no_grad():
        next(iter(trainable(learner.model).values())).fill_(float("nan"))
    with pytest.raises(NonsenseRefused, match="loss is nan at step 1"):
        train(learner, some_rows(4), out=tmp_path)


def test_the_record_is_plain_json(folder, tmp_path):
    train(load(folder), some_rows(8), out=tmp_path, checkpoints=2)
    record = json.loads((tmp_path / "trained.json").read_text())
    assert record["checkpoint_steps"] == [2, 4] and record["tokens"] > 0
    for name in ("trained.json", "job.json"):
        (tmp_path / name).write_text('{"checkpoints": [')
        with pytest.raises(FormatError, match=f"{name} is damaged.*delete the folder"):
            train(load(folder), some_rows(8), out=tmp_path, checkpoints=2)


@pytest.mark.parametrize("tokens", [1, 130, 500, 2000])
def test_a_token_budget_goes_over_the_rows_as_often_as_it_takes(tokens: int) -> None:
    ids, lengths = [f"{n:032x}" for n in range(30)], [3 + n % 7 for n in range(30)]
    whole = plan_steps(ids, [1] * 30, Recipe(batch_size=4, epochs=50))
    plan = plan_steps(ids, [1] * 30, Recipe(batch_size=4, epochs=1), lengths, tokens)
    assert plan.rows_S == whole.rows_S[: len(plan.rows_S)], "the same rows in the same order as by epochs"
    done = [sum(lengths[i] for i in step) for step in plan.rows_S]
    assert len(plan.rows_S) == 1 or abs(sum(done) - tokens) <= 4 * 9 / 2, "to half a step"
    assert plan.epoch_ends[-1] == len(plan.rows_S)
    assert list(plan.epoch_ends) == sorted(set(plan.epoch_ends))


def test_weights_count_in_a_token_budget() -> None:
    ids, lengths = [f"{n:032x}" for n in range(8)], [10] * 8
    once = plan_steps(ids, [1] * 8, Recipe(batch_size=2), lengths, 160)
    twice = plan_steps(ids, [2] * 8, Recipe(batch_size=2), lengths, 160)
    assert sum(map(len, once.rows_S)) == 2 * sum(map(len, twice.rows_S)) == 16
