"""Every check, under everything a pool may throw at it."""

import numpy as np
import pytest

from dataworth import plugins
from dataworth.errors import NotApplicable
from dataworth.results import Finding

CHECKS = sorted(plugins.CHECKS)
QUESTION = "why do people carry umbrellas in the rain"


def inputs(n=30, near=(3, 11)):
    """Everything a check may need; rows `near` ask the goal's question."""
    rng = np.random.default_rng(0)
    words = np.array([f"word{i}" for i in range(200)])
    texts = [QUESTION if i in near else " ".join(rng.choice(words, size=12)) for i in range(n)]
    ids = [f"{i:032x}" for i in range(n)]
    return {
        "ids": ids,
        "prompts:pool": [(row_id, "ab"[i % 2], t) for i, (row_id, t) in enumerate(zip(ids, texts, strict=True))],
        "prompts:goal": [("g0", QUESTION), ("g1", "something else entirely happens over there")],
    }


@pytest.mark.parametrize("code", CHECKS)
class TestChecks:
    def test_declares_itself(self, code):
        check = plugins.load("checks", code)
        assert check.code == code and code.startswith("DW") and len(code) == 5
        assert check.severity in ("issue", "tip") and check.cost in ("free", "text", "model")
        assert check.title and check.needs <= set(inputs())

    def test_a_finding_explains_itself_and_names_rows_of_the_pool(self, code):
        found = plugins.load("checks", code)(inputs())
        assert isinstance(found, Finding) and found.code == code
        assert found.text.endswith(".") and found.advice.endswith(".")
        assert set(found.rows) == {f"{i:032x}" for i in (3, 11)}
        assert all(len(evidence) > 10 for evidence in found.rows.values())

    def test_is_pure_and_ignores_row_order(self, code):
        check, given = plugins.load("checks", code), inputs()
        backwards = {**given, "prompts:pool": given["prompts:pool"][::-1], "prompts:goal": given["prompts:goal"][::-1]}
        first, again, reverse = check(given), check(given), check(backwards)
        assert first == again
        assert dict(first.rows) == dict(reverse.rows)

    def test_a_clean_pool_passes_and_so_does_an_empty_one(self, code):
        check = plugins.load("checks", code)
        assert check(inputs(near=())) is None
        assert check({**inputs(), "prompts:pool": []}) is None

    def test_nothing_to_compare_with_is_not_applicable(self, code):
        with pytest.raises(NotApplicable, match="goal"):
            plugins.load("checks", code)({**inputs(), "prompts:goal": []})
