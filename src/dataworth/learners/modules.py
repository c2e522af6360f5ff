"""Modules of the user's own, named as `module:function`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path


def importable(library: str) -> list[Path]:
    """The source files of a module or package, which may lie in the current folder; none if it isn't there.

    The current folder joins the end of Python's path, as it does for judges and trainers.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        found = importlib.util.find_spec(library)
    except (ImportError, ValueError):
        return []
    if found is None or found.origin is None or not Path(found.origin).is_file():
        return []
    origin = Path(found.origin)
    return sorted(origin.parent.rglob("*.py")) if origin.name == "__init__.py" else [origin]
