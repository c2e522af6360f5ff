"""Response loss: against transformers, per token and not per row; a trained adapter; rows without loss."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from tests.judges.judged import RECIPE, Bare, asked, text

from dataworth.errors import NonsenseRefused
from dataworth.judges import Trained, judge_named
from dataworth.trial import response_loss, train_on

pytestmark = pytest.mark.lm

ROWS = [asked(str(n), f"number {n}?", "yes " * n + "indeed") for n in (3, 1, 7)]
EMPTY = asked("e", "nothing", "")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("peft")
    from tests.learners.tinymodel import tiny_folder

    return tiny_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def adapter(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_on(str(model), RECIPE, ROWS, tmp_path_factory.mktemp("trained"))


@pytest.mark.parametrize("state", ["untouched", "trained"])
def test_it_is_transformers_own_loss_summed_over_the_answer(model, adapter, state) -> None:
    folder = adapter if state == "trained" else None
    outcome = judge_named("loss")(Trained(str(model), RECIPE, folder), ROWS)
    bare = Bare(model, folder)
    for n, row in enumerate(ROWS):
        before = bare.ids(f"<|im_start|>user\n{row.prompt}<|im_end|>\n<|im_start|>assistant\n")
        own = bare.ids(f"{row.response}<|im_end|>")
        assert outcome.ids[n] == row.id and outcome.weight_Q[n] == len(own)
        expected = -bare.log_probability([*before, *own], len(before)) / len(own)
        assert outcome.value_Q[n] == pytest.approx(expected, rel=1e-4)


def test_the_trial_s_number_is_that_of_response_loss(model, adapter) -> None:
    outcome = judge_named("loss")(Trained(str(model), RECIPE, adapter), ROWS)
    known = response_loss(str(model), RECIPE, adapter, ROWS)
    assert outcome.mean == pytest.approx(known.per_token, rel=1e-6)
    assert outcome.mean == pytest.approx(known.sum_Q.sum() / known.targets_Q.sum(), rel=1e-6)
    assert outcome.mean != pytest.approx(float(outcome.value_Q.mean()), rel=1e-3), "rows differ in length"
    assert (outcome.unit, outcome.higher) == ("nats/token", "worse")


def test_training_lowers_it_and_one_opening_serves_both_sets(model, adapter) -> None:
    with Trained(str(model), RECIPE, adapter, device="auto") as trained:
        both = [judge_named("loss")(trained, rows).mean for rows in (ROWS, ROWS[::-1])]
    assert both[0] == pytest.approx(both[1], rel=1e-6)
    assert both[0] < judge_named("loss")(Trained(str(model), RECIPE), ROWS).mean - 0.01


def test_rows_without_loss_are_listed_and_cut_ones_counted(model) -> None:
    short = Trained(str(model), dataclasses.replace(RECIPE, max_length=48))
    outcome = judge_named("loss")(short, [*ROWS, EMPTY, asked("late", "x" * 60, "yes")])
    assert outcome.ids == ("3", "1", "7") and outcome.counts == {"truncated": 1}
    assert set(outcome.unjudged) == {"e", "late"}
    assert "every assistant turn is empty" in outcome.unjudged["e"]
    assert "cut at 48 tokens" in outcome.unjudged["late"]
    assert outcome.explain().count("not judged") == 2
    with pytest.raises(NonsenseRefused, match="judge loss: no row could be judged"):
        judge_named("loss")(short, [EMPTY])


def test_plain_text_has_a_loss_too(model) -> None:
    outcome = judge_named("loss")(Trained(str(model), RECIPE), [text("t", "some words")])
    assert outcome.weight_Q.tolist() == [len(Bare(model).ids("some words"))], "all but the first, and the end of text"


def test_a_row_named_twice_is_a_mistake(model) -> None:
    with pytest.raises(ValueError, match="two rows have one id"):
        judge_named("loss")(Trained(str(model), RECIPE), [ROWS[0], ROWS[0]])


def test_closing_lets_the_weights_go_and_a_further_call_opens_them_again(model) -> None:
    trained = Trained(str(model), RECIPE)
    first = judge_named("loss")(trained, ROWS)
    trained.close()
    assert not {"_losses", "folder"} & set(vars(trained))
    assert np.array_equal(judge_named("loss")(trained, ROWS).value_Q, first.value_Q)
