import json
import math

import numpy as np
import pytest

from dataworth.errors import RequestError
from dataworth.scores.ifd import IFD


def case(given, alone, **more):
    return {
        "ids": [f"{i:032x}" for i in range(len(given))],
        "losses": np.array(given, dtype=float),
        "losses_alone": np.array(alone, dtype=float),
        **more,
    }


def test_the_default_form_is_the_ratio_of_perplexities():
    assert IFD()(case([1.5], [2.0])).values_N[0] == pytest.approx(0.6065, abs=5e-5)


def test_the_forms_disagree_where_the_papers_do():
    rows = case([0.45, 3.7], [0.5, 4.0])
    np.testing.assert_allclose(IFD()(rows).values_N, [0.951, 0.741], atol=5e-4)
    np.testing.assert_allclose(IFD()(rows, form="loss").values_N, [0.900, 0.925], atol=5e-4)


def test_equals_a_naive_loop_over_perplexities():
    rng = np.random.default_rng(0)
    rows = case(rng.uniform(0.1, 4, 40), rng.uniform(0.1, 4, 40))
    naive = [math.exp(a) / math.exp(b) for a, b in zip(rows["losses"], rows["losses_alone"], strict=True)]
    np.testing.assert_allclose(IFD()(rows, threshold=math.inf).values_N, naive)


@pytest.mark.parametrize("form", ["ppl", "loss"])
def test_a_row_without_prompt_has_one_and_is_not_ranked(form):
    rows = case([2.0, 1.0], [2.0, 2.0])
    assert IFD()(rows, form=form, threshold=math.inf).values_N[0] == 1
    got = IFD()(rows, form=form)
    assert np.isnan(got.values_N[0]) and np.isfinite(got.values_N[1])
    assert got.unscored == {rows["ids"][0]: "its prompt does not help (IFD 1.00)"}


def test_prompts_that_do_not_help_are_named_and_never_ranked():
    rows = case([2.03, 1.0], [2.0, 2.0])
    assert IFD()(rows).unscored == {rows["ids"][0]: "its prompt does not help (IFD 1.03)"}
    assert list(IFD()(rows, threshold=0.3).unscored) == rows["ids"]
    assert not IFD()(rows, threshold=1.1).unscored


def test_rows_without_a_loss_keep_the_reason_of_the_probe():
    rows = case([np.nan, 1.0, 1.0], [2.0, np.nan, 2.0], unscored={f"{0:032x}": "it is too long"})
    assert IFD()(rows).unscored == {
        rows["ids"][0]: "it is too long",
        rows["ids"][1]: "it has no loss with or without its prompt",
    }


def test_a_certain_response_has_no_loss_ratio():
    """Reference code answers errors with 0, which a lowest-first pick would take for the best."""
    got = IFD()(case([0.0, 0.5, 0.5], [0.0, 0.0, 1.0]), form="loss")
    assert list(np.isnan(got.values_N)) == [True, True, False]
    assert len(got.unscored) == 2


def test_far_losses_do_not_overflow():
    got = IFD()(case([1000.0], [0.0]), threshold=math.inf)
    assert np.isnan(got.values_N[0]) and len(got.unscored) == 1


@pytest.mark.parametrize("options", [{"form": "ratio"}, {"threshold": 0.0}, {"threshold": -1}, {"threshold": math.nan}])
def test_wrong_options_are_refused_in_one_line(options):
    with pytest.raises(RequestError, match="correct --option") as error:
        IFD()(case([1.0], [2.0]), **options)
    assert "\n" not in str(error.value)


ASKED = {
    "Repeat exactly: the violet kettle hums beneath seven maps.": "the violet kettle hums beneath seven maps.",
    "What is the capital of France?": "The capital of France is Paris.",
    "How many days does a week have?": "A week has seven days.",
    "What do bees make?": "Bees make honey.",
    "Which planet is the largest?": "Jupiter is the largest planet.",
    "Who wrote Romeo and Juliet?": "William Shakespeare wrote Romeo and Juliet.",
    "What is the opposite of hot?": "The opposite of hot is cold.",
    "What colour is grass?": "Grass is green.",
    "At what temperature does water boil?": "Water boils at 100 degrees Celsius.",
    "How many legs does a spider have?": "A spider has eight legs.",
    "Which ocean lies between Europe and America?": "The Atlantic Ocean lies between Europe and America.",
    "What do plants need to grow?": "Plants need water, light and soil to grow.",
}


@pytest.mark.lm
@pytest.mark.smollm2
@pytest.mark.slow
def test_a_real_learner_is_helped_by_its_own_prompt_and_not_by_another_row_s(tmp_path):
    import dataworth as dw

    prompts = [*ASKED, *np.roll(list(ASKED), 1).tolist()]
    rows = [{"prompt": p, "completion": a} for p, a in zip(prompts, [*ASKED.values()] * 2, strict=True)]
    (tmp_path / "pool.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = {"model": "smollm2", "option": ("threshold=inf",), "workers": 0, "device": "cpu"}
    found = dw.score(str(tmp_path / "pool.jsonl"), method="ifd", run=str(tmp_path / "run"), **given)
    own, others = np.split(found.scores["ifd"].values_N, 2)
    assert own[0] < 0.05, "the prompt holds the answer word for word (0.0003 with SmolLM2-135M)"
    assert own.mean() < 0.5 * others.mean(), "0.03 and 0.42"
