"""The estimator on models that hold nothing, little or all, and the verdicts recomputed from the committed figures."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from dataworth.laws.capacity import most_memorised

torch = pytest.importorskip("torch")
from reproductions.memorisation import (  # noqa: E402
    FULL,
    LENGTH,
    LISTS,
    RAW,
    VOCABULARY,
    Cell,
    capacities,
    checks,
    curves,
    logits,
    memorised,
    nats,
    peak,
    round_bf16,
    start,
    trained,
)

from reproductions import memorisation  # noqa: E402

pytestmark = pytest.mark.lm
COMMITTED = Path(memorisation.__file__).parent / "results" / "memorisation.json"


def random_tokens(n, seed=0):
    return torch.randint(0, VOCABULARY, (n, LENGTH), generator=torch.Generator().manual_seed(seed))


def test_sizes_are_those_of_the_research_table():
    assert Cell(8, 0.25, 1, "fp32", 0, 1).parameters == 1536 and Cell(16, 0.25, 1, "fp32", 0, 1).parameters == 4608
    assert [Cell(8, load, 1, "fp32", 0, 1).sequences for load in LISTS["loads"]] == [4, 8, 16, 32, 64, 128, 256]


def test_an_untrained_model_holds_nothing_and_its_code_is_a_probability():
    tokens = random_tokens(200)
    flat = start(8, 0)
    held, by_row = memorised(flat, 8, tokens)
    assert abs(held) < 0.01 * RAW * 200 and held <= by_row
    all_of_it = torch.logsumexp(logits(flat, 8, tokens).log_softmax(1), 1)
    np.testing.assert_allclose(all_of_it.detach(), 0, atol=1e-5)


def test_no_token_sees_itself_or_what_follows():
    tokens = random_tokens(3)
    flat = start(16, 1) * 5  # far enough from uniform that a leak would be seen
    changed = tokens.clone()
    changed[:, 9:] = (changed[:, 9:] + 1) % VOCABULARY
    before, after = (logits(flat, 16, t).view(3, LENGTH, -1) for t in (tokens, changed))
    torch.testing.assert_close(before[:, :10], after[:, :10])
    assert (before[:, 10:] - after[:, 10:]).abs().max() > 1e-4


@pytest.mark.parametrize("precision", memorisation.PRECISIONS)
def test_a_small_set_is_held_to_the_most_that_can_be_and_no_further(precision):
    cell = Cell(8, 0.25, 400, precision, 0, 50)
    found = trained(cell)
    most = most_memorised(cell.sequences, LENGTH, VOCABULARY)
    assert abs(found["untrained"]) < 0.01 * RAW * cell.sequences
    assert 0.98 * most < found["memorised"] <= most + 1
    assert found["memorised"] <= found["by_row"] + 1e-9 and found["unseen_bits_per_token"] > 6
    assert trained(cell) == found


def test_rounding_to_bf16_is_exact_there_and_keeps_the_mean():
    random = torch.Generator().manual_seed(0)
    flat = torch.full((100_000,), 1.0 + 2.0**-10)  # an eighth of the way between two neighbours
    round_bf16(flat, random)
    assert set(flat.tolist()) == {1.0, 1.0 + 2.0**-7}
    assert float((flat > 1).double().mean()) == pytest.approx(0.125, abs=0.01)
    before = flat.clone()
    round_bf16(flat, random)
    assert torch.equal(flat, before) and torch.equal(flat, flat.bfloat16().float())


def test_by_row_is_the_sum_over_rows_of_what_is_above_none():
    tokens, flat = random_tokens(20), start(8, 0)
    bits = RAW - nats(flat, 8, tokens) / math.log(2)
    assert memorised(flat, 8, tokens) == pytest.approx((bits.sum(), np.maximum(bits, 0).sum()))


def made(load, held, unseen, **more):
    cell = Cell(8, load, 100, "fp32", 0, 10)
    figures = {"untrained": 0.0, "memorised": held, "by_row": held, "unseen_bits_per_token": unseen}
    return memorisation.line(cell, figures) | more


def test_checks_tell_what_holds_and_what_does_not():
    most = [most_memorised(n, LENGTH, VOCABULARY) for n in (8, 32, 128, 256)]
    lines = [made(0.5, most[0], 8), made(2, most[1], 50), made(8, 3800, 12), made(16, 3700, 7)]
    assert all(checks(lines, 100, 4).values())
    assert peak(lines)["load"] == 2 and peak(lines)["fill"] == pytest.approx(most[1] / 3800)
    assert [name[:3] for name, holds in checks(lines[:3], 100, 4).items() if holds is None] == ["(c)", "(d)"]
    assert curves(lines, 1, 4) == []
    wrong = {
        0: [made(0.5, most[0] + 2, 8), *lines[1:]],
        1: [made(0.5, 0.98 * most[0], 8), *lines[1:]],
        2: [*lines[:3], made(16, 3000, 7)],
        3: [lines[0], made(2, most[1], 8), made(8, 3800, 60), lines[3]],
        4: [lines[0] | {"untrained": 10.0}, *lines[1:]],
    }
    for which, broken in wrong.items():
        assert [i for i, holds in enumerate(checks(broken, 100, 4).values()) if not holds] == [which]


def test_a_tiny_run_says_that_it_is_none_and_resumes(tmp_path, capsys):
    tiny = ["--steps", "12", "--seeds", "2", "--unseen", "20", "--widths", "8", "--loads", "0.25", "8", "--longer", "2"]
    ledger = tmp_path / "m.jsonl"
    memorisation.main([*tiny, "--ledger", str(ledger)])
    told = capsys.readouterr().out
    assert told.startswith("not reproduced: below the stated sizes (steps, seeds, unseen, widths, loads, longer)")
    assert "measured lower bounds under this budget" in told and "2 seeds" in told
    lines = ledger.read_text().splitlines()
    assert len(lines) == 8
    memorisation.main([*tiny, "--ledger", str(ledger), "--json"])
    again = json.loads(capsys.readouterr().out)
    assert ledger.read_text().splitlines() == lines
    assert again == json.loads(ledger.with_suffix(".json").read_text())
    assert {(c["precision"], c["steps"], c["bits_per_parameter"]["n"]) for c in again["capacities"]} == {
        (p, *which) for p in memorisation.PRECISIONS for which in ((12, 2), (24, 1))
    }


@pytest.mark.skipif(not COMMITTED.exists(), reason="no committed result")
def test_verdicts_follow_from_the_committed_figures():
    result = json.loads(COMMITTED.read_text())
    lines, sizes = result["cells"], result["sizes"]
    again = checks(lines, sizes["steps"], len(sizes["loads"]))
    assert again == result["checks"] and capacities(lines) == result["capacities"]
    assert {name for name, value in FULL.items() if sizes[name] < value} == set()
    for p in lines:
        cell = Cell(p["width"], p["load"], p["steps"], p["precision"], p["seed"], p["unseen"])
        assert (cell.sequences, cell.parameters) == (p["sequences"], p["parameters"])
        assert p["most"] == pytest.approx(most_memorised(cell.sequences, LENGTH, VOCABULARY))
        assert p["bits_per_parameter"] == pytest.approx(p["memorised"] / p["parameters"])
    assert False not in again.values()
