"""What the user named -> the files to read, in a defined order."""

from __future__ import annotations

import glob
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from dataworth.errors import FormatError, RequestError
from dataworth.formats.images import ImageFolder

FORMAT_OF = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".npz": "npz",
}
PACKED = (".gz", ".zst")
_EXPECTED = "expected .jsonl .json .csv .parquet .arrow .npz (text formats also .gz or .zst), or a folder of images"


def format_of(path: Path) -> str | None:
    """Format by suffix, a compression suffix aside; None for anything else."""
    name = Path(path.stem) if path.suffix.lower() in PACKED else path
    return FORMAT_OF.get(name.suffix.lower())


def stem_of(path: Path) -> str:
    """The file's name without format and compression suffixes."""
    return Path(path.stem).stem if path.suffix.lower() in PACKED else path.stem


def find_files(paths: str | Path | Sequence[str | Path]) -> list[Path]:
    """Files, globs, folders (searched deeply, by name) and saved `datasets` folders as a list of files.

    A folder that holds images and no file of rows stands for itself.

    Files are in the order given, a folder's and a glob's by path; a file named twice is read once. Hidden
    files, and the `.dataworth` folders that stand beside written subsets, are left out of folders and globs, run
    folders out of folders.

    Raises:
        RequestError: A path that isn't there, or holds nothing readable.
        FormatError: A file of another type.
    """
    given = [paths] if isinstance(paths, (str, Path)) else list(paths)
    if not given:
        raise RequestError("no pool was named: expected a file, a glob or a folder")
    found: dict[Path, Path] = {}
    for path in given:
        for file in _expand(path):
            found.setdefault(file.resolve(), file)
    return list(found.values())


def _expand(given: str | Path) -> list[Path]:
    path = Path(given).expanduser()
    if path.is_dir():
        return _folder(path)
    if path.exists():
        if format_of(path) is None:
            raise FormatError(f"{path}: unknown file type {path.suffix!r}; {_EXPECTED}; rename or convert it")
        return [path]
    if glob.has_magic(str(path)):
        # Path.glob would match hidden files.
        hits = [Path(p) for p in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207
        hits = [h for h in hits if not _beside_a_subset(h)]
        files = [f for h in hits if h.is_dir() or format_of(h) for f in _expand(h)]
        if files:
            return files
        raise RequestError(f"{given}: no readable file matches; {_EXPECTED}")
    whole = str(path).rpartition(":")[0]
    if whole and Path(whole).exists():
        raise RequestError(
            f"{given} is not here: slices are for parts of a goal file; expected a whole file, or a goal.yaml "
            f"with `steer: {given}` (docs/goals.md)"
        )
    raise RequestError(
        f"{given} is not here: expected a file, a glob or a folder; hub data: download it and name its folder"
    )


def _folder(folder: Path) -> list[Path]:
    if (folder / "dataset_dict.json").is_file():
        splits = _read_json(folder / "dataset_dict.json").get("splits", [])
        named = ", ".join(map(str, splits)) or "none"
        raise RequestError(f"{folder} holds several splits ({named}): expected one; name its folder")
    if (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file():
        return _saved_dataset(folder)
    inside = (p.relative_to(folder) for p in folder.rglob("*"))
    files = [
        folder / p
        for p in sorted(inside)
        if format_of(p) and not _beside_a_subset(p) and not any(part.startswith(".") for part in p.parts)
    ]
    files = [f for f in files if f.is_file() and not _in_a_run(f, folder)]
    if not files and ImageFolder(folder).names:
        return [folder]
    if not files:
        raise RequestError(f"{folder} holds no readable file; {_EXPECTED}")
    return files


def _in_a_run(path: Path, within: Path) -> bool:
    """Whether a folder between `within` and the file is a run: `runs/` often stands beside the pool."""
    between = path.relative_to(within).parents[:-1]
    return any((within / p / "config.yaml").is_file() and (within / p / "record.json").is_file() for p in between)


def _beside_a_subset(path: Path) -> bool:
    return any(part.endswith(".dataworth") for part in path.parts)


def _saved_dataset(folder: Path) -> list[Path]:
    """The shards that `Dataset.save_to_disk` listed, in its order."""
    shards = [folder / str(shard.get("filename")) for shard in _read_json(folder / "state.json").get("_data_files", [])]
    for shard in shards:
        if shard.parent != folder or not shard.is_file():
            raise FormatError(f"{folder / 'state.json'} lists {shard.name!r}, which isn't in the folder; copy it again")
    if not shards:
        raise FormatError(f"{folder / 'state.json'} lists no data file: expected a saved dataset; save it again")
    return shards


def _read_json(path: Path) -> dict[str, list[dict[str, str]]]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FormatError(f"{path} is not JSON ({error}): expected a saved dataset; save it again") from None
    if not isinstance(value, dict):
        raise FormatError(f"{path} is not a JSON object: expected a saved dataset; save it again")
    return value


def source_names(files: Sequence[Path]) -> list[str]:
    """A file's default source: its stem, with its folder's name before it where two stems are equal."""
    stems = [stem_of(f) for f in files]
    often = Counter(stems)
    return [s if often[s] == 1 else f"{f.resolve().parent.name}/{s}" for f, s in zip(files, stems, strict=True)]
