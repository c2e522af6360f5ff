"""Goals: one file of steer rows, or `goal.yaml` with named subtasks.

    subtasks:
      - name: maths
        steer: gsm8k.jsonl:0-32        # readable rows 0 to 31 (half-open, counted from 0)
        tune: gsm8k.jsonl:32-232       # optional
        judge: gsm8k.jsonl:232-732     # optional, sealed: not read here
        map: {prompt: question, completion: answer}
        judge_kind: loss               # loss, choice, ppl or command
      - name: common-sense
        steer: csqa.jsonl
        choices: {query: query, choices: choices, gold: gold}

Paths are relative to the file that names them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from dataworth.errors import FormatError, RequestError
from dataworth.formats.mapping import nearest
from dataworth.formats.paths import find_files, stem_of
from dataworth.formats.pool import open_pool, take_rows
from dataworth.records import Goal, Pool, Sealed, Subtask

JUDGE_KINDS = ("loss", "choice", "ppl", "command")
_KEYS = ("name", "steer", "tune", "judge", "map", "judge_kind", "choices")
_CHOICE_ROLES = ("query", "choices", "gold")
_SLICE = re.compile(r"(?P<path>.+):(?P<first>\d+)-(?P<last>\d+)\Z", re.DOTALL)

Opener = Callable[..., Pool]


def open_goal(path: str | Path, *, mapping: Mapping[str, str] | None = None, **reading: Any) -> Goal:
    """Read a goal: its steer and tune rows; judge rows stay sealed.

    Args:
        path: A pool file, all of whose rows steer, or a `.yaml`.
        mapping: Role -> column expression for a single file; a `.yaml` has its own under `map`.
        **reading: Further arguments of `open_pool` (`duplicate_keys`, `max_row_bytes`, `rejects`, `task`).

    Returns:
        The goal; a single file is one subtask named after it.

    Raises:
        RequestError: An unknown key (with the nearest one), a missing file, an empty slice.
        FormatError: A file that can't be read, or has no readable steer row.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() not in (".yaml", ".yml"):
        steer = open_pool(path, mapping=mapping, **reading)
        return Goal((Subtask(stem_of(path) if path.is_file() else path.name, steer),))
    if mapping:
        raise RequestError(
            f"{path} names its own columns under `map`: expected no mapping beside it; put it into the file"
        )
    content = _read_yaml(path)
    _check_keys(content, ("subtasks",), f"{path}")
    entries = content.get("subtasks")
    if not isinstance(entries, list) or not entries:
        raise RequestError(
            f"{path}: subtasks is {entries!r}, expected a list with at least one; add a name and a steer file"
        )
    return Goal(tuple(_subtask(path, n, entry, reading) for n, entry in enumerate(entries, 1)))


def goal_files(path: str | Path) -> list[Path]:
    """Every file that a goal is read from, the `.yaml` itself among them, judge files too (named, not opened).

    Raises:
        RequestError: A file that isn't there, or a `.yaml` that isn't one.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() not in (".yaml", ".yml"):
        return find_files(path)
    entries = _read_yaml(path).get("subtasks")
    entries = [e for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []
    named = [e[key] for e in entries for key in ("steer", "tune", "judge") if isinstance(e.get(key), str)]
    return [path, *dict.fromkeys(f for name in named for f in find_files(_slice_of(path, name)[0]))]


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise RequestError(f"{path} is not here: expected a goal file; correct its path")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FormatError(f"{path} is not plain YAML ({' '.join(str(error).split())}); repair it") from None
    if not isinstance(content, dict):
        raise FormatError(f"{path} holds no mapping: expected `subtasks:` with a list; repair it")
    return content


def _check_keys(entry: Mapping[Any, Any], known: tuple[str, ...], where: str) -> None:
    for key in entry:
        if key not in known:
            raise RequestError(f"{where}: unknown key {key!r}; {nearest(str(key), known)}")


def _subtask(goal: Path, number: int, entry: Any, reading: dict[str, Any]) -> Subtask:
    where = f"{goal}, subtask {number}"
    if not isinstance(entry, dict):
        raise RequestError(f"{where} is {entry!r}, expected keys such as name and steer; repair it")
    _check_keys(entry, _KEYS, where)
    for key in ("name", "steer"):
        if not isinstance(entry.get(key), str) or not entry[key]:
            raise RequestError(f"{where}: {key} is {entry.get(key)!r}, expected a word; add it")
    kind = entry.get("judge_kind", "choice" if "choices" in entry else "loss")
    if kind not in JUDGE_KINDS:
        raise RequestError(f"{where}: judge_kind is {kind!r}; {nearest(str(kind), JUDGE_KINDS)}")
    tune, judge = entry.get("tune"), entry.get("judge")
    mapping = _mapping(entry, where)

    def options(part: str) -> dict[str, Any]:
        """What `open_pool` is told; every file has rejects of its own."""
        rejects = reading.get("rejects")
        own = rejects.with_name(f"{rejects.stem}-{number}-{part}{rejects.suffix}") if rejects else None
        return {**reading, "mapping": mapping, "rejects": own}

    return Subtask(
        name=entry["name"],
        steer=_slice(goal, entry["steer"], where)(**options("steer")),
        tune=_slice(goal, tune, where)(**options("tune")) if tune is not None else None,
        judge=_seal(goal, judge, where, options("judge")) if judge is not None else None,
        judge_kind=kind,
    )


def _mapping(entry: Mapping[str, Any], where: str) -> dict[str, str] | None:
    found: dict[str, str] = {}
    for key in ("map", "choices"):
        value = entry.get(key, {})
        if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
            raise RequestError(f"{where}: {key} is {value!r}, expected role: column pairs; correct it")
        if key == "choices":
            _check_keys(value, _CHOICE_ROLES, f"{where}, choices")
        found.update(value)
    return found or None


def _seal(goal: Path, named: Any, where: str, reading: dict[str, Any]) -> Sealed:
    opener = _slice(goal, named, where)
    return Sealed(goal.parent / str(named), partial(opener, **reading))


def _slice(goal: Path, named: Any, where: str) -> Opener:
    """`FILE` or `FILE:a-b` -> a function that opens it; the file must be there, but isn't read yet."""
    if not isinstance(named, str):
        raise RequestError(f"{where}: {named!r} is not a file name: expected FILE or FILE:a-b; correct it")
    path, rows = _slice_of(goal, named)
    find_files(path)
    if rows is None:
        return partial(open_pool, path)
    first, last = rows
    if first >= last:
        raise RequestError(
            f"{where}: {named} is an empty slice: expected FILE:a-b with a < b (rows a to b-1); correct it"
        )
    return partial(_open_slice, path, first, last)


def _slice_of(goal: Path, named: str) -> tuple[Path, tuple[int, int] | None]:
    """`FILE:a-b` as (path, (a, b)), `FILE` as (path, None)."""
    match = None if (goal.parent / named).exists() else _SLICE.match(named)
    if match is None:
        return goal.parent / named, None
    return goal.parent / match["path"], (int(match["first"]), int(match["last"]))


def _open_slice(path: Path, first: int, last: int, **reading: Any) -> Pool:
    pool = open_pool(path, **reading)
    if last > len(pool):
        raise RequestError(
            f"{path}:{first}-{last} reaches outside its {len(pool):,} readable rows; expected at most {len(pool)}"
        )
    return take_rows(pool, first, last)
