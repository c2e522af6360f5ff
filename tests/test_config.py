"""One definition per verb: dataclass fields are keyword arguments, YAML keys and flags."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import typer.main
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dataworth import cli, config
from dataworth.errors import RequestError

VERBS = sorted(config.VERBS)
COMMANDS = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
FACES = {"json", "config", "dry_run", "show_recipe", "help"}


def fields(verb: str) -> dict[str, dataclasses.Field[Any]]:
    return {f.name: f for f in dataclasses.fields(config.VERBS[verb])}


def another(hint: Any) -> Any:
    """A value of a field's type that is no default."""
    if hint == tuple[str, ...]:
        return ("a=b", "c=d")
    for kind, value in ((bool, True), (int, 3), (float, 0.5), (str, "word")):
        if hint in (kind, kind | None):
            return value
    raise AssertionError(f"a request holds the type {hint}, which no flag has")


@pytest.mark.parametrize("verb", VERBS)
def test_every_field_is_a_flag_and_every_flag_a_field(verb: str) -> None:
    found = {p.name for p in COMMANDS[verb].params} - FACES
    assert found == set(fields(verb))


@pytest.mark.parametrize("verb", VERBS)
def test_a_flag_is_the_field_with_dashes_and_has_its_help(verb: str) -> None:
    helps = config.field_help(config.VERBS[verb])
    assert set(helps) == set(fields(verb))
    for parameter in COMMANDS[verb].params:
        if parameter.name in FACES:
            continue
        assert parameter.default is None, f"{parameter.name}: a flag not given must not win over the file"
        assert parameter.help.startswith(helps[parameter.name])
        if parameter.name != ("subset" if verb in ("prove", "worth") else "pool"):
            assert "--" + parameter.name.replace("_", "-") in parameter.opts


@pytest.mark.parametrize("verb", VERBS)
def test_every_field_can_be_given_in_yaml_and_comes_back(verb: str, tmp_path: Path) -> None:
    cls = config.VERBS[verb]
    values = {name: another(hint) for name, hint in get_type_hints(cls).items()}
    request = config.build(cls, values)
    assert {n: getattr(request, n) for n in values} == values
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config.to_dict(request)))
    assert config.build(cls, config.load_yaml(tmp_path / "c.yaml")) == request
    assert json.loads(json.dumps(config.to_dict(request))) == config.to_dict(request)


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_that_is_given_only_a_pool_has_its_defaults(verb: str) -> None:
    request = config.build(config.VERBS[verb], {"pool": "p.jsonl"})
    assert request.pool == ("p.jsonl",)
    for name, field in fields(verb).items():
        if name != "pool":
            assert getattr(request, name) == field.default


@pytest.mark.parametrize("verb", VERBS)
def test_requests_are_frozen_and_take_no_positions(verb: str) -> None:
    cls = config.VERBS[verb]
    with pytest.raises(TypeError):
        cls(("p",))  # type: ignore[call-arg,misc]
    with pytest.raises((dataclasses.FrozenInstanceError, TypeError)):
        config.build(cls, {"pool": "p"}).seed = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("given_value", "expected"),
    [
        ("p.jsonl", ("p.jsonl",)),
        (Path("p.jsonl"), ("p.jsonl",)),
        (["a", Path("b")], ("a", "b")),
        (("a", "b"), ("a", "b")),
    ],
)
def test_a_pool_may_be_one_path_or_several(given_value: Any, expected: tuple[str, ...]) -> None:
    assert config.build(config.SelectRequest, {"pool": given_value}).pool == expected


@pytest.mark.parametrize("pool", [None, [], ()])
def test_a_request_without_a_pool_is_refused(pool: Any) -> None:
    with pytest.raises(RequestError, match="no pool was given"):
        config.build(config.SelectRequest, {"pool": pool})
    with pytest.raises(RequestError, match="no pool was given"):
        config.build(config.SelectRequest, {})


def test_pairs_may_be_a_mapping_in_yaml() -> None:
    values = {"pool": "p", "map": {"prompt": "question", "completion": "a+b"}, "option": {"warmup": 0.1}}
    request = config.build(config.SelectRequest, values)
    assert request.map == ("prompt=question", "completion=a+b")
    assert config.pairs(request.option, "--option") == {"warmup": "0.1"}


@pytest.mark.parametrize(("keep", "text"), [(7, "7"), (0.05, "0.05"), ("5%", "5%"), (1.0, "1.0")])
def test_keep_may_be_a_number(keep: Any, text: str) -> None:
    assert config.build(config.SelectRequest, {"pool": "p", "keep": keep}).keep == text


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [
        ("seed", "one", "int"),
        ("seed", 1.5, "int"),
        ("seed", True, "int"),
        ("workers", "2", "int"),
        ("max_rejected", "0.1", "float"),
        ("max_rejected", False, "float"),
        ("rewarm", "yes", "bool"),
        ("rewarm", 1, "bool"),
        ("keep", True, "str"),
        ("goal", ["a"], "str"),
        ("model", {"a": 1}, "str"),
    ],
)
def test_a_value_of_another_type_is_refused_with_the_type(key: str, value: Any, kind: str) -> None:
    with pytest.raises(RequestError, match=f"{key}=.*expected {kind}"):
        config.build(config.SelectRequest, {"pool": "p", key: value})


def test_a_whole_number_will_do_for_a_share() -> None:
    found = config.build(config.SelectRequest, {"pool": "p", "max_rejected": 1}).max_rejected
    assert (found, type(found)) == (1.0, float)


@pytest.mark.parametrize(
    ("key", "near"),
    [("kep", "keep"), ("metod", "method"), ("keep-near-goal", "keep_near_goal"), ("maxrejected", "max_rejected")],
)
def test_an_unknown_key_names_the_nearest(key: str, near: str) -> None:
    with pytest.raises(RequestError, match=f"did you mean '{near}'") as caught:
        config.build(config.SelectRequest, {"pool": "p", key: 1})
    assert "SelectRequest" in str(caught.value)


def test_a_key_like_no_other_lists_those_there_are() -> None:
    with pytest.raises(RequestError, match="known keys: device, duplicate_keys, dynamics, encoder"):
        config.build(config.ScoreRequest, {"pool": "p", "zzz": 1})
    with pytest.raises(RequestError, match="unknown to ScoreRequest"):
        config.build(config.ScoreRequest, {"pool": "p", "out": "x"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("keep: 5\nkeep: 6\n", "given twice"),
        ("map: {prompt: a, prompt: b}\n", "given twice"),
        ("- a\n- b\n", "holds list"),
        ("", "holds NoneType"),
        ("just words\n", "holds str"),
        ("a: [1,\n", "isn't valid YAML"),
        ("a: !!python/object:os.system x\n", "isn't valid YAML"),
        ("\t- x: y\n", "isn't valid YAML"),
    ],
)
def test_a_file_that_is_no_mapping_of_unique_keys_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(RequestError, match=message) as caught:
        config.load_yaml(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_missing_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="isn't there"):
        config.load_yaml(tmp_path / "absent.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(RequestError, match="isn't valid YAML"):
        config.load_yaml(tmp_path / "b.yaml")


def test_equal_keys_in_different_mappings_are_no_repetition(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("map: {prompt: a}\ngoal_map: {prompt: b}\n")
    assert config.load_yaml(tmp_path / "c.yaml") == {"map": {"prompt": "a"}, "goal_map": {"prompt": "b"}}


def test_a_recipe_file_gives_way_to_flags_that_were_given(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("lora_r: 4\nmask_like: trl\n")
    path = str(tmp_path / "r.yaml")
    assert config.load_recipe(path, {"mask_like": None}).mask_like == "trl"
    found = config.load_recipe(path, {"mask_like": "verl"})
    assert (found.mask_like, found.lora_r) == ("verl", 4)
    assert config.load_recipe(None, {}) == config.load_recipe(None, {"mask_like": None})


NAME = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=6)


@given(st.dictionaries(NAME, st.text(min_size=1, max_size=8), max_size=5))
def test_pairs_come_back_as_they_were_given(given_pairs: dict[str, str]) -> None:
    assert config.pairs(tuple(f"{k}={v}" for k, v in given_pairs.items()), "--map") == given_pairs


@pytest.mark.parametrize("item", ["a", "=b", "a=", "="])
def test_half_a_pair_is_refused_with_its_flag(item: str) -> None:
    with pytest.raises(RequestError, match=r"--goal-map.*NAME=VALUE"):
        config.pairs(("x=y", item), "--goal-map")


def test_a_name_given_twice_is_refused() -> None:
    with pytest.raises(RequestError, match="'a' is given twice"):
        config.pairs(("a=1", "a=2"), "--option")


def test_a_list_may_be_one_value_several_or_none() -> None:
    built = config.build(config.SelectRequest, {"pool": Path("a"), "map": {"prompt": "q"}, "option": None})
    assert (built.pool, built.map, built.option) == (("a",), ("prompt=q",), ())
    assert config.build(config.SelectRequest, {"pool": ["a", "b"], "map": 5}).map == ("5",)


def test_pairs_after_map_belong_to_it() -> None:
    words = ["select", "--map", "prompt=q", "completion=a+b", "pool.jsonl", "x=1.jsonl", "--goal-map", "a=b", "c=d"]
    assert cli._spread(words) == [
        *["select", "--map", "prompt=q", "--map", "completion=a+b", "pool.jsonl", "x=1.jsonl"],
        *["--goal-map", "a=b", "--goal-map", "c=d"],
    ]


def test_the_recipe_shown_is_that_of_the_learner_named(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("epochs: 3\n")
    shown = config.recipe_shown({"model": "resnet", "recipe": str(tmp_path / "r.yaml")})
    assert shown["optimizer"] == "sgd" and shown["epochs"] == 3 and "lora_r" not in shown
    assert "momentum" in config.recipe_shown({"task": "classify"})
    assert "momentum" in config.recipe_shown({"model": "timm:resnet18"})
    assert "lora_r" in config.recipe_shown({"model": "C:/models/llama"}) and "lora_r" in config.recipe_shown({})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("15min", 900), ("2 hours", 7200), ("1.5D", 129600), ("1 hr", 3600)],
)
def test_times_in_letters_or_words(text: str, seconds: float) -> None:
    assert config.seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "90", "0m", "5 weeks", "3mon", "-2h", "1h30m"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="expected a time such as 90s, 30m or 2h"):
        config.seconds(text)
