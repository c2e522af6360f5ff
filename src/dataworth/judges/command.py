"""A judge of the user's own: a Python function, or a command line in any language.

    module:function                         function(model: str, rows: list[dict]) -> number, or {id: number}
    python judge.py {model} {rows} {out}    writes to {out} one {"value": x}, or JSON lines {"id": ..., "value": ...}

`model` is a folder that transformers loads as a whole model (a trained adapter is merged into it; it's deleted after
the trial). A row is `{"id", "messages": [{"role", "content"}]}`, `{"id", "text"}` for plain text, with `choices` and
`gold` for multiple choice; `{rows}` holds them as JSON lines. A higher value is better: give an error its minus sign.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Literal

import numpy as np
import orjson

from dataworth.errors import RequestError
from dataworth.judges.programs import files_among, filled, one_line, started
from dataworth.judges.trained import Trained
from dataworth.outcome import ALL_ROWS, Outcome
from dataworth.records import Example

_FUNCTION = re.compile(r"(?P<module>[\w.]+):(?P<function>\w+)")
_TAIL = 300
NO_VALUE = "the judge gave it no value"


@dataclass(frozen=True)
class Command:
    """The judge that `spec` names.

    Args:
        spec: `module:function`, or a command line with `{rows}`, `{out}` and most often `{model}` in it.
        timeout: Seconds a command may take; a function isn't timed.

    Raises:
        RequestError: `spec` is neither.
    """

    spec: str
    timeout: float = 3600.0
    unit: ClassVar[str] = "value"
    higher: ClassVar[Literal["better", "worse"]] = "better"

    def __post_init__(self) -> None:
        if not _FUNCTION.fullmatch(self.spec) and not ("{rows}" in self.spec and "{out}" in self.spec):
            raise RequestError(
                f"judge {self.spec!r}: expected loss, choice, choice_norm, ppl, module:function or a command such as "
                "'python judge.py {model} {rows} {out}'; correct the judge"
            )

    @property
    def name(self) -> str:
        """The spec itself."""
        return self.spec

    @property
    def files(self) -> tuple[Path, ...]:
        """Files it is made of, as far as the spec names them: an edited judge is another one."""
        function = _FUNCTION.fullmatch(self.spec)
        if function:
            with _working_folder_importable():
                try:
                    place = importlib.util.find_spec(function["module"])
                except ImportError as error:
                    raise RequestError(
                        f"judge {self.spec} can't be imported: {one_line(str(error))}; correct it"
                    ) from error
            return (Path(place.origin),) if place and place.origin and Path(place.origin).is_file() else ()
        return files_among(self._words({"model": "", "rows": "", "out": ""}))

    def _words(self, places: Mapping[str, str]) -> list[str]:
        try:
            return filled(self.spec, places)
        except ValueError as error:
            raise RequestError(f"judge {self.spec!r} can't be read ({error}); correct its quotes") from None

    def __call__(self, trained: Trained, rows: Sequence[Example]) -> Outcome:
        """Run the judge on the rows.

        Raises:
            RequestError: It failed, took too long, or gave something that isn't what it should be.
        """
        function = _FUNCTION.fullmatch(self.spec)
        given = self._call(_imported(**function.groupdict()), trained, rows) if function else self._run(trained, rows)
        return self._outcome(given, rows)

    def _call(self, function: Callable[..., Any], trained: Trained, rows: Sequence[Example]) -> Any:
        model = str(trained.folder)
        try:
            return function(model, [as_dict(row) for row in rows])
        except Exception as error:
            raise RequestError(f"judge {self.spec} failed: {type(error).__name__}: {one_line(str(error))}") from error

    def _run(self, trained: Trained, rows: Sequence[Example]) -> Any:
        with TemporaryDirectory(prefix="dataworth-judge-", dir=trained.scratch) as aside:
            places = {"model": str(trained.folder), "rows": f"{aside}/rows.jsonl", "out": f"{aside}/out.jsonl"}
            Path(places["rows"]).write_bytes(b"".join(json.dumps(as_dict(row)).encode() + b"\n" for row in rows))
            self._wait(self._words(places))
            return self._read(Path(places["out"]))

    def _wait(self, words: list[str]) -> None:
        try:
            with started(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
                told, _ = process.communicate(timeout=self.timeout)
        except OSError as error:
            raise RequestError(
                f"judge {self.spec!r} can't be started ({error.strerror}); correct its command"
            ) from None
        except subprocess.TimeoutExpired:
            raise RequestError(f"judge {self.spec!r} took longer than {self.timeout:g} s; speed it up") from None
        if process.returncode:
            tail = one_line(told.decode(errors="replace")[-_TAIL:])
            raise RequestError(f"judge {self.spec!r} exited with {process.returncode}: {tail or '(it said nothing)'}")

    def _read(self, out: Path) -> Any:
        """A number, or id -> number, from the file the command wrote."""
        try:
            lines = [orjson.loads(line) for line in out.read_bytes().splitlines() if line.strip()]
        except OSError:
            raise RequestError(f"judge {self.spec!r} wrote no {{out}} file; let it write one") from None
        except orjson.JSONDecodeError as error:
            raise RequestError(f"judge {self.spec!r} wrote something that is not JSON lines ({error})") from None
        if len(lines) == 1 and isinstance(lines[0], dict) and "id" not in lines[0]:
            return lines[0].get("value")
        if not all(isinstance(line, dict) and {"id", "value"} <= set(line) for line in lines):
            raise RequestError(f'judge {self.spec!r}: expected one {{"value": x}} or lines with "id" and "value"')
        if len({line["id"] for line in lines}) < len(lines):
            raise RequestError(f"judge {self.spec!r} gave one row two values; give each row one")
        return {line["id"]: line["value"] for line in lines}

    def _outcome(self, given: Any, rows: Sequence[Example]) -> Outcome:
        values = dict(given) if isinstance(given, Mapping) else {ALL_ROWS: given}
        for row_id, value in values.items():
            if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not math.isfinite(value):
                raise RequestError(f"judge {self.spec!r} gave {row_id} {value!r}: expected a finite number")
        if not isinstance(given, Mapping):
            return self._judged(values, {}, {"rows": len(rows)})
        known = {row.id for row in rows}
        strange = next((i for i in values if i not in known), None)
        if strange is not None:
            raise RequestError(
                f"judge {self.spec!r} gave a value to {strange!r}, which is no row's id; use the ids given"
            )
        held = {row.id: values[row.id] for row in rows if row.id in values}
        return self._judged(held, {row.id: NO_VALUE for row in rows if row.id not in values}, {})

    def _judged(self, values: Mapping[str, Any], unjudged: dict[str, str], counts: dict[str, int]) -> Outcome:
        value_Q = np.array(list(values.values()), dtype=np.float64)
        return Outcome(
            self.name, self.unit, self.higher, tuple(values), value_Q, np.ones_like(value_Q), unjudged, counts
        )


def as_dict(row: Example) -> dict[str, Any]:
    """A row as a user's judge sees it."""
    seen: dict[str, Any] = {"id": row.id}
    if row.kind == "text":
        return {**seen, "text": row.text}
    seen["messages"] = [{"role": m.role, "content": m.content} for m in row.messages]
    return {**seen, "choices": list(row.choices), "gold": row.gold} if row.choices else seen


@contextmanager
def _working_folder_importable() -> Iterator[None]:
    """Modules in the working folder are found, as `python script.py` there would."""
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def _imported(module: str, function: str) -> Callable[..., Any]:
    """The user's function; modules in the working folder are found too."""
    with _working_folder_importable():
        try:
            found = getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError) as error:
            raise RequestError(
                f"judge {module}:{function} can't be imported: {one_line(str(error))}; correct it"
            ) from error
    if not callable(found):
        raise RequestError(f"judge {module}:{function} is no function; name one")
    made: Callable[..., Any] = found
    return made
