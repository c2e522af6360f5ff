"""How often judge rows were opened: every registered proof on them is one more chance of a false verdict.

`<cache>/registrations/<judge rows>/<registration>.json` names the run of each; the same proof again is no new one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dataworth.store.atomic import TEMPORARY, make_folder, write_atomic
from dataworth.store.fingerprint import fingerprint
from dataworth.store.json_files import read_json

FOLDER = "registrations"


def opened_by(root: Path, judge_ids: Iterable[str], registration: Mapping[str, Any], run: Path) -> list[str]:
    """Note that a registered proof opens judge rows, and return the runs of the other proofs that did, oldest first.

    Args:
        root: Of the cache.
        judge_ids: Ids of the goal's judge rows.
        registration: As proposed: what makes two proofs one.
        run: The run folder.

    Raises:
        FormatError: A note of an earlier proof is damaged.
        RequestError: The disk refuses.
    """
    folder = root / FOLDER / fingerprint({"judge": sorted(judge_ids)})[:32]
    judged = [[name, kind] for name, kind, _ in registration["judged"]]  # where the rows lie makes no other proof
    own = folder / f"{fingerprint({**registration, 'judged': judged})[:32]}.json"
    make_folder(folder)
    if not own.exists():
        write_atomic(own, (json.dumps({"run": str(run)}) + "\n").encode())
    noted = [path for path in folder.glob("*.json") if path != own and not path.name.startswith(TEMPORARY)]
    others = sorted(noted, key=lambda path: path.stat().st_mtime_ns)
    return [read_json(path, "delete it", {"run": str})["run"] for path in others]


def said(others: list[str]) -> list[str]:
    """A sentence about the other proofs, if there are any."""
    if not others:
        return []
    proofs = "1 other registered proof" if len(others) == 1 else f"{len(others)} other registered proofs"
    return [
        f"these judge rows were opened by {proofs} ({', '.join(others[-3:])}): the 5 % of false verdicts are "
        "per proof, so take the best of several for a guess, and confirm it on fresh judge rows"
    ]
