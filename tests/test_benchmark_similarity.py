import json
import sys

import pytest

pytest.importorskip("torch")

from benchmarks import similarity

pytestmark = pytest.mark.lm


def test_ways_agree_and_the_report_is_one_json_object(monkeypatch, capsys):
    arguments = "similarity --rows 5000 --file-rows 3000 --width 256 --goal 16 --subtasks 4 --json"
    monkeypatch.setattr(sys, "argv", arguments.split())
    similarity.main()
    report = json.loads(capsys.readouterr().out)
    assert report["rows"] == 5000
    assert report["passes_over_the_file"] > 1
    assert set(report["ratio_to_fp32"]) == {"fp32", "int8", "int8x2", "means"}
    gap = report["largest_difference_to_fp32"]
    assert gap["int8x2"] < 1e-5 and gap["means"] < 1e-5 and gap["int8"] < 5e-3
    assert report["private_mib_peak"] > 0
