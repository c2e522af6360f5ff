"""Options of methods: who gets which, typed, and what no one knows."""

from __future__ import annotations

from typing import Any

import pytest

from dataworth import options, plugins
from dataworth.errors import RequestError
from dataworth.options import GradientOptions, split, split_each
from dataworth.probes.spec import FeatureSpec
from dataworth.recipe import Recipe


def score(name: str) -> Any:
    return plugins.load("scores", name)


def test_each_option_goes_to_whom_it_is_for() -> None:
    given = {"warmup": "0.1", "width": "512", "optimizer": "sgd", "bias_correction": "false", "reduce": "zmax"}
    found = split(given, score("less"), plugins.load("picks", "top_k"))
    assert found.gradient.warmup == 0.1
    assert found.gradient.feature.width == 512
    assert found.gradient.feature.optimizer == "sgd"
    assert found.gradient.feature.bias_correction is False
    assert found.score == {"reduce": "zmax"}
    assert found.pick == {}


def test_without_options_less_uses_adam_and_five_percent() -> None:
    found = split({}, score("less"))
    assert found.gradient == GradientOptions()
    assert found.gradient.warmup == 0.05
    assert found.gradient.feature.optimizer == "adam"
    assert found.gradient.feature.bias_correction is True


@pytest.mark.parametrize("method", ["random", "length", "bm25", "loss", "rds"])
def test_gradient_options_are_unknown_to_methods_without_gradients(method: str) -> None:
    with pytest.raises(RequestError, match=f"option 'warmup' is unknown to method {method}"):
        split({"warmup": "0.1"}, score(method))


@pytest.mark.parametrize(("name", "near"), [("warmpu", "warmup"), ("redduce", "reduce"), ("optimiser", "optimizer")])
def test_an_unknown_option_names_the_nearest(name: str, near: str) -> None:
    with pytest.raises(RequestError, match=f"did you mean '{near}'"):
        split({name: "1"}, score("less"))


def test_an_option_like_no_other_lists_those_there_are_and_the_seed_is_none() -> None:
    with pytest.raises(RequestError, match="unknown to method random; it knows: none"):
        split({"zzz": "1"}, score("random"))
    with pytest.raises(RequestError, match="option 'seed' is unknown"):
        split({"seed": "1"}, score("random"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"warmup": "-1"}, "warmup=-1"),
        ({"warmup": "lots"}, "warmup='lots'"),
        ({"warmup": ".inf"}, "warmup=inf"),
        ({"warmup": ".nan"}, "warmup=nan"),
        ({"warmup": "[1]"}, r"warmup=\[1\]"),
        ({"warmup": "0"}, "use kind=onesided"),
        ({"warmup": "[1"}, "warmup"),
        ({"optimizer": "adamw"}, "optimizer='adamw'"),
        ({"format": "int3"}, "format='int3'"),
        ({"width": "0"}, "width=0"),
        ({"width": "wide"}, "wrong type"),
        ({"kind": "onesided", "optimizer": "adam"}, "onesided"),
    ],
)
def test_an_impossible_value_is_refused_in_one_line(given: dict[str, str], message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        split(given, score("less"))
    assert "\n" not in str(caught.value)


def test_onesided_features_are_plain_unless_told() -> None:
    found = split({"kind": "onesided", "warmup": "0"}, score("less")).gradient
    assert found.feature.optimizer == "sgd"
    assert found.warmup == 0


def test_features_take_the_decay_rates_and_epsilon_of_the_recipe() -> None:
    given = GradientOptions(0.1, FeatureSpec(optimizer="adam", width=64))
    found = given.with_recipe(Recipe(beta1=0.5, beta2=0.75, eps=1e-4))
    assert (found.feature.beta1, found.feature.beta2, found.feature.eps) == (0.5, 0.75, 1e-4)
    assert (found.warmup, found.feature.width) == (0.1, 64)
    assert given.feature.beta1 == 0.9, "the given ones stay"


def test_several_methods_share_the_options_and_each_takes_its_own() -> None:
    methods = [score("less"), score("bm25"), score("random")]
    less, bm25, random = split_each({"warmup": "8", "reduce": "mean"}, methods)
    assert less.gradient.warmup == 8
    assert less.score == {"reduce": "mean"}
    assert "warmup" not in bm25.score
    assert random.score == {}


def test_an_option_that_no_method_knows_is_an_error_however_many_there_are() -> None:
    with pytest.raises(RequestError, match="option 'warmup' is unknown"):
        split_each({"warmup": "8"}, [score("length"), score("random")])
    with pytest.raises(RequestError, match="option 'nonsense' is unknown"):
        split_each({"warmup": "8", "nonsense": "1"}, [score("less"), score("bm25")])


def test_options_of_a_pick_reach_it_typed_and_only_it() -> None:
    class Pick:
        name = "mine"
        needs: frozenset[str] = frozenset()

        def __call__(self, inputs: Any, budget: Any, *, seed: int, floor: float = 0.5, strict: bool = False) -> None:
            """Nothing."""

    found = split({"floor": "0.25", "strict": "true"}, score("bm25"), Pick())  # type: ignore[arg-type]
    assert found.pick == {"floor": 0.25, "strict": True}
    assert found.score == {}
    with pytest.raises(RequestError, match="floor"):
        split({"floor": "high"}, score("bm25"), Pick())  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="unknown"):
        split({"floor": "0.25"}, score("bm25"))


@pytest.mark.parametrize("name", plugins.SCORES)
def test_every_score_of_the_house_takes_the_keywords_it_advertises(name: str) -> None:
    known = options._keywords(score(name))
    assert "seed" not in known
    assert not known & {"warmup", *options._OF_FEATURES}, "a probe's option and a score's must not share a name"


def test_a_name_of_both_score_and_pick_says_which() -> None:
    ifd, semdedup = score("ifd"), plugins.load("picks", "semdedup")
    with pytest.raises(RequestError, match=r"expected score\.threshold or pick\.threshold; say which"):
        split({"threshold": "0.9"}, ifd, semdedup)
    found = split({"pick.threshold": "0.9"}, ifd, semdedup)
    assert (found.score, found.pick) == ({}, {"threshold": 0.9})
    assert split({"score.threshold": "0.9"}, ifd, semdedup).score == {"threshold": 0.9}
    with pytest.raises(RequestError, match=r"option 'k' is one of method less and one of pick d2"):
        split({"k": "5"}, score("less"), plugins.load("picks", "d2"))
    with pytest.raises(RequestError, match=r"'score.tau' is unknown"):
        split({"score.tau": "0.9"}, ifd, semdedup)
    both = split({"epochs": "10"}, score("dual"), plugins.load("picks", "dual_beta"))
    assert (both.score, both.pick) == ({"epochs": 10}, {"epochs": 10})


def test_a_pick_s_needs_follow_its_own_option_by_either_name() -> None:
    stratified = plugins.load("picks", "stratified")
    for name in ("cut_by", "pick.cut_by"):
        assert "dynamics" in split({name: "aum"}, score("el2n"), stratified).pick_needs
