"""Break every method on purpose and see its test fail: `python tests/mutants.py [--only TEXT]`.

A mutant is an entry of `tests/mutations/*.yaml`: `{file, was, becomes, test}`. `was` stands once in `file`; with
`becomes` in its place the test must fail, and without it pass. The work tree isn't touched: mutants live in a copy.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
PASSED, FAILED = 0, 1
"""What pytest ends with; anything else (nothing collected, a crash) shows nothing."""


def mutants(folder: Path = ROOT / "tests" / "mutations") -> list[dict[str, str]]:
    """Every mutant, in the order of files.

    Raises:
        SystemExit: An entry that can't be one.
    """
    found: list[dict[str, str]] = []
    for path in sorted(folder.glob("*.yaml")):
        for entry in yaml.safe_load(path.read_text()):
            said = problem(entry)
            if said:
                raise SystemExit(f"{path.name}: {said}")
            found.append(entry)
    return found


def problem(entry: Any) -> str | None:
    """What is wrong with an entry, or None."""
    if not isinstance(entry, dict) or set(entry) != {"file", "was", "becomes", "test"}:
        return f"{entry!r}: expected file, was, becomes and test"
    source = ROOT / entry["file"]
    times = source.read_text().count(entry["was"]) if source.is_file() else 0
    if times != 1:
        return f"{entry['was']!r} stands {times} times in {entry['file']}: expected once"
    if entry["was"] == entry["becomes"]:
        return f"{entry['was']!r} becomes itself: expected another text"
    return None if (ROOT / entry["test"].split("::")[0]).is_file() else f"{entry['test']}: no such file"


def outcome(copy: Path, tests: list[str]) -> int:
    """Pytest's exit status for tests of the copy."""
    env = {**os.environ, "PYTHONPATH": str(copy / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    run = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    return subprocess.run(run, cwd=copy, env=env, capture_output=True, check=False).returncode


def survives(copy: Path, entry: dict[str, str]) -> bool:
    """Whether the mutant's test still passes, or says nothing."""
    target = copy / entry["file"]
    whole = target.read_text()
    target.write_text(whole.replace(entry["was"], entry["becomes"]))
    try:
        return outcome(copy, [entry["test"]]) != FAILED
    finally:
        target.write_text(whole)


def main(arguments: list[str] | None = None) -> int:
    """Run all mutants; 1 if any survives."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="mutants whose file or test contains this")
    args = parser.parse_args(arguments)
    chosen = [m for m in mutants() if args.only in m["file"] or args.only in m["test"]]
    with tempfile.TemporaryDirectory() as aside:
        copy = Path(aside) / "copy"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "runs", "reproductions", "benchmarks"))
        if chosen and outcome(copy, sorted({m["test"] for m in chosen})) != PASSED:
            print("the tests fail without any mutant: mend them first")
            return 1
        alive = [m for m in chosen if survives(copy, m)]
    for m in alive:
        print(f"survived: {m['file']}: {m['was']!r} -> {m['becomes']!r} ({m['test']})")
    print(f"{len(chosen)} mutants, {len(alive)} survived")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
