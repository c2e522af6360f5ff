"""How often judge rows were opened: every registered proof on them is one more chance of a false verdict.

`<cache>/registrations/<judge rows>/<registration>.json` names the run of each, its margin, and all that it registered
but the margin as a key; the same proof again is no new one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dataworth.store.atomic import TEMPORARY, make_folder, write_atomic
from dataworth.store.fingerprint import fingerprint
from dataworth.store.json_files import read_json

FOLDER = "registrations"


def opened_by(
    root: Path, judge_ids: Iterable[str], registration: Mapping[str, Any], run: Path
) -> list[Mapping[str, Any]]:
    """Note that a registered proof opens judge rows, and return the notes of the other proofs that did, oldest first.

    Each has its `run` and, of a proof before this one that differs in its margin alone, that margin as `otherwise`.

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
    same = {**registration, "judged": judged}
    own, margin = folder / f"{fingerprint(same)[:32]}.json", same.pop("margin", None)
    rest = fingerprint(same)[:32]
    make_folder(folder)
    if not own.exists():
        write_atomic(own, (json.dumps({"run": str(run), "margin": margin, "rest": rest}) + "\n").encode())
    noted = [path for path in folder.glob("*.json") if path != own and not path.name.startswith(TEMPORARY)]
    began = own.stat().st_mtime_ns
    written = {path: path.stat().st_mtime_ns for path in noted}
    found: list[Mapping[str, Any]] = []
    for path in sorted(noted, key=written.__getitem__):
        note = read_json(path, "delete it", {"run": str})
        earlier = note.get("rest") == rest and note["margin"] != margin and written[path] < began
        found.append({"run": note["run"], **({"otherwise": note["margin"]} if earlier else {})})
    return found


def said(others: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence about the other proofs, if there are any, and one about each that is this one at another margin."""
    if not others:
        return []
    proofs = "1 other registered proof" if len(others) == 1 else f"{len(others)} other registered proofs"
    runs = ", ".join(list(dict.fromkeys(note["run"] for note in others))[-3:])
    return [
        f"these judge rows were opened by {proofs} ({runs}): the 5 % of false verdicts are "
        "per proof, so take the best of several for a guess, and confirm it on fresh judge rows",
        *(
            f"this very proof was registered {_at(note['otherwise'])} before ({note['run']}): a margin that is set "
            "after a proof was seen shows nothing"
            for note in others
            if "otherwise" in note
        ),
    ]


def _at(margin: float | None) -> str:
    return "without a margin" if margin is None else f"with the margin {margin:g}"
