"""Bits that are held by heart."""

import numpy as np

from dataworth.scores.memorised import Memorised

IDS = [f"{n:032x}" for n in range(4)]


def test_bits_are_what_training_on_a_row_saves_beyond_others():
    unseen = np.array([20.0, 20.0, 20.0, np.nan]) * np.log(2)
    seen = np.array([5.0, 20.0, 23.0, 4.0]) * np.log(2)
    found = Memorised()({"ids": IDS, "losses_seen": seen, "losses_unseen": unseen})
    np.testing.assert_allclose(found.values_N[:3], [15.0, 0.0, 0.0])
    assert np.isnan(found.values_N[3]) and found.unscored == {IDS[3]: "it carries no loss"}
    assert Memorised.higher == "drop"
