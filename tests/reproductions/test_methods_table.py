"""The table of methods: nobody is left out, its oracles exist, it is the page, and a tiny run resumes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from reproductions.methods_table import PICKS, ROOT, SCORES, missing_oracles

from dataworth import plugins
from reproductions import methods_table

TINY = "--rows 80 --lm-rows 20 --image-rows 60 --epochs 2 --width 2 --device cpu --workers 0".split()


def test_every_method_of_the_catalogue_has_rows_and_an_oracle_that_exists() -> None:
    assert set(plugins.SCORES) == {name for name in SCORES if ":" not in name}
    assert set(plugins.PICKS) == set(PICKS)
    assert missing_oracles() == []


def test_an_oracle_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCORES, "length", methods_table.Case("texts", "tests/scores/test_assemble.py::test_nothing"))
    assert missing_oracles() == ["length: tests/scores/test_assemble.py::test_nothing"]


def test_the_page_is_made_of_the_committed_result() -> None:
    found = json.loads((ROOT / "reproductions/results/methods_table.json").read_text())
    assert (ROOT / "docs/methods-table.md").read_text() == methods_table.markdown(found)


@pytest.mark.lm
@pytest.mark.data
@pytest.mark.slow
def test_a_tiny_run_resumes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    from tests.learners.tinymodel import tiny_folder

    model = tiny_folder(tmp_path / "model", layers=1, max_position_embeddings=512)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]))
    where = ["--work", str(tmp_path / "w"), "--ledger", str(tmp_path / "l.jsonl"), "--out", str(tmp_path / "o.json")]
    only = ["--only", "bm25", "ifd", "forgetting", "pvi", "top_k", "craig"]
    given = [*TINY, *where, "--model", str(model), "--page", str(tmp_path / "page.md"), *only]
    methods_table.main(given)
    told = capsys.readouterr().out
    assert told == (tmp_path / "page.md").read_text()
    found = json.loads((tmp_path / "o.json").read_text())
    assert found["verdict"].startswith("not reproduced: below the stated sizes")
    assert (set(found["scores"]), set(found["picks"])) == ({"bm25", "ifd", "forgetting", "pvi"}, {"top_k", "craig"})
    assert found["picks"]["top_k"]["kept"] == 8 and found["picks"]["top_k"]["rho"]["length"] > 0.4
    assert found["scores"]["bm25"]["rows"] == 80 and found["scores"]["forgetting"]["rho"]["length"] is None
    monkeypatch.setattr(methods_table, "run", None)  # everything is there
    methods_table.main(given)
    assert capsys.readouterr().out == told
