"""A trainer of the user's own: a command line or a Python function that trains on a file of rows, run once per trial.

    python train.py --data {data} --seed {seed} --out {out}      also {model} {lr} {epochs} {tokens}
    train.py:function                                            function(data=Path, seed=int, out=Path, ...)

It leaves in `{out}` what it trained, a PEFT adapter or a whole model, which our judges judge; or, with `--metric`, a
`metrics.json` with the number by which the user's own script judges it. A function is run as a command too, so both
share logs, failures and their end with ours.
"""

from __future__ import annotations

import ast
import inspect
import json
import math
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dataworth.errors import FormatError, NonsenseRefused, RequestError
from dataworth.judges.programs import files_among, filled, one_line, places_in, started
from dataworth.judges.trained import weights_in
from dataworth.outcome import ALL_ROWS, Outcome
from dataworth.recipe import ClassifierRecipe, Recipe
from dataworth.store.atomic import checksum, write_atomic
from dataworth.store.json_files import read_json

if TYPE_CHECKING:
    from dataworth import config
    from dataworth.proof.verdict import Arm
    from dataworth.records import Pool

NEEDED = ("data", "seed", "out")
OFFERED = ("model", "lr", "epochs", "tokens")
OUT, METRICS, RECORD = "out", "metrics.json", "command.json"
STDOUT, STDERR = "stdout.log", "stderr.log"
_FUNCTION = re.compile(r"(?P<file>[^{}]+\.py):(?P<name>\w+)")
_TAIL = 300
_SPENT = (".pt", ".pth", ".bin")
_CALL = """
import importlib, json, pathlib, sys
file, name, given = pathlib.Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
sys.path.insert(0, str(file.resolve().parent))
given.update({place: pathlib.Path(given[place]) for place in ("data", "out")})
getattr(importlib.import_module(file.stem), name)(**given)
"""


class TrainerFailed(NonsenseRefused):
    """The user's trainer left nothing to judge; whatever was in its way may be gone, so it is tried again."""


@dataclass(frozen=True)
class Metric:
    """The judge of a trial that the user's trainer judged itself: a number of the `metrics.json` it wrote."""

    name: str
    higher: Literal["better", "worse"] = "worse"

    @classmethod
    def parse(cls, text: str) -> Metric:
        """`NAME`, of which lower is better, or `NAME:higher`."""
        name, _, direction = text.rpartition(":")
        if name and direction in ("higher", "lower"):
            return cls(name, "better" if direction == "higher" else "worse")
        return cls(text)

    @property
    def unit(self) -> str:
        """Its name."""
        return self.name

    def read(self, out: Path) -> float:
        """Its value, which may be no finite number.

        Raises:
            NonsenseRefused: There is no such number.
        """
        path = out / METRICS
        if not path.is_file():
            raise NonsenseRefused(f"the training left no {METRICS} in {out}: expected one with {self.name!r}")
        try:
            found = read_json(path, "let the trainer write a JSON object of numbers")
        except FormatError as error:
            raise NonsenseRefused(str(error)) from None
        value = found.get(self.name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            has = ", ".join(found) or "nothing"
            raise NonsenseRefused(f"{path} has no number {self.name!r} (it has {has}); correct --metric or the trainer")
        return float(value)

    def __call__(self, trained: Any, rows: Sequence[Any]) -> Outcome:
        """The number as the trial's only one; `rows` are not read."""
        value = self.read(trained.left)
        if not math.isfinite(value):
            raise NonsenseRefused(f"its {self.name} is {value}")
        return Outcome(self.name, self.unit, self.higher, (ALL_ROWS,), np.array([value]), np.ones(1))


@dataclass(frozen=True)
class UserTrainer:
    """What `--train-command` names, with the metric by which it judges itself, if it does.

    Raises:
        RequestError: It is neither a command line with the places it needs nor a function that can be called.
    """

    spec: str
    metric: Metric | None = None

    def __post_init__(self) -> None:
        lacking = [f"{{{n}}}" for n in NEEDED if n not in self.takes]
        unknown = sorted(self.takes - {*NEEDED, *OFFERED})
        if lacking or unknown:
            what = f"lacks {', '.join(lacking)}" if lacking else f"has {{{unknown[0]}}}"
            raise RequestError(
                f"--train-command {self.spec!r} {what}: expected {{data}}, {{seed}} and {{out}}, and if it likes "
                f"{{{'}, {'.join(OFFERED)}}}; correct it"
            )

    @cached_property
    def takes(self) -> frozenset[str]:
        """The places it has filled in."""
        if self._function:
            return frozenset(_parameters(Path(self._function["file"]), self._function["name"]))
        if "{" not in self.spec:
            raise RequestError(
                f"--train-command {self.spec!r}: expected a command such as 'python train.py --data {{data}} --seed "
                "{seed} --out {out}', or file.py:function; correct it"
            )
        try:
            filled(self.spec, {})
        except ValueError as error:
            raise RequestError(f"--train-command {self.spec!r} can't be read ({error}); correct its quotes") from None
        return frozenset(places_in(self.spec))

    @property
    def _function(self) -> re.Match[str] | None:
        return _FUNCTION.fullmatch(self.spec)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files its line names: an edited trainer is another one."""
        if self._function:
            return (Path(self._function["file"]),)
        return files_among(filled(self.spec, dict.fromkeys(self.takes, "")))

    @cached_property
    def key(self) -> dict[str, Any]:
        """What makes two trainers one; read once, and it is an error if it changes while a proof runs."""
        return self._read_key()

    def _read_key(self) -> dict[str, Any]:
        return {"command": self.spec, "files": [checksum(path) for path in self.files]}

    def _refuse_edited(self) -> None:
        if self._read_key() != self.key:
            raise RequestError(
                f"--train-command {self.spec!r}: a file that it names changed while the proof ran: expected one "
                "trainer for all arms; put it back, or start again with another --run"
            )

    @property
    def registered(self) -> dict[str, Any]:
        """What a registration says of it."""
        metric = self.metric and {"name": self.metric.name, "higher": self.metric.higher}
        return {**self.key, "metric": metric}

    @property
    def plan_notes(self) -> list[str]:
        """What to know of the tokens in a plan."""
        if self.takes & {"epochs", "tokens"}:
            return []
        return ["tokens are those of one pass over the rows: the command decides how many it makes"]

    @property
    def no_search(self) -> str:
        """Why no learning rate is searched with it; empty if it may be."""
        if self.metric is not None:
            return f"no learning rate was searched: the only measure is {self.metric.name}, which also judges"
        if "lr" not in self.takes:
            return "no learning rate was searched: each arm trains at the command's own ({lr} would hand it over)"
        return ""

    def given(self, recipe: Recipe | ClassifierRecipe, tokens: int | None, model: str) -> dict[str, Any]:
        """What a trial fills in, places for files aside."""
        known = {"seed": recipe.seed, "model": model, "lr": recipe.lr, "epochs": recipe.epochs, "tokens": tokens}
        return {name: value for name, value in known.items() if name in self.takes and value is not None}

    def train(self, folder: Path, given: Mapping[str, Any], environ: Mapping[str, str]) -> None:
        """Train into `folder/out`, from nothing: what an interrupted training left is deleted.

        Of what it leaves, weights, their configuration and the metrics stay: optimizer states and further checkpoints
        are read by nobody.

        Args:
            folder: Where `out`, the logs and the record of the call lie.
            given: Values of its places, with `data`; the data are deleted when it has ended well.
            environ: Environment variables.

        Raises:
            TrainerFailed: It couldn't be started, ended with an error or a signal, or left nothing to judge.
            RequestError: A file that the command names changed since the proof began.
        """
        self._refuse_edited()
        for left in folder.glob(f"{OUT}*"):
            shutil.rmtree(left, ignore_errors=True)
        # A program whose worker was killed may write for some seconds more: into a folder that nobody reads.
        out, began = folder.resolve() / f"{OUT}-{os.getpid()}-{time.monotonic_ns()}", time.monotonic()
        out.mkdir(parents=True)
        words = self._words({**given, "out": str(out)})
        with (folder / STDOUT).open("wb") as told, (folder / STDERR).open("wb") as cried:
            try:
                with started(words, stdout=told, stderr=cried, env=self._environment(environ)) as process:
                    code = process.wait()
            except OSError as error:
                raise TrainerFailed(f"the training can't be started ({words[0]}: {error.strerror})") from None
        if code:
            raise TrainerFailed(_ending(code, folder))
        self._refuse_edited()
        self.check(out)
        _prune(out)
        out.rename(folder / OUT)
        _delete(Path(given["data"]))
        record = {"words": words, "seconds": time.monotonic() - began}
        write_atomic(folder / RECORD, json.dumps(record, indent=1).encode())

    def check(self, out: Path) -> None:
        """Make sure that a training left what is judged.

        Raises:
            TrainerFailed: It left no metric or no model.
        """
        try:
            self.metric.read(out) if self.metric else weights_in(out)
        except NonsenseRefused as nothing:
            raise TrainerFailed(str(nothing)) from None

    def left(self, folder: Path) -> bool:
        """Whether a finished training left what is judged now; one judged by its metric may have left no model."""
        try:
            self.check(folder / OUT)
        except TrainerFailed:
            return False
        return True

    def _words(self, places: Mapping[str, Any]) -> list[str]:
        if self._function:
            named = [self._function["file"], self._function["name"], json.dumps(places)]
            return [sys.executable, "-c", _CALL, *named]
        return filled(self.spec, places)

    def _environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """A function finds what this process finds; a command may have a Python of its own."""
        here = {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)} if self._function else {}
        return {**environ, **here}


def trainer_of(request: config.TrialRequest) -> UserTrainer | None:
    """The user's trainer of a request, checked against the rest of it; None for the trial trainer.

    Raises:
        RequestError: It isn't one, or lacks what the request wants of it.
    """
    if request.train_command is None:
        if request.metric is not None:
            raise RequestError(f"--metric {request.metric}: expected --train-command, whose metric it is; add it")
        return None
    trainer = UserTrainer(request.train_command, Metric.parse(request.metric) if request.metric else None)
    if request.protocol == "tokens" and "tokens" not in trainer.takes:
        raise RequestError(
            f"--protocol tokens with --train-command {trainer.spec!r}: expected {{tokens}} in it, by which it learns "
            "how many to train on; add it or drop --protocol"
        )
    if request.protocol == "epochs" and "{tokens}" in trainer.spec:
        raise RequestError(
            f"--train-command {trainer.spec!r} has {{tokens}}: expected --protocol tokens, which says how many; add it"
        )
    if trainer.metric and request.protect:
        raise RequestError(
            "--metric with --protect: expected one, as the untouched model has no such metric to compare with; drop one"
        )
    if "goal-only" in (getattr(request, "against", None) or ""):
        raise RequestError(
            "--against goal-only with --train-command: expected arms of pool rows, as steer rows may have another "
            "format than the pool; drop one"
        )
    return trainer


def spec_of(function: str | Callable[..., Any] | None) -> str | None:
    """`file.py:function` of a Python function, so that a fresh process can import it; a command is itself.

    Raises:
        RequestError: A lambda, a local function, a method, or one that isn't in a file.
    """
    if not callable(function):
        return function
    name = getattr(function, "__qualname__", "")
    try:
        file = inspect.getsourcefile(function)
    except TypeError:
        file = None
    if not name.isidentifier() or file is None or not Path(file).is_file() or not file.endswith(".py"):
        raise RequestError(
            f"train_command={function!r}: expected a function at the top of a .py file, which a fresh process can "
            "import; move it there"
        )
    return f"{file}:{name}"


def refuse_fractions(weights: Sequence[float], name: str = "a trial") -> None:
    """Refuse weights that can't be written as copies.

    Raises:
        RequestError: A weight isn't a whole number.
    """
    odd = next((w for w in weights if w != round(w)), None)
    if odd is not None:
        raise RequestError(
            f"{name} has a row of weight {odd:g}: a trainer of your own reads rows and no weights; expected whole "
            "weights, which are written as copies; prove it without --train-command, or give its rows without weights, "
            "which are another subset"
        )


def write_rows(pool: Pool, ids: Sequence[str], weights: Sequence[float], folder: Path) -> Path:
    """Write a trial's rows as `select -o` would; a row of weight 2 stands there twice.

    Returns:
        A file named like the pool's, or a folder where the pool has several files that can't be one.

    Raises:
        RequestError: A weight isn't a whole number.
    """
    from dataworth.formats import write_subset
    from dataworth.formats.paths import stem_of

    refuse_fractions(weights)
    copies = np.rint(weights).astype(np.int64) if weights else None
    files = pool.files
    joined = len(files) == 1 or ({f.format for f in files} == {"jsonl"} and len({f.schema for f in files}) == 1)
    first = files[0].path
    suffix = first.name.removeprefix(stem_of(first)) if joined else ""
    path = folder.resolve() / f"data{suffix}"
    folder.mkdir(parents=True, exist_ok=True)
    write_subset(pool, [pool.position[i] for i in ids], path, copies=copies)
    return path


def environment_of(environ: Mapping[str, str], device: str, alone: bool) -> dict[str, str]:
    """The user's own environment; where trials run side by side, each is held to its worker's core or GPU."""
    if alone:
        return dict(environ)
    if device.startswith("cuda:"):
        number, seen = int(device[5:]), environ.get("CUDA_VISIBLE_DEVICES")
        return {**environ, "CUDA_VISIBLE_DEVICES": seen.split(",")[number] if seen else str(number)}
    return {"OMP_NUM_THREADS": "1", **environ}


def learns(trainer: UserTrainer | None, what: str) -> bool:
    """Whether the trainer learns the recipe's `lr` or `epochs`; one of the user's own may have its own."""
    return trainer is None or what in trainer.takes


def seedless(arms: Iterable[Arm]) -> list[str]:
    """A line for each arm whose trials differ in their seed alone and came out all the same."""
    same = [a.name for a in arms if not a.redrawn and len(a.cost_R) > 1 and not np.ptp(a.cost_R)]
    return [
        f"{n}: all its trials gave one number: if {{seed}} changes nothing, its interval is too narrow" for n in same
    ]


def seconds_of(folder: Path) -> float:
    """How long a finished training took."""
    return float(read_json(folder / RECORD, f"delete {folder}", {"seconds": float})["seconds"])


def _parameters(file: Path, name: str) -> list[str]:
    """The parameters of a function, read from its source: nothing of the user's runs here.

    Raises:
        RequestError: No such function, or one that wants more than it would be given.
    """
    try:
        body = ast.parse(file.read_text(encoding="utf-8")).body
    except (OSError, SyntaxError, UnicodeDecodeError) as error:
        raise RequestError(f"--train-command {file}:{name}: {one_line(str(error))}; correct it") from None
    found = next((n for n in body if isinstance(n, ast.FunctionDef) and n.name == name), None)
    if found is None:
        raise RequestError(f"--train-command {file}:{name}: the file has no function {name!r} at its top; correct it")
    args = found.args
    plain = [*args.posonlyargs, *args.args]
    optional = {a.arg for a in plain[len(plain) - len(args.defaults) :]}
    optional |= {a.arg for a, default in zip(args.kwonlyargs, args.kw_defaults, strict=True) if default is not None}
    names = [a.arg for a in (*plain, *args.kwonlyargs)]
    if args.kwarg:
        names += [n for n in NEEDED if n not in names]
    return [n for n in names if n in (*NEEDED, *OFFERED) or n not in optional]


def _ending(code: int, folder: Path) -> str:
    """How a training ended, and the last thing it cried."""
    if code < 0:
        return f"the training was killed ({signal.Signals(-code).name})"
    lines = (folder / STDERR).read_text(errors="replace").splitlines()
    last = next((one_line(line)[-_TAIL:] for line in reversed(lines) if line.strip()), "(it said nothing)")
    return f"the training exited with {code}: {last} (all of it in {folder / STDERR})"


def _prune(out: Path) -> None:
    try:
        weights = weights_in(out)
    except NonsenseRefused:  # it was judged by its metric, and left no model
        weights = out
    for path in list(out.rglob("*")):
        inside = path.parent == weights and path.suffix not in _SPENT
        if path.is_file() and path.name != METRICS and not inside:
            path.unlink()


def _delete(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()
