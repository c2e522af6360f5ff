"""Multiple choice: against one forward per choice with transformers; ties, lengths and rows that can't be judged."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from tests.judges.judged import CHOICES, RECIPE, Bare, asked, choice, text

from dataworth.errors import NonsenseRefused
from dataworth.judges import Trained, judge_named
from dataworth.judges.choice import Choice, log_probabilities
from dataworth.recipe import Recipe

pytestmark = pytest.mark.lm


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    pytest.importorskip("peft")
    from tests.learners.tinymodel import LLAMA3, R1_LIKE, tiny_folder

    made = tmp_path_factory.mktemp("models")
    templates = {"llama3": LLAMA3, "r1": R1_LIKE, "base": None}
    return {
        "chatml": tiny_folder(made / "chatml"),
        **{n: tiny_folder(made / n, template=t) for n, t in templates.items()},
    }


@pytest.fixture(scope="module")
def trained(folders: dict[str, Path]) -> Trained:
    return Trained(str(folders["chatml"]), RECIPE)


def naive(bare: Bare, row: object, k: int) -> float:
    """The choice's log-probability in the chat template's text, from one forward."""
    turns = [{"role": m.role, "content": m.content} for m in row.messages[:-1]]
    prompt = bare.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    before = bare.ids(prompt)
    return bare.log_probability([*before, *bare.ids(row.choices[k])], len(before))


@pytest.mark.parametrize("row", CHOICES, ids=lambda r: r.id)
def test_choices_together_are_as_one_forward_each_with_transformers(folders, trained, row) -> None:
    bare = Bare(folders["chatml"])
    expected = [naive(bare, row, k) for k in range(len(row.choices))]
    assert log_probabilities(trained, row) == pytest.approx(expected, abs=1e-3)


def test_a_template_whose_prompt_is_no_beginning_of_the_whole_cannot_be_judged(folders) -> None:
    found = log_probabilities(Trained(str(folders["r1"]), RECIPE), CHOICES[0])
    assert isinstance(found, str) and "renders what stands before turn 2 differently" in found


def test_a_template_with_a_date_and_trimmed_turns_is_followed(folders) -> None:
    row = CHOICES[0]
    turned = log_probabilities(Trained(str(folders["llama3"]), RECIPE), row)
    bare = Bare(folders["llama3"])
    start = "<|endoftext|>Today Date: 26 Jul 2024\n<|im_start|>user\n\nWhich one?<|im_end|><|im_start|>assistant\n\n"
    before = bare.ids(start)
    assert turned == pytest.approx(
        [bare.log_probability([*before, *bare.ids(c)], len(before)) for c in row.choices], abs=1e-3
    )


@pytest.mark.parametrize("row", CHOICES, ids=lambda r: r.id)
def test_a_base_model_reads_bare_text(folders, row) -> None:
    bare, found = Bare(folders["base"]), log_probabilities(Trained(str(folders["base"]), RECIPE), row)
    for k, words in enumerate(row.choices):
        gap = "" if row.prompt.endswith("\n") else " "
        before = bare.ids(row.prompt)
        whole = bare.ids(row.prompt + gap + words)
        given = next((i for i, (a, b) in enumerate(zip(before, whole, strict=False)) if a != b), len(before))
        assert found[k] == pytest.approx(bare.log_probability(whole, given), abs=1e-3)


def test_a_token_that_merges_query_and_choice_belongs_to_the_choice(folders) -> None:
    row = choice("m", "one\n", ["\ntwo", "three"])  # "\n\n" is one token
    found = log_probabilities(Trained(str(folders["base"]), RECIPE), row)
    bare = Bare(folders["base"])
    whole = bare.ids("one\n\ntwo")
    assert len(whole) == 7 and found[0] == pytest.approx(bare.log_probability(whole, 3), abs=1e-3)


def test_the_recipe_s_own_mask_and_length_change_nothing(folders, trained) -> None:
    for changes in ({"mask_like": "trl"}, {"mask_like": "llamafactory"}, {"max_length": 8}):
        other = Trained(str(folders["chatml"]), dataclasses.replace(RECIPE, **changes))
        assert log_probabilities(other, CHOICES[0]) == pytest.approx(log_probabilities(trained, CHOICES[0]), rel=1e-6)


def test_values_are_right_or_wrong_and_rows_keep_their_order(trained) -> None:
    best = [int(log_probabilities(trained, row).argmax()) for row in CHOICES]
    right = [dataclasses.replace(row, gold=b) for row, b in zip(CHOICES, best, strict=True)]
    wrong = dataclasses.replace(right[1], id="w", gold=1 - best[1])
    outcome = judge_named("choice")(trained, [*right, wrong])
    assert outcome.ids == ("a", "b", "c", "w")
    assert outcome.value_Q.tolist() == [1, 1, 1, 0] and outcome.mean == 0.75
    assert (outcome.unit, outcome.higher, dict(outcome.counts)) == ("acc", "better", {"ties": 0})
    turned = judge_named("choice")(trained, [wrong, *right[::-1]])
    assert dict(zip(turned.ids, turned.value_Q, strict=True)) == dict(zip(outcome.ids, outcome.value_Q, strict=True))


def test_the_order_of_choices_plays_no_part(trained) -> None:
    row = CHOICES[0]
    turned = dataclasses.replace(row, choices=row.choices[::-1])
    assert log_probabilities(trained, turned)[::-1] == pytest.approx(log_probabilities(trained, row), abs=1e-4)


def test_norm_divides_by_characters_of_the_choice(trained) -> None:
    row = CHOICES[2]
    per_character = log_probabilities(trained, row) / np.array([5, 12, 1])
    for gold in range(3):
        outcome = Choice("choice_norm")(trained, [dataclasses.replace(row, gold=gold)])
        assert outcome.mean == float(per_character.argmax() == gold) and outcome.unit == "acc_norm"


def test_ties_go_to_the_earlier_choice_and_are_counted(trained) -> None:
    same = [choice("t", "Which?", ["yes", "yes"], 0), choice("u", "Which?", ["yes", "yes"], 1)]
    outcome = judge_named("choice")(trained, same)
    assert outcome.value_Q.tolist() == [1, 0] and outcome.counts == {"ties": 2}
    assert "2 ties" in outcome.explain()


def test_rows_that_cannot_be_judged_say_why(trained) -> None:
    rows = [
        CHOICES[1],
        choice("empty", "Which?", ["yes", " \n"], 0),
        choice("gold", "Which?", ["yes", "no"], 2),
        choice("none", "Which?", ["yes", "no"], None),
        asked("plain", "Which?", "yes"),
        text("text", "words"),
        choice("half", "Which?", ["yes", "\ud800"], 0),
        choice("long", "Which? " * 100, ["yes", "no"], 0),
    ]
    outcome = judge_named("choice")(trained, rows)
    assert outcome.ids == ("b",)
    assert outcome.unjudged == {
        "empty": "choice 1: it is empty",
        "gold": "its gold is not one of its choices",
        "none": "its gold is not one of its choices",
        "plain": "a prompt_completion row has no choices",
        "text": "a text row has no choices",
        "half": "choice 1: its text holds half a surrogate pair, which is no character",
        "long": "choice 0: query and choice are longer than the model's context",
    }
    with pytest.raises(NonsenseRefused, match="no row could be judged; the first of 1: choice 1: it is empty"):
        judge_named("choice")(trained, rows[1:2])


def test_markup_inside_a_choice_is_ordinary_text(trained) -> None:
    forged = choice("f", "Which?", ["yes<|im_end|>", "yes"], 0)
    found = log_probabilities(trained, forged)
    assert found[0] < found[1] - 1, "ten further tokens, none of them the end of the turn"


@pytest.mark.smollm2
@pytest.mark.data
@pytest.mark.slow
def test_smollm2_knows_arc_easy_better_than_chance(data: Path) -> None:
    from dataworth.formats import open_pool

    pool = open_pool(data / "eval_small" / "arc_easy.jsonl.gz")
    outcome = judge_named("choice")(Trained("smollm2", Recipe()), list(pool.examples(range(100))))
    assert len(outcome.ids) == 100 and not outcome.unjudged
    assert outcome.mean > 0.25 + 3 * 0.043, outcome.explain()


@pytest.mark.smollm2
@pytest.mark.data
@pytest.mark.slow
def test_on_smollm2_too_choices_together_are_as_one_forward_each(data: Path) -> None:
    from dataworth.formats import open_pool

    trained = Trained("smollm2", RECIPE)
    bare = Bare(trained.folder)
    for row in open_pool(data / "eval_small" / "arc_easy.jsonl.gz").examples(range(2)):
        found = log_probabilities(trained, row)
        expected = [naive(bare, row, k) for k in range(len(row.choices))]
        assert found == pytest.approx(expected, abs=2e-3)
