"""Logs of a training, read."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataworth.diagnosing.training_log import read_log
from dataworth.errors import RequestError


def lines(step: int) -> str:
    train, validation = min(1.0, step / 200), 0.1 if step < 2000 else 0.9
    return f'{{"step": {step}, "train_accuracy": {train}}}\n{{"step": {step}, "val_accuracy": {validation}}}\n'


def test_lines_of_one_step_belong_together_and_others_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    file.write_text("".join(map(lines, range(0, 3000, 50))) + '\n{"loss": 3}\n')
    found = read_log(file)
    assert found.verdict == "shown" and found.fit_step == 200


def test_csv_with_empty_cells(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    rows = [f"{s},{min(1.0, s / 200)},{'' if s % 100 else 0.1}" for s in range(0, 3000, 50)]
    file.write_text("\n".join(["step,train_accuracy,val_accuracy", *rows]))
    assert read_log(file).verdict == "not shown"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.jsonl", "{", "line 1 isn't JSON"),
        ("a.jsonl", "[1]", "line 1: expected an object"),
        ("a.jsonl", '{"step": 1, "loss": 2}', "without train_accuracy or val_accuracy"),
        ("a.csv", "step,train_accuracy,val_accuracy\n1,high,0.1", "row 1: 'high' isn't a number"),
    ],
)
def test_what_is_no_log_is_one_line(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(RequestError, match=said):
        read_log(tmp_path / name)


def test_a_byte_order_mark_is_no_column_and_other_encodings_are_said(tmp_path: Path) -> None:
    rows = [f"{s},{min(1.0, s / 200)},0.1" for s in range(0, 3000, 50)]
    (tmp_path / "excel.csv").write_text("\n".join(["step,train_accuracy,val_accuracy", *rows]), encoding="utf-8-sig")
    assert read_log(tmp_path / "excel.csv").verdict == "not shown"
    (tmp_path / "latin.csv").write_bytes("step,träin".encode("latin-1"))
    with pytest.raises(RequestError, match="isn't UTF-8"):
        read_log(tmp_path / "latin.csv")
    (tmp_path / "huge.jsonl").write_text('{"step": 1%s}' % ("0" * 400))
    with pytest.raises(RequestError, match="isn't a number"):
        read_log(tmp_path / "huge.jsonl")
