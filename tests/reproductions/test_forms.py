"""Several optimizer maps in one pass: the stored files are those the library writes form by form."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.lm

ADAM = ((), ("eps_mode=inside", "bias_correction=false"), ("optimizer=adam_no_momentum",))
SGD = ("optimizer=sgd", "bias_correction=false")


def test_one_pass_stores_what_one_pass_per_form_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("peft")
    from reproductions.forms import fill_forms
    from tests.learners.tinymodel import tiny_folder

    import dataworth as dw

    model = tiny_folder(tmp_path / "model", layers=2)
    pool, goal = tmp_path / "pool.jsonl", tmp_path / "goal.jsonl"
    rows = [{"prompt": f"say {n} " * (1 + n % 5), "completion": f"{n * n} it is" if n != 7 else ""} for n in range(40)]
    pool.write_text("".join(json.dumps(r) + "\n" for r in rows))
    goal.write_text("".join(json.dumps({"prompt": f"what is {n}?", "completion": "a number"}) + "\n" for n in range(3)))
    fields = {"pool": str(pool), "goal": str(goal), "model": str(model), "device": "cpu"}

    def files(cache: str) -> dict[str, bytes]:
        root = tmp_path / cache / "gradients"
        return {
            str(p.relative_to(root)): p.read_bytes()
            for p in sorted(root.rglob("*"))
            if "parts" in p.parts and p.is_file()
        }

    def score(n: int, form: tuple[str, ...]) -> np.ndarray:
        run = str(tmp_path / os.environ["DATAWORTH_CACHE"] / f"run-{n}")
        return dw.score(method="less", option=form, workers=0, run=run, **fields).scores["less"].values_N

    monkeypatch.setenv("DATAWORTH_CACHE", str(tmp_path / "shared"))
    fill_forms([*ADAM, SGD, ("kind=onesided", "bias_correction=false"), ("variant=centroid",)], **fields)
    shared = files("shared")
    assert len({name.split("/")[0] for name in shared}) == 2 * 4, "two checkpoints, each form once"
    of_shared = [score(n, form) for n, form in enumerate((*ADAM, SGD))]
    monkeypatch.setenv("DATAWORTH_CACHE", str(tmp_path / "single"))
    np.testing.assert_array_equal(of_shared, [score(n, form) for n, form in enumerate((*ADAM, SGD))])
    single = files("single")
    same = {name for name in shared if single.get(name) == shared[name]}
    folders = {name.split("/")[0] for name in same if not name.endswith(".json")}
    assert len(folders) >= 2 * 3, "Adam's files are equal; the plain ones are cut otherwise, since goal rows lie there"
    monkeypatch.setenv("DATAWORTH_CACHE", str(tmp_path / "shared"))
    fill_forms([*ADAM, SGD], **fields)
    assert shared.items() <= files("shared").items(), "nothing is computed twice"
