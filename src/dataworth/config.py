"""One frozen dataclass per verb: flag = Python argument = YAML key; a field's docstring is its help text."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import yaml

from dataworth.errors import RequestError, nearest
from dataworth.recipe import CLASSIFIER_LIBRARIES, CLASSIFIERS, ClassifierRecipe, Recipe


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What every verb over a pool takes."""

    pool: tuple[str, ...]
    """Files, globs, folders: .jsonl .json .csv .parquet .arrow .npz, a saved `datasets` folder, images, .gz/.zst."""
    goal: str | None = None
    """What the model should become good at: examples (.jsonl, .npz, a folder of images), or goal.yaml with subtasks."""
    model: str | None = None
    """The learner: a folder with safetensors, a .gguf file, a hub id, smollm2; for classes linear, mlp, resnet."""
    dynamics: tuple[str, ...] = ()
    """What a training loop of yours recorded of rows with a class (dataworth.dynamics.Recorder), a file a net."""
    encoder: str | None = None
    """Embeds the rows in the learner's place: a sentence-transformers or model2vec folder; ssl: trained on images."""
    map: tuple[str, ...] = ()
    """Which columns play which role, e.g. prompt=question completion=rationale+answer."""
    goal_map: tuple[str, ...] = ()
    """The same for the goal's files."""
    task: str | None = None
    """sft or rl, for rows that could serve as either (question and answer); classify, for texts with a label."""
    recipe: str | None = None
    """YAML file with the training recipe; `dataworth plan --show-recipe` prints the one in force."""
    mask_like: str | None = None
    """Which tokens carry loss: assistant, trl, axolotl, llamafactory or verl."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    workers: int | None = None
    """Worker processes: one per core (or per GPU) unless told; 0 works in this process."""
    keep_near_goal: bool = False
    """Keep rows that nearly equal goal rows; recorded with the run."""
    duplicate_keys: str = "reject"
    """A JSON row with a repeated key: reject it, or take the last."""
    max_rejected: float = 0.01
    """Exit 3 when a larger share of the rows can't be read."""
    rewarm: bool = False
    """Train a new warm-up on the pool as it is now."""
    run: str | None = None
    """The run folder; by default runs/<verb>-<pool>-<hash>."""
    seed: int = 0
    """Seed of every random choice."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodRequest(Request):
    """What every verb over a pool and a method takes."""

    method: str | None = None
    """Score to use (see docs/methods.md). Default: less with a model and a goal, bm25 with a goal only."""
    option: tuple[str, ...] = ()
    """Option of the method as NAME=VALUE, repeatable: warmup=0.1, optimizer=sgd, reduce=zmax."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreRequest(MethodRequest):
    """Score every row of a pool; several methods may be given, joined by commas."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SelectRequest(MethodRequest):
    """Pick the rows worth training on and write them in the pool's own format."""

    keep: str = "5%"
    """How much to keep: rows (200), a share (5% or 0.05), tokens (200ktok), or auto: as few as --margin allows."""
    margin: float | None = None
    """With --keep auto: how much worse than training on everything doesn't matter, in the goal's unit."""
    pick: str = "top_k"
    """How to pick: top_k, random, quota, diverse, facility_location and more (see docs/methods.md)."""
    policy: str | None = None
    """auto: keep the end of the score on which a pilot training of this size does better (two more trainings)."""
    out: str | None = None
    """Where to write the picked rows; a folder when the pool has several files."""
    portable: bool = False
    """Copy the arrays that the run used from the cache into the run folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanRequest(SelectRequest):
    """Price the request before long work, beside the price of training on everything."""

    calibrate: bool = True
    """Time the machine on a sample of the pool (about a minute); without it no times are given."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialRequest(Request):
    """What every verb that trains on subsets takes."""

    subset: tuple[str, ...] = ()
    """A select's run folder, a file of the pool's rows, or a method: less@5% selects anew per trial. Or several."""
    seeds: int = 5
    """Trials per arm, each with its own seed; random rows are drawn anew, twice a seed to compare a file with them."""
    looks: bool = False
    """Look at 3, 5 and 8 seeds (whatever --seeds says), and stop at the first look where everything is decided."""
    margin: float | None = None
    """The difference that doesn't matter, in the goal's unit: allows the verdict 'as good as (within it)'."""
    protocol: str = "epochs"
    """epochs: every arm trains for the recipe's epochs; tokens: every arm on as many tokens as the subset's epochs."""
    lr_search: bool = True
    """Try half and twice the recipe's learning rate for every arm on the goal's tune rows, and on from an end."""
    budget: str | None = None
    """Wall time on this machine, as 30m or 2h: arms and seeds are cut to what it pays for."""
    train_command: str | None = None
    """Your trainer: a command with {data} {seed} {out} (also {model} {lr} {epochs} {tokens}), or file.py:function."""
    metric: str | None = None
    """Judge by this number of your trainer's {out}/metrics.json, lower being better (NAME:higher if it isn't)."""
    judge: str | None = None
    """Judge of a goal that is one file: loss, ppl, module:function, or "command {model} {rows} {out}"."""
    protect: tuple[str, ...] = ()
    """A skill that must not regress: NAME=FILE, NAME=FILE:kind (loss, choice, ppl, ...) or :kind:margin; repeatable."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProveRequest(TrialRequest):
    """Train on a subset, on random rows, and on more, and say with intervals whether the subset is better."""

    against: str | None = None
    """Compared with (random,full): random-tokens, random-source, goal-only, longest, or scores by name (bm25, less)."""
    curve: bool = True
    """Train on random rows of growing sizes, to say how many random rows the subset is worth."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorthRequest(TrialRequest):
    """Say how many random rows each of several subsets is worth, in all and per row, and which is worth more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DiagnoseRequest(Request):
    """Say by small pilots whether data or model is the bottleneck, and what more rows would bring."""

    budget: str = "30m"
    """Wall time on this machine, as 30m or 2h: it decides how large the pilots are."""
    chains: int = 3
    """Nested series of random rows; their scatter is the interval."""
    sizes: str | None = None
    """Rows of the pilots, as 125,250,500,1000, instead of five halvings of what the budget pays for."""
    larger: str | None = None
    """The larger learner to compare with: lora_r=32, width=64, another model, or none. Default: 4x rank or 2x width."""
    target: float | None = None
    """A loss to reach (or a share of errors): how many rows does it take?"""
    capacity: bool = False
    """Count the bits that training is to hold, against what the trained parameters can."""
    reference: str | None = None
    """compressor: count bits by a compressor, an upper bound, instead of by the learner before training."""
    training_log: str | None = None
    """A .jsonl or .csv with columns step, train_accuracy, val_accuracy: look for delayed generalisation in it."""


VERBS: dict[str, type[Request]] = {
    "plan": PlanRequest,
    "score": ScoreRequest,
    "select": SelectRequest,
    "prove": ProveRequest,
    "worth": WorthRequest,
    "diagnose": DiagnoseRequest,
}

R = TypeVar("R", bound=Request)


def field_help(cls: type) -> dict[str, str]:
    """Field name -> the docstring under it, for a dataclass and its bases."""
    out: dict[str, str] = {}
    for base in reversed(cls.__mro__[:-1]):
        body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        assert isinstance(body, ast.ClassDef)
        for node, after in zip(body.body, body.body[1:], strict=False):
            if (
                isinstance(node, ast.AnnAssign)
                and isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
            ):
                out[ast.unparse(node.target)] = str(after.value.value)
    return out


def build(cls: type[R], values: Mapping[str, Any]) -> R:
    """A request from plain values (flags, keyword arguments or YAML).

    Raises:
        RequestError: An unknown key (with the nearest name), a missing pool, or a value of the wrong type.
    """
    hints = get_type_hints(cls)
    clean: dict[str, Any] = {}
    for key, value in values.items():
        if key not in hints:
            raise RequestError(f"key {key!r} is unknown to {cls.__name__}; {nearest(key, sorted(hints), 'known keys')}")
        clean[key] = _coerce(key, value, hints[key])
    if not clean.get("pool"):
        raise RequestError("no pool was given: expected at least one file, glob or folder")
    return cls(**clean)


def _coerce(key: str, value: Any, hint: Any) -> Any:
    if hint == tuple[str, ...]:
        if isinstance(value, Mapping):
            return tuple(f"{k}={v}" for k, v in value.items())
        parts = value if isinstance(value, (list, tuple)) else () if value is None else (value,)
        return tuple(str(p) for p in parts)
    if value is None:
        return None
    base = next((t for t in (bool, int, float, str) if hint == t or hint == (t | None)), None)
    if base is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if base is str and isinstance(value, (Path, int, float)) and not isinstance(value, bool):
        return str(value)
    if base is not None and type(value) is not base:
        raise RequestError(f"{key}={value!r}: expected {base.__name__}; correct the value")
    return value


def seconds(text: str) -> float:
    """Seconds of `90s`, `30m`, `2h` or `1.5d`; also of `15min` or `2 hours`.

    Raises:
        RequestError: Anything else.
    """
    units = r"s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?"
    match = re.fullmatch(rf"(\d+(?:\.\d+)?)\s*({units})", text.strip().lower())
    if not match or not float(match[1]) > 0:
        raise RequestError(f"budget {text!r}: expected a time such as 90s, 30m or 2h; correct --budget")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2][0]]


def load_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping from a file.

    Raises:
        RequestError: The file is missing, isn't YAML, repeats a key, or isn't a mapping.
    """
    if not path.is_file():
        raise RequestError(f"config file {path} isn't there: expected a YAML file; correct the path")
    try:
        found = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RequestError(f"config file {path} isn't valid YAML ({str(error).splitlines()[0]}); correct it") from error
    if not isinstance(found, dict):
        raise RequestError(f"config file {path} holds {type(found).__name__}: expected a mapping of keys to values")
    return found


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which a repeated key is an error instead of a silent overwrite."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(k, deep=deep) for k, _ in node.value]
        repeated = [k for k in keys if keys.count(k) > 1]
        if repeated:
            raise yaml.YAMLError(f"key {repeated[0]!r} is given twice")
        return super().construct_mapping(node, deep=deep)


def load_recipe(path: str | None, overrides: Mapping[str, Any]) -> Recipe:
    """The recipe in force: defaults, then the file, then flags that were given."""
    values = load_yaml(Path(path)) if path else {}
    values.update({k: v for k, v in overrides.items() if v is not None})
    return Recipe.from_dict(values)


def load_classifier_recipe(path: str | None) -> ClassifierRecipe:
    """The same for rows with a class."""
    return ClassifierRecipe.from_dict(load_yaml(Path(path)) if path else {})


def recipe_shown(given: Mapping[str, Any]) -> dict[str, Any]:
    """Every field of the recipe in force for flags, by what `--model` and `--task` say the learner is."""
    model = str(given.get("model") or "")
    if given.get("task") == "classify" or model in CLASSIFIERS or model.partition(":")[0] in CLASSIFIER_LIBRARIES:
        return load_classifier_recipe(given.get("recipe")).to_dict()
    return load_recipe(given.get("recipe"), {"mask_like": given.get("mask_like")}).to_dict()


def pairs(items: tuple[str, ...], flag: str) -> dict[str, str]:
    """`("a=b", "c=d")` as a dict.

    Raises:
        RequestError: An item without `=` or a repeated name.
    """
    out: dict[str, str] = {}
    for item in items:
        name, sign, value = item.partition("=")
        if not sign or not name or not value:
            raise RequestError(f"{flag} {item!r}: expected NAME=VALUE")
        if name in out:
            raise RequestError(f"{flag} {name!r} is given twice: give it once")
        out[name] = value
    return out


def to_dict(request: Request) -> dict[str, Any]:
    """A request as plain JSON values, every field."""
    out = dataclasses.asdict(request)
    return {k: list(v) if isinstance(v, tuple) else v for k, v in out.items()}
