"""Wrong answers are wrong, look like right ones, and the command runs on a tiny model."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from reproductions import flan, shuffled_proof


def row(source: str, answer: str, question: str = "q") -> dict[str, str]:
    return {"source": source, "question": question, "rationale": "because", "answer": answer}


def test_answers_are_exchanged_within_their_source_and_nobody_keeps_their_own() -> None:
    listed = "which?\nOptions:\n- oak\n- elm\n- ash\n"
    rows = [row("yesno", "yes" if n % 3 else "no") for n in range(40)]
    rows += [row("letters", f"({'ABCDE'[n % 5]})") for n in range(50)]
    rows += [row("ecqa", "oak", listed) for _ in range(20)]
    found, right = shuffled_proof.exchanged(rows, np.random.default_rng(0))
    wrong = [n for n, ok in enumerate(right) if not ok]
    assert Counter(rows[n]["source"] for n in wrong) == {"yesno": 12, "letters": 14, "ecqa": 6}
    for n, (before, after) in enumerate(zip(rows, found, strict=True)):
        assert (after["answer"] != before["answer"]) == (n in wrong)
        assert {**after, "answer": ""} == {**before, "answer": ""}
    for source in ("yesno", "letters"):
        of = [n for n in wrong if rows[n]["source"] == source]
        assert Counter(rows[n]["answer"] for n in of) == Counter(found[n]["answer"] for n in of)
    assert {found[n]["answer"] for n in wrong if rows[n]["source"] == "ecqa"} == {"elm", "ash"}


@pytest.mark.data
def test_the_case_keeps_goal_and_pool_apart(tmp_path: Path) -> None:
    pool, goal, right = shuffled_proof.case(tmp_path, 20)
    rows = [json.loads(line) for line in pool.read_text().splitlines()]
    assert len(rows) == len(right) == 140
    assert Counter(r["source"] for r, ok in zip(rows, right, strict=True) if not ok) == dict.fromkeys(
        {r["source"] for r in rows}, 6
    )
    asked = {r["question"] for r in rows}
    for part, count in flan.PARTS.items():
        held = [json.loads(line) for line in (goal.parent / f"answers-{part}.jsonl").read_text().splitlines()]
        assert len(held) == count
        assert not asked & {r["question"] for r in held}


@pytest.mark.lm
@pytest.mark.data
@pytest.mark.slow
def test_a_small_run_says_how_many_answers_were_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("peft")
    from tests.learners.tinymodel import tiny_folder

    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}  # the attention to 512 bytes is what takes time
    model = tiny_folder(tmp_path / "model", layers=2, max_position_embeddings=512, **heads)
    monkeypatch.setattr(flan, "PARTS", {"steer": 4, "tune": 5, "judge": 20})
    monkeypatch.setattr(shuffled_proof, "METHODS", {"lowest loss": ("loss", ("direction=low",))})
    monkeypatch.setattr("dataworth.proving.rates.FACTORS", (1.0,))
    monkeypatch.chdir(tmp_path)
    sizes = "--per-source 14 --seeds 3 --epochs 1 --lora-layers 1".split()
    places = ["--model", str(model), "--work", "work", "--state", "state", "--out", "out.json"]
    shuffled_proof.main([*places, "--device", "cpu", "--workers", "0", *sizes, "--json"])
    found = json.loads(Path("out.json").read_text())
    assert found["verdict"].startswith("not reproduced: below the stated sizes (per_source, seeds, epochs)")
    assert set(found["right answers"]) == {"pool", "lowest loss"}
    assert 0.7 <= found["right answers"]["pool"] < 0.75
    for protocol in ("epochs", "tokens"):
        pairs = {(v["subject"], v["comparator"]) for v in found[protocol]["verdicts"]}
        assert pairs == {(s, c) for s in ("lowest-loss", "clean") for c in ("random", "full")}
    assert set(found["epochs"]["worth"]) == {"lowest-loss", "clean"}
