"""Goals: one file of steer rows, or `goal.yaml` with named subtasks.

    subtasks:
      - name: maths
        steer: gsm8k.jsonl:0-32        # readable rows 0 to 31 (half-open, counted from 0); selection needs it
        tune: gsm8k.jsonl:32-232       # optional
        judge: gsm8k.jsonl:232-732     # optional, sealed: not read here
        map: {prompt: question, completion: answer}
        judge_kind: loss               # loss, choice, choice_norm, ppl, accuracy (classes), or your own (docs/goals.md)
      - name: common-sense
        steer: csqa.jsonl
        choices: {query: question, choices: [A, B, C, D], gold: answer}
    protected:                         # skills that must not regress; only judged, never steered by
      - name: wikipedia
        judge: wiki.jsonl
        judge_kind: ppl
        margin: 0.02                   # loss of skill still accepted, in the judge's unit

Paths are relative to the file that names them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from dataworth.errors import DataworthError, FormatError, RequestError, nearest
from dataworth.formats.paths import find_files, stem_of
from dataworth.formats.pool import no_rows, open_pool, take_rows
from dataworth.records import Goal, Pool, Protected, Sealed, Subtask

JUDGE_KINDS = ("loss", "choice", "choice_norm", "ppl", "accuracy")
_KEYS = ("name", "steer", "tune", "judge", "map", "judge_kind", "choices")
_PROTECTED_KEYS = ("name", "judge", "judge_kind", "margin", "map", "choices")
_OWN_JUDGE = re.compile(r"[\w.]+:\w+|(?=.*\{rows\}).*\{out\}.*", re.DOTALL)
_PROTECT = re.compile(r"(?P<name>[^=]+)=(?P<file>.+?)(?::(?P<kind>[a-z_]+)(?::(?P<margin>[\d.e-]+))?)?", re.DOTALL)
_PARTS = ("steer", "tune", "judge")
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
    _check_keys(content, ("subtasks", "protected"), f"{path}")
    entries, skills = content.get("subtasks"), content.get("protected", [])
    if not isinstance(entries, list) or not entries:
        raise RequestError(
            f"{path}: subtasks is {entries!r}, expected a list with at least one; add a name and a steer file"
        )
    if not isinstance(skills, list):
        raise RequestError(f"{path}: protected is {skills!r}, expected a list of names with judge files; repair it")
    subtasks = tuple(_subtask(path, n, entry, reading) for n, entry in enumerate(entries, 1))
    usual = "accuracy" if all(sub.judge_kind == "accuracy" or _classes(sub) for sub in subtasks) else "loss"
    return Goal(subtasks, tuple(_protected(path, n, entry, reading, usual) for n, entry in enumerate(skills, 1)))


def protect(flag: str, usual: str = "loss", **reading: Any) -> Protected:
    """A protected skill from `NAME=FILE`, `NAME=FILE:kind` or `NAME=FILE:kind:margin`; `FILE:a-b` is some of its rows.

    Args:
        flag: As it was typed.
        usual: The kind where none is told.
        **reading: Further arguments of `open_pool`.

    Raises:
        RequestError: Another form, an unknown kind (with the nearest), or a file that isn't here.
    """
    found = _PROTECT.fullmatch(flag)
    if found is None:
        raise RequestError(
            f"--protect {flag!r}: expected NAME=FILE, NAME=FILE:kind or NAME=FILE:kind:margin, such as "
            "wiki=wiki.jsonl:ppl:0.2"
        )
    where, kind = f"--protect {found['name']}", found["kind"] or usual
    if kind not in JUDGE_KINDS:
        raise RequestError(f"{where}: the kind is {kind!r}; {nearest(kind, JUDGE_KINDS)}")
    sealed = _seal(Path("--protect"), str(Path(found["file"]).expanduser()), where, reading)
    return Protected(found["name"], sealed, kind, _margin(found["margin"], where))


def goal_files(path: str | Path) -> list[Path]:
    """Every file that a goal is read from, the `.yaml` itself among them, judge files too (named, not opened).

    Raises:
        RequestError: A file that isn't there, or a `.yaml` that isn't one.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() not in (".yaml", ".yml"):
        return find_files(path)
    content = _read_yaml(path)
    lists = [content.get(key) for key in ("subtasks", "protected")]
    entries = [e for found in lists if isinstance(found, list) for e in found if isinstance(e, dict)]
    named = [e[key] for e in entries for key in _PARTS if isinstance(e.get(key), str)]
    return [path, *dict.fromkeys(f for name in named for f in _files(path, _slice_of(path, name)[0]))]


def whole_of(part: Path) -> Path | None:
    """The `goal.yaml` beside a file that steers or tunes by all of it and judges by another; None without one."""
    whole = part.parent / "goal.yaml"
    try:
        entries = _read_yaml(whole).get("subtasks")
    except (DataworthError, OSError):
        return None
    for entry in entries if isinstance(entries, list) else ():
        told = entry if isinstance(entry, dict) else {}
        at = {key: (whole.parent / told[key]).resolve() for key in _PARTS if isinstance(told.get(key), str)}
        if part.resolve() in (at.get("steer"), at.get("tune")) and part.resolve() != at.get("judge", part.resolve()):
            return whole
    return None


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
    _check_entry(entry, _KEYS, ("name",), where)
    steer, tune, judge = (entry.get(part) for part in _PARTS)
    if steer is None and judge is None:
        raise RequestError(f"{where}: neither steer nor judge: expected rows to select by or to judge by; add a file")
    options = partial(_options, reading, _mapping(entry, where))
    opened = Subtask(
        name=entry["name"],
        steer=_slice(goal, steer, where)(**options(f"{number}-steer")) if steer is not None else no_rows(),
        tune=_slice(goal, tune, where)(**options(f"{number}-tune")) if tune is not None else None,
        judge=_seal(goal, judge, where, options(f"{number}-judge")) if judge is not None else None,
    )
    if opened.kinds:
        return replace(opened, judge_kind=judge_kind(entry, where, "accuracy" if _classes(opened) else "loss"))
    if "judge_kind" not in entry and "choices" not in entry:
        raise RequestError(
            f"{where}: without steer and tune rows judge_kind has to be told (judge rows stay sealed): expected one of "
            f"{', '.join(JUDGE_KINDS)}, or your own; add it"
        )
    return replace(opened, judge_kind=judge_kind(entry, where))


def _classes(sub: Subtask) -> bool:
    return sub.kinds == {"classify"}


def _protected(goal: Path, number: int, entry: Any, reading: dict[str, Any], usual: str) -> Protected:
    where = f"{goal}, protected {number}"
    _check_entry(entry, _PROTECTED_KEYS, ("name", "judge"), where)
    options = _options(reading, _mapping(entry, where), f"protected-{number}")
    sealed = _seal(goal, entry["judge"], where, options)
    return Protected(entry["name"], sealed, judge_kind(entry, where, usual), _margin(entry.get("margin"), where))


def _check_entry(entry: Any, known: tuple[str, ...], needed: tuple[str, ...], where: str) -> None:
    if not isinstance(entry, dict):
        raise RequestError(f"{where} is {entry!r}, expected keys such as {' and '.join(needed)}; repair it")
    _check_keys(entry, known, where)
    for key in needed:
        if not isinstance(entry.get(key), str) or not entry[key]:
            raise RequestError(f"{where}: {key} is {entry.get(key)!r}, expected a word; add it")


def _margin(given: Any, where: str) -> float | None:
    """A margin from a file (a number) or a flag (its text)."""
    with suppress(ValueError):
        given = float(given) if isinstance(given, str) else given
    if given is not None and (type(given) not in (int, float) or not 0 <= given < float("inf")):
        raise RequestError(f"{where}: margin is {given!r}, expected a number from 0 on, in the judge's unit")
    return None if given is None else float(given)


def judge_kind(entry: Mapping[str, Any], where: str, usual: str = "loss") -> str:
    """What `judge_kind` of an entry says, or what is usual.

    Raises:
        RequestError: No judge has this name, and it is none of the user's own.
    """
    kind = str(entry.get("judge_kind", "choice" if "choices" in entry else usual))
    if kind not in JUDGE_KINDS and not _OWN_JUDGE.fullmatch(kind):
        raise RequestError(
            f"{where}: judge_kind is {kind!r}, neither module:function nor a command with {{model}} {{rows}} {{out}}; "
            f"{nearest(kind, JUDGE_KINDS)}"
        )
    return kind


def _options(reading: dict[str, Any], mapping: dict[str, str] | None, part: str) -> dict[str, Any]:
    """What `open_pool` is told; every file has rejects of its own."""
    rejects = reading.get("rejects")
    own = rejects.with_name(f"{rejects.stem}-{part}{rejects.suffix}") if rejects else None
    return {**reading, "mapping": mapping, "rejects": own}


def _mapping(entry: Mapping[str, Any], where: str) -> dict[str, str] | None:
    found: dict[str, str] = {}
    for key in ("map", "choices"):
        value = entry.get(key, {})
        if key == "choices" and isinstance(value, dict) and isinstance(value.get("choices"), list):
            value = {**value, "choices": "+".join(map(str, value["choices"]))}
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
    _files(goal, path)
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


def _files(goal: Path, path: Path) -> list[Path]:
    try:
        return find_files(path)
    except RequestError as error:
        kind = FormatError if isinstance(error, FormatError) else RequestError
        raise kind(f"{goal} names a file that can't be taken: {error}") from None


def _open_slice(path: Path, first: int, last: int, **reading: Any) -> Pool:
    pool = open_pool(path, **reading)
    if last > len(pool):
        raise RequestError(
            f"{path}:{first}-{last} reaches outside its {len(pool):,} readable rows; expected at most {len(pool)}"
        )
    return take_rows(pool, slice(first, last))
