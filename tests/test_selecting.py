"""What stands between a pick and what is stored and trained: weights that count as the rows kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from tests.picks.ballots import scored

from dataworth.picks.top_k import TopK
from dataworth.records import Budget
from dataworth.results import Selection
from dataworth.selecting import weighed


def kept(*weights: float) -> Selection:
    found = TopK()(scored(np.arange(9.0)), Budget("rows", len(weights)))
    return replace(found, weights=np.array(weights), notes=("of the pick",))


def test_weights_count_as_the_rows_kept_and_the_factor_gives_those_of_the_method_back() -> None:
    got = weighed(kept(1.0, 4.0, 7.0))
    assert got.weights.tolist() == [0.25, 1.0, 1.75]
    of_pick, ignored, divided = got.notes
    assert of_pick == "of the pick"
    assert "weights, 0.25 to 1.75, in weights.parquet: a trainer that ignores them" in ignored
    factor = float(divided.split("by their mean, ")[1].split(",")[0])
    np.testing.assert_allclose(got.weights * factor, [1, 4, 7])


def test_weights_that_count_as_the_rows_kept_already_are_told_and_left() -> None:
    got = weighed(kept(0.5, 1.5))
    assert got.weights.tolist() == [0.5, 1.5] and len(got.notes) == 2


def test_rows_that_all_weigh_the_same_weigh_one() -> None:
    plain = kept(1.0, 1.0)
    assert weighed(plain) is plain
    alike = weighed(kept(0.1, 0.1, 0.1))
    assert alike.weights.tolist() == [1, 1, 1] and "divided by their mean, 0.1" in alike.notes[1]
    nothing = replace(plain, weights=np.empty(0))
    assert weighed(nothing) is nothing
