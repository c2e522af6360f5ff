"""Whole trainings of a few steps: the plan, each step against plain torch, crashes at every step, refusals."""

import json

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.learners.tinymodel import tiny_folder

from dataworth.errors import FingerprintMismatch, NonsenseRefused
from dataworth.learners import trainer
from dataworth.learners.adapter import trainable
from dataworth.learners.causal_lm import CausalLM
from dataworth.learners.checkpoint import read_moments
from dataworth.learners.forward import Forward
from dataworth.learners.render import Encoded
from dataworth.learners.trainer import plan_steps, train
from dataworth.numerics.schedules import learning_rates
from dataworth.recipe import Recipe

pytestmark = pytest.mark.lm


def recipe(**changes):
    return Recipe(**{**dict(dtype="fp32", batch_size=4, epochs=2, lr=5e-3, lora_r=2, max_grad_norm=0.0), **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.set_num_threads(1)
    return tiny_folder(tmp_path_factory.mktemp("tiny"))


def load(folder, how):
    return CausalLM.load(str(folder), recipe=how, device="cpu", cache_root=folder / "cache")


def some_rows(count, seed=0, longest=24):
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        length = int(rng.integers(5, longest))
        rows.append(
            Encoded(f"{i:032x}", rng.integers(0, 256, length).astype(np.int32), np.arange(length) >= length // 2)
        )
    return rows


def same_files(a, b):
    files = lambda x: {str(p.relative_to(x)): p.read_bytes() for p in x.rglob("*") if p.is_file()}  # noqa: E731
    one, two = files(a), files(b)
    assert one.keys() == two.keys()
    assert [name for name in one if one[name] != two[name]] == []


# The plan

WEIGHTS = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 7.0]), min_size=1, max_size=40).filter(any)


@settings(max_examples=150, derandomize=True)
@given(WEIGHTS, st.integers(1, 9), st.integers(1, 3), st.integers(0, 5))
def test_every_epoch_gives_every_row_its_turn_and_every_step_its_slots(weights, slots, epochs, seed):
    ids, w = [f"{i:032x}" for i in range(len(weights))], np.array(weights)
    plan = plan_steps(ids, weights, Recipe(batch_size=slots, epochs=epochs, seed=seed))
    assert len(plan.epoch_ends) == epochs and plan.epoch_ends[-1] == len(plan.rows_S)
    positive = sorted(np.flatnonzero(w > 0).tolist())
    for start, end in zip((0, *plan.epoch_ends), plan.epoch_ends, strict=False):
        steps = plan.rows_S[start:end]
        assert sorted(i for step in steps for i in step) == positive, "a row with weight comes once an epoch"
        assert all(steps), "no step is empty"
        taken = 0.0
        for step in steps:
            first = int(taken // slots)
            for i in step:
                assert taken // slots == first, "a row belongs to the step in which its first slot lies"
                taken += w[i]
        assert taken == w.sum()
        assert all(w[list(s)].sum() - w[s[-1]] < slots for s in steps), "only the last row may reach over"
    if set(weights) <= {0.0, 1.0}:
        assert {len(s) for s in plan.rows_S[: plan.epoch_ends[0] - 1]} <= {slots}


@settings(max_examples=40, derandomize=True)
@given(st.integers(2, 30), st.integers(1, 6), st.randoms(use_true_random=False))
def test_the_plan_follows_ids_and_not_the_order_of_the_list(count, slots, shuffler):
    ids = [f"{i:032x}" for i in range(count)]
    weights = [1.0 + (i % 3) / 2 for i in range(count)]
    order = list(range(count))
    shuffler.shuffle(order)
    how = Recipe(batch_size=slots, epochs=2)
    one = plan_steps(ids, weights, how)
    two = plan_steps([ids[i] for i in order], [weights[i] for i in order], how)
    assert one.rows_S == tuple(tuple(order[i] for i in step) for step in two.rows_S)


def test_epochs_differ_in_order_and_agree_between_recipes_of_other_lengths():
    ids = [f"{i:032x}" for i in range(20)]
    long = plan_steps(ids, [1] * 20, Recipe(batch_size=20, epochs=3))
    assert len(set(long.rows_S)) == 3
    assert plan_steps(ids, [1] * 20, Recipe(batch_size=20, epochs=1)).rows_S == long.rows_S[:1]


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize(("steps", "warmup"), [(1, 0), (1, 1), (7, 0), (10, 3), (33, 1), (12, 12)])
def test_the_learning_rate_of_every_step_is_that_of_transformers(schedule, steps, warmup):
    from transformers import get_scheduler

    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=3e-4)
    theirs = get_scheduler(schedule, optimizer, num_warmup_steps=warmup, num_training_steps=steps)
    expected = []
    for _ in range(steps):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    np.testing.assert_allclose(learning_rates(steps, warmup, 3e-4, schedule), expected, rtol=1e-6, atol=1e-12)


# A training against plain torch, one row at a time through PEFT's own forward


def plainly(folder, rows, weights, how):
    """The documented loss, torch's AdamW and clipping, without batching: losses, gradient norms, model, optimizer."""
    learner = load(folder, how)
    parameters = trainable(learner.model)
    optimizer = torch.optim.AdamW(
        parameters.values(), lr=how.lr, betas=(how.beta1, how.beta2), eps=how.eps, weight_decay=how.weight_decay
    )
    plan = plan_steps([r.id for r in rows], weights, how)
    steps = len(plan.rows_S)
    rates = learning_rates(steps, int(np.ceil(how.warmup_ratio * steps)), how.lr, how.schedule)
    losses, norms = [], []
    for among, rate in zip(plan.rows_S, rates, strict=True):
        optimizer.param_groups[0]["lr"] = float(rate)
        total, mass = 0.0, 0.0
        for i in among:
            ids = torch.tensor(rows[i].input_ids, dtype=torch.long)[None]
            logits = learner.model(input_ids=ids).logits[0, :-1].float()
            loss = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none")
            total = total + weights[i] * loss[torch.tensor(rows[i].supervised[1:])].sum()
            mass += weights[i] * rows[i].targets
        optimizer.zero_grad()
        (total / mass).backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(parameters.values(), how.max_grad_norm or float("inf"))))
        optimizer.step()
        losses.append(float(total / mass))
    return losses, norms, learner, optimizer


CASES = {
    "plain": ([1] * 11, {}),
    "weights": ([0, 0.5, 2, 3, 1, 1, 0.25, 0.75, 0, 1.5, 1], {}),
    "clipping": ([1] * 11, {"max_grad_norm": 0.05}),
    "decay and cosine": ([1] * 11, {"weight_decay": 0.1, "schedule": "cosine", "warmup_ratio": 0.3}),
    "one row a step": ([1, 2] + [1] * 9, {"batch_size": 1, "epochs": 1}),
    "everything in one step": ([1] * 11, {"batch_size": 64}),
    "other Adam": ([1] * 11, {"beta1": 0.8, "beta2": 0.95, "eps": 1e-4}),
}


@pytest.mark.parametrize("name", CASES)
def test_a_training_is_what_plain_torch_does_row_by_row(folder, tmp_path, name):
    weights, changes = CASES[name]
    how, rows = recipe(**changes), some_rows(11)
    losses, norms, theirs, optimizer = plainly(folder, rows, weights, how)
    if how.max_grad_norm:
        assert min(norms) > 2 * how.max_grad_norm, "the comparison means nothing if nothing is clipped"
    learner = load(folder, how)
    done = train(learner, rows, weights=weights, recipe=how, out=tmp_path / "run")
    np.testing.assert_allclose(done.losses, losses, atol=2e-5)
    for key, p in trainable(theirs.model).items():
        assert (trainable(learner.model)[key] - p).abs().max() < 1e-3 * how.lr * done.steps + 1e-5, key
    moments = read_moments(done.folders[-1])
    assert moments.step == done.steps
    for key, p in trainable(theirs.model).items():
        state = optimizer.state[p]
        for ours, wanted in ((moments.exp_avg, state["exp_avg"]), (moments.exp_avg_sq, state["exp_avg_sq"])):
            assert (ours[key] - wanted).norm() <= 2e-3 * wanted.norm() + 1e-9, key


@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_one_common_factor_of_the_weights_changes_the_steps_and_not_the_mean(folder, tmp_path, scale):
    rows, whole = some_rows(4), recipe(batch_size=64)
    base = train(load(folder, whole), rows, weights=[1, 2, 1, 1], recipe=whole, out=tmp_path / "a")
    other = train(
        load(folder, whole), rows, weights=[scale * w for w in (1, 2, 1, 1)], recipe=whole, out=tmp_path / "b"
    )
    np.testing.assert_allclose(other.losses, base.losses, atol=1e-6)


@pytest.mark.parametrize("tokens", [1, 30, 75, 100_000])
def test_micro_batches_of_any_size_add_up_to_the_same_step(folder, tmp_path, monkeypatch, tokens):
    rows, how = some_rows(10), recipe(max_grad_norm=0.1)
    base = train(load(folder, how), rows, recipe=how, out=tmp_path / "a")
    monkeypatch.setitem(trainer.MICRO_TOKENS, "cpu", tokens)
    cut = train(load(folder, how), rows, recipe=how, out=tmp_path / "b")
    np.testing.assert_allclose(cut.losses, base.losses, atol=1e-5)
    assert cut.tokens == base.tokens == 2 * sum(len(r) for r in rows)


def test_bf16_stays_close_to_fp32(folder, tmp_path):
    rows = some_rows(12)
    exact, rough = (
        train(load(folder, recipe(dtype=d)), rows, recipe=recipe(dtype=d), out=tmp_path / d) for d in ("fp32", "bf16")
    )
    np.testing.assert_allclose(rough.losses, exact.losses, rtol=0.02)
    assert rough.sha256 != exact.sha256


def test_upper_layers_train_alone_and_as_the_whole_path_would(folder, tmp_path, monkeypatch):
    how, rows, weights = recipe(lora_layers=1, max_grad_norm=0.2), some_rows(9), [1, 2, 0.5, 1, 1, 0, 1, 1, 3]
    learner = load(folder, how)
    cached = train(learner, rows, weights=weights, recipe=how, out=tmp_path / "cached")
    monkeypatch.setattr(trainer, "open_forward", lambda learner, *_: Forward(learner.model, fast=False))
    whole_learner = load(folder, how)
    whole = train(whole_learner, rows, weights=weights, recipe=how, out=tmp_path / "whole")
    np.testing.assert_allclose(cached.losses, whole.losses, atol=1e-5)
    moved = trainable(learner.model)
    assert set(moved) == set(trainable(whole_learner.model)) and all(".layers.1." in n for n in moved)
    assert not list(tmp_path.rglob("states"))


# Crashes


class Crash(Exception):
    pass


@pytest.mark.parametrize("changes", [{}, {"lora_layers": 1, "lora_dropout": 0.1}], ids=["plain", "upper and dropout"])
def test_a_crash_after_any_step_resumes_to_the_same_bytes(folder, tmp_path, monkeypatch, changes):
    how, rows = recipe(**changes), some_rows(10)
    whole = train(load(folder, how), rows, recipe=how, out=tmp_path / "whole")
    monkeypatch.setattr(trainer, "STATE_SECONDS", -1.0)
    for at in range(1, whole.steps + 1):

        def crash(done, total, at=at):
            if done == at:
                raise Crash

        out = tmp_path / f"cut{at}"
        with pytest.raises(Crash):
            train(load(folder, how), rows, recipe=how, out=out, progress=crash)
        seen = []
        again = train(load(folder, how), rows, recipe=how, out=out, progress=lambda d, t, seen=seen: seen.append(d))
        assert seen == list(range(at + 1, whole.steps + 1)) and again == train(
            load(folder, how), rows, recipe=how, out=out
        )
        assert again.losses == whole.losses and again.sha256 == whole.sha256
        same_files(tmp_path / "whole", out)


@pytest.mark.parametrize("where", ["write_checkpoint", "write_state", "write_atomic"])
def test_a_crash_inside_any_write_resumes_to_the_same_bytes(folder, tmp_path, monkeypatch, where):
    """Every call of the function is the crash once, before or after its work."""
    how, rows = recipe(), some_rows(10)
    whole = train(load(folder, how), rows, recipe=how, out=tmp_path / "whole")
    real = getattr(trainer, where)
    for late in (False, True):
        for at in range(2):
            calls = []

            def dying(*args, at=at, late=late, calls=calls):
                calls.append(None)
                if len(calls) == at + 1 and not late:
                    raise Crash
                value = real(*args)
                if len(calls) == at + 1:
                    raise Crash
                return value

            out = tmp_path / f"{late}{at}"
            with monkeypatch.context() as patch:
                patch.setattr(trainer, where, dying)
                with pytest.raises(Crash):
                    train(load(folder, how), rows, recipe=how, out=out)
            again = train(load(folder, how), rows, recipe=how, out=out)
            assert again.sha256 == whole.sha256
            same_files(tmp_path / "whole", out)


def test_resume_false_starts_again_and_ends_with_the_same_bytes(folder, tmp_path):
    how, rows, seen = recipe(), some_rows(8), []
    first = train(load(folder, how), rows, recipe=how, out=tmp_path)
    again = train(load(folder, how), rows, recipe=how, out=tmp_path, resume=False, progress=lambda d, t: seen.append(d))
    assert seen == [1, 2, 3, 4] and again == first


def test_a_resumed_training_does_not_depend_on_the_weights_the_learner_came_with(folder, tmp_path, monkeypatch):
    """The state brings the adapter; a learner that starts elsewhere is another job."""
    how, rows = recipe(), some_rows(8)
    train(load(folder, how), rows, recipe=how, out=tmp_path / "a")
    other = load(folder, how)
    with torch.no_grad():
        next(iter(trainable(other.model).values())).add_(0.1)
    with pytest.raises(FingerprintMismatch, match="other start"):
        train(other, rows, recipe=how, out=tmp_path / "a")


OTHER_JOBS = {
    "learning rate": (dict(lr=1e-3), {}, "recipe"),
    "seed": (dict(seed=1), {}, "recipe"),
    "weights": ({}, dict(weights=[2] + [1] * 7), "rows"),
    "marks": ({}, dict(checkpoints=1), "checkpoints"),
}


@pytest.mark.parametrize("name", OTHER_JOBS)
def test_another_job_may_not_use_the_folder(folder, tmp_path, name):
    changes, options, words = OTHER_JOBS[name]
    how, rows = recipe(), some_rows(8)
    train(load(folder, how), rows, recipe=how, out=tmp_path)
    before = (tmp_path / "trained.json").read_bytes()
    other = recipe(**changes)
    for resume in (True, False):
        with pytest.raises(FingerprintMismatch, match=words):
            train(load(folder, how), rows, recipe=other, out=tmp_path, resume=resume, **options)
    assert (tmp_path / "trained.json").read_bytes() == before


@pytest.mark.parametrize("edit", ["token", "mask", "id"])
def test_a_row_that_changed_is_another_job_and_the_order_of_rows_is_not(folder, tmp_path, edit):
    how, rows = recipe(), some_rows(4)
    done = train(load(folder, how), rows, recipe=how, out=tmp_path)
    assert train(load(folder, how), rows[::-1], recipe=how, out=tmp_path) == done
    ids, mask = rows[0].input_ids.copy(), rows[0].supervised.copy()
    if edit == "token":
        ids[1] += 1
    elif edit == "mask":
        mask[-1] = False
    changed = Encoded("e" * 32 if edit == "id" else rows[0].id, ids, mask)
    with pytest.raises(FingerprintMismatch, match="other rows"):
        train(load(folder, how), [changed, *rows[1:]], recipe=how, out=tmp_path)


def test_a_loss_that_breaks_in_the_middle_names_the_step_and_leaves_no_finished_record(folder, tmp_path, monkeypatch):
    how, rows = recipe(lora_layers=1), some_rows(8)
    real, calls = trainer.open_forward, []

    def broken(*args):
        forward = real(*args)
        losses = forward.losses

        def failing(batch):
            calls.append(None)
            return losses(batch) * (float("inf") if len(calls) == 3 else 1.0)

        forward.losses = failing
        return forward

    monkeypatch.setattr(trainer, "open_forward", broken)
    with pytest.raises(NonsenseRefused, match=r"the loss is inf at step 3 \(row [0-9a-f]{32} and 3 more\)"):
        train(load(folder, how), rows, recipe=how, out=tmp_path)
    assert not (tmp_path / "trained.json").exists() and not (tmp_path / "states").exists()


def test_checkpoints_are_spread_evenly_and_mean_rates_cover_the_steps_between(folder, tmp_path):
    how, rows = recipe(batch_size=2), some_rows(7)
    done = train(load(folder, how), rows, recipe=how, out=tmp_path, checkpoints=3)
    assert done.steps == 8 and done.checkpoint_steps == (3, 5, 8)
    parts = [done.lr[:3], done.lr[3:5], done.lr[5:]]
    assert done.mean_lr == pytest.approx([np.mean(p) for p in parts])
    states = [read_moments(f).step for f in done.folders]
    assert states == [3, 5, 8] and len(set(done.sha256)) == 3
    assert json.loads((done.folders[0] / "origin.json").read_text())["step"] == 3


def test_the_learner_ends_with_the_trained_adapter_in_eval_mode_and_the_base_untouched(folder, tmp_path):
    how, rows = recipe(lora_dropout=0.1), some_rows(6)
    learner = load(folder, how)
    base = {n: p.detach().clone() for n, p in learner.model.named_parameters() if "lora_" not in n}
    start = {n: p.detach().clone() for n, p in trainable(learner.model).items()}
    train(learner, rows, recipe=how, out=tmp_path)
    assert not learner.model.training
    assert all(torch.equal(p, base[n]) for n, p in learner.model.named_parameters() if n in base)
    assert all(not torch.equal(p, start[n]) for n, p in trainable(learner.model).items())
