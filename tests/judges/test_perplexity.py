"""Perplexity: every token once, whatever the window; against transformers window by window."""

from __future__ import annotations

import dataclasses
import gzip
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.judges.judged import CHOICES, RECIPE, Bare, asked, text

from dataworth.judges import Trained, judge_named
from dataworth.judges.perplexity import cut
from dataworth.learners.render import Encoded

pytestmark = pytest.mark.lm

WORDS = "The quick brown fox jumps over the lazy dog; he sleeps on.\n\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.learners.tinymodel import tiny_folder

    return tiny_folder(tmp_path_factory.mktemp("model"))


def naive(bare: Bare, content: str, length: int) -> tuple[float, int]:
    """Nats and tokens of a text, one forward per window of `length` tokens that overlap by one."""
    ids = bare.ids(content)
    nats = [-bare.log_probability(ids[s : s + length], 1) for s in range(0, len(ids) - 1, length - 1)]
    return sum(nats), len(ids) - 1


@pytest.mark.parametrize("length", [2, 7, 32, 96, 500])
def test_windows_are_those_of_transformers_one_at_a_time(model, length) -> None:
    rows = [text("long", WORDS * 3), text("short", "he"), text("mid", WORDS)]
    outcome = judge_named("ppl")(Trained(str(model), dataclasses.replace(RECIPE, max_length=length)), rows)
    bare = Bare(model)
    assert outcome.ids == ("long", "mid") and outcome.unjudged == {"short": "it has a single token"}
    for row_id, value, weight in zip(outcome.ids, outcome.value_Q, outcome.weight_Q, strict=True):
        nats, tokens = naive(bare, next(r.text for r in rows if r.id == row_id), length)
        assert weight == tokens and value == pytest.approx(nats / tokens, rel=1e-4)
    assert outcome.counts["windows"] == sum(-(-int(w) // (length - 1)) for w in outcome.weight_Q)


def test_perplexity_is_exp_of_all_nats_over_all_tokens(model) -> None:
    rows = [text("a", WORDS), text("b", "zzz qqq")]
    outcome = judge_named("ppl")(Trained(str(model), RECIPE), rows)
    nats, tokens = np.array([naive(Bare(model), r.text, 96) for r in rows]).sum(0)
    assert np.exp(outcome.mean) == pytest.approx(np.exp(nats / tokens), rel=1e-4)
    assert (outcome.unit, outcome.higher) == ("nats/token", "worse")


def test_a_tokenizer_s_own_bos_lets_the_first_token_count(model, tmp_path) -> None:
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer

    trained = Trained(str(model), RECIPE)
    tokenizer = AutoTokenizer.from_pretrained(model)
    ending = [("<|endoftext|>", tokenizer.bos_token_id)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<|endoftext|> $A", special_tokens=ending)
    from dataworth.learners.render import Renderer

    trained.__dict__["plain"] = Renderer(tokenizer, "assistant", 10_000)
    outcome = judge_named("ppl")(trained, [text("a", "he")])
    bare = Bare(model)
    ids = [tokenizer.bos_token_id, *bare.ids("he")]
    assert outcome.weight_Q.tolist() == [1]
    assert outcome.value_Q[0] == pytest.approx(-bare.log_probability(ids, 1), rel=1e-4)


def test_what_is_no_plain_text_is_left_to_other_judges(model) -> None:
    rows = [text("a", WORDS), asked("q", "why?", "so"), CHOICES[1], text("blank", " \n"), text("half", "a \ud800 b")]
    outcome = judge_named("ppl")(Trained(str(model), RECIPE), rows)
    assert outcome.ids == ("a",)
    assert outcome.unjudged == {
        "q": "a prompt_completion row is not plain text; judge it by loss",
        "b": "a choice row is not plain text; judge it by loss",
        "blank": "the text is empty",
        "half": "its text holds half a surrogate pair, which is no character",
    }


@given(st.integers(2, 90), st.integers(2, 40), st.booleans())
def test_every_target_is_in_one_window_with_the_token_before_it(tokens, length, closed) -> None:
    supervised = np.arange(tokens) > 0
    if closed:
        supervised[-1] = False
    row = Encoded("r", np.arange(tokens, dtype=np.int32), supervised)
    found = []
    for window in cut(row, length):
        assert len(window) <= length and not window.supervised[0] and window.supervised.any()
        assert np.array_equal(np.diff(window.input_ids), np.ones(len(window) - 1))
        found += window.input_ids[window.supervised].tolist()
    assert found == np.flatnonzero(supervised).tolist()


@pytest.mark.smollm2
@pytest.mark.data
@pytest.mark.slow
def test_smollm2_reads_wikitext_as_text(data: Path) -> None:
    from dataworth.recipe import Recipe

    words = gzip.decompress((data / "wikitext2" / "valid.txt.gz").read_bytes()).decode()[:3000]
    mixed = words.split(" ")
    random.Random(0).shuffle(mixed)
    read, shuffled = text("w", words), text("s", " ".join(mixed))
    trained = Trained("smollm2", Recipe())
    found = [float(np.exp(judge_named("ppl")(trained, [row]).mean)) for row in (read, shuffled)]
    assert 8 < found[0] < 60 and found[1] > 5 * found[0], found
