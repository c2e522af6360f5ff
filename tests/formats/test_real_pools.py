"""The pools and goals this was built for, where DATAWORTH_DATA has them."""

import gzip
import json
import os
from pathlib import Path

import pytest

from dataworth.formats import open_goal, open_pool, write_subset

pytestmark = pytest.mark.data
DATA = Path(os.environ.get("DATAWORTH_DATA", "nowhere"))
if not DATA.is_dir():
    pytest.skip("DATAWORTH_DATA is not set", allow_module_level=True)


@pytest.mark.parametrize(
    ("name", "schema", "rows"),
    [
        ("flan_cot/flan_cot", "question_answer", 33443),
        ("t0_mixture/t0_mixture", "prompt_completion", 16539),
        ("alpaca/alpaca_random9k", "alpaca", 9229),
        ("dolly/dolly_3k", "alpaca", 2996),
        ("lima/lima_1k", "alpaca", 1000),
        ("gsm8k/test", "question_answer", 1319),
        ("clinc150/clinc150_full", "text", 23700),
        ("eval_small/commonsense_qa", "choice", 1221),
        ("mmlu/dev", "choice", 285),
    ],
)
def test_detected(name, schema, rows):
    pool = open_pool(DATA / f"{name}.jsonl.gz")
    assert (pool.files[0].schema, len(pool), pool.rejected) == (schema, rows, 0)


def test_flan_cot_with_its_map_and_back(tmp_path):
    path = DATA / "flan_cot" / "flan_cot.jsonl.gz"
    pool = open_pool(path, mapping={"prompt": "question", "completion": "rationale+answer"})
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    rows = [json.loads(line) for line in lines]
    for i in range(0, len(pool), 997):
        assert pool.columns(i) == rows[i] and pool.source_of(i) == rows[i]["source"]
        assert pool.example(i).response == f"{rows[i]['rationale']}\n{rows[i]['answer']}"
    keep = range(5, len(pool), 20)
    (out,) = write_subset(pool, keep, tmp_path / "picked.jsonl")
    assert out.read_bytes() == b"".join(lines[i] for i in keep)


def test_goal_slices_of_gsm8k(tmp_path):
    (tmp_path / "goal.yaml").write_text(
        "subtasks: [{name: gsm8k, steer: 'test.jsonl.gz:0-32', judge: 'test.jsonl.gz:32-532'}]"
    )
    (tmp_path / "test.jsonl.gz").symlink_to(DATA / "gsm8k" / "test.jsonl.gz")
    (subtask,) = open_goal(tmp_path / "goal.yaml").subtasks
    judge = subtask.judge.open_for("proof")
    assert (len(subtask.steer), len(judge)) == (32, 500) and not set(subtask.steer.ids) & set(judge.ids)
