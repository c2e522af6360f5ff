"""The recipe: defaults, refusals, plain values and back."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dataworth.config import field_help
from dataworth.errors import RequestError
from dataworth.recipe import Recipe

NAMES = [f.name for f in dataclasses.fields(Recipe)]


def test_every_field_of_the_default_survives_json_and_yaml() -> None:
    values = Recipe().to_dict()
    assert list(values) == NAMES
    assert isinstance(values["lora_targets"], list)
    assert Recipe.from_dict(json.loads(json.dumps(values))) == Recipe()
    assert Recipe.from_dict(yaml.safe_load(yaml.safe_dump(values))) == Recipe()


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "lora_r": st.integers(1, 256),
            "lr": st.floats(1e-7, 1.0),
            "epochs": st.integers(1, 9),
            "schedule": st.sampled_from(["linear", "cosine"]),
            "mask_like": st.sampled_from(["assistant", "trl", "axolotl", "llamafactory", "verl"]),
            "warmup_ratio": st.floats(0, 1),
            "lora_targets": st.lists(st.sampled_from(["q_proj", "up_proj", "o_proj"]), min_size=1, unique=True),
            "seed": st.integers(0, 2**31),
        },
    )
)
def test_any_sound_recipe_survives_being_written(values: dict[str, Any]) -> None:
    recipe = Recipe.from_dict(values)
    again = Recipe.from_dict(recipe.to_dict())
    assert again == recipe
    assert hash(again) == hash(recipe)
    for name, value in values.items():
        assert recipe.to_dict()[name] == value


@pytest.mark.parametrize("name", ["lora_r", "lora_alpha", "lr", "epochs", "batch_size", "max_length", "eps"])
@pytest.mark.parametrize("value", [0, -1])
def test_numbers_that_must_be_positive(name: str, value: Any) -> None:
    with pytest.raises(RequestError, match=rf"recipe {name}=.*expected") as caught:
        Recipe(**{name: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lr", float("nan")),
        ("lr", float("inf")),
        ("lr", "2e-4"),
        ("weight_decay", "1e-2"),
        ("weight_decay", -0.1),
        ("beta1", 1.0),
        ("beta2", "0.999"),
        ("beta2", -0.1),
        ("warmup_ratio", 1.5),
        ("warmup_ratio", -0.1),
        ("lora_dropout", 1.0),
        ("lora_layers", -1),
        ("max_grad_norm", -1),
        ("epochs", 1.5),
        ("batch_size", "16"),
        ("max_length", float("inf")),
        ("lora_r", True),
        ("seed", "x"),
        ("seed", None),
        ("lora_targets", 5),
        ("lora_targets", ["q_proj", 3]),
    ],
)
def test_a_value_that_training_would_stumble_over_is_refused_by_name_at_once(name: str, value: Any) -> None:
    with pytest.raises(RequestError, match=f"recipe {name}=") as caught:
        Recipe.from_dict({name: value})
    assert "expected" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("weight_decay", 0), ("max_grad_norm", 0), ("lora_layers", 0), ("beta1", 0), ("warmup_ratio", 1), ("lr", 1)],
)
def test_the_ends_of_the_ranges_are_allowed(name: str, value: Any) -> None:
    assert getattr(Recipe.from_dict({name: value}), name) == value


@pytest.mark.parametrize(
    ("name", "value", "known"),
    [
        ("schedule", "constant", "linear, cosine"),
        ("dtype", "fp16", "auto, bf16, fp32"),
        ("mask_like", "trll", "assistant, trl, axolotl, llamafactory, verl"),
    ],
)
def test_words_are_of_their_list(name: str, value: str, known: str) -> None:
    with pytest.raises(RequestError, match=known):
        Recipe(**{name: value})


@pytest.mark.parametrize(
    ("key", "near"),
    [("lora_rank", "lora_r"), ("learning_rate", ""), ("batchsize", "batch_size"), ("epoch", "epochs")],
)
def test_an_unknown_key_names_the_nearest_or_lists_all(key: str, near: str) -> None:
    with pytest.raises(RequestError, match=f"recipe key {key!r} is unknown") as caught:
        Recipe.from_dict({key: 1})
    assert (f"did you mean {near!r}?" if near else ", ".join(NAMES)) in str(caught.value)


def test_targets_may_be_a_list_or_words_with_commas_but_not_nothing() -> None:
    assert Recipe.from_dict({"lora_targets": "q_proj,v_proj"}).lora_targets == ("q_proj", "v_proj")
    assert Recipe.from_dict({"lora_targets": ["q_proj"]}).lora_targets == ("q_proj",)
    with pytest.raises(RequestError, match="lora_targets is empty"):
        Recipe.from_dict({"lora_targets": []})


def test_a_recipe_is_frozen_and_every_field_says_what_it_is() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Recipe().lr = 1.0  # type: ignore[misc]
    found = field_help(Recipe)
    assert list(found) == NAMES
    assert all(text.strip().endswith(".") for text in found.values())


def test_whole_and_decimal_spellings_of_a_number_are_one_recipe() -> None:
    assert Recipe(lora_alpha=32).to_dict() == Recipe(lora_alpha=32.0).to_dict()
    assert repr(Recipe(lora_alpha=32).lora_alpha) == "32.0"
