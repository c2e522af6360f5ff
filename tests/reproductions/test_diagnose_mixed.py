"""The diagnosis of 59,000 rows: what the kept measurements say is what the kept result says."""

from __future__ import annotations

import json

import pytest

from reproductions import diagnose_mixed

pytest.importorskip("torch")


def test_the_kept_result_is_what_today_s_code_reads_from_the_kept_measurements(tmp_path, capsys):
    kept = json.loads(diagnose_mixed.KEPT.read_text())
    (tmp_path / "kept.json").write_text(json.dumps(kept))
    diagnose_mixed.main(["--reread", "--out", str(tmp_path / "kept.json"), "--json"])
    told = json.loads(capsys.readouterr().out)
    for name in ("headline", "what_would_tell", "checks"):
        assert told[name] == kept[name], name
    assert [told["regime"][k] for k in ("word", "reasons")] == [kept["regime"][k] for k in ("word", "reasons")]
    assert [(f["code"], f["text"]) for f in told["findings"]] == [(f["code"], f["text"]) for f in kept["findings"]]
    assert told["capacity"]["zones"] == kept["capacity"]["zones"]
    assert [p["refusal"] for p in told["predictions"]] == [p["refusal"] for p in kept["predictions"]]
    assert told["predictions"][0]["low"] == pytest.approx(kept["predictions"][0]["low"], rel=1e-6)
    assert json.loads((tmp_path / "kept.json").read_text())["headline"] == kept["headline"]
