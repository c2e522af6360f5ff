import numpy as np
import pytest

from dataworth.errors import RequestError
from dataworth.numerics.perceptron import kept, largest_margin, simulated_error


def naive(x, y, sweeps=20_000):
    """Dual coordinate ascent: a_i grows until y_i <w, x_i> is 1, or shrinks to 0."""
    signed, a = y[:, None] * x, np.zeros(len(y))
    w = np.zeros(x.shape[1])
    for _ in range(sweeps):
        moved = 0.0
        for i, row in enumerate(signed):
            step = max(-a[i], (1 - row @ w) / (row @ row))
            a[i] += step
            w += step * row
            moved = max(moved, abs(step))
        if moved < 1e-13:
            break
    return w / np.linalg.norm(w)


def rows(seed, count=30, width=5):
    rng = np.random.default_rng(seed)
    x, teacher = rng.normal(size=(count, width)), rng.normal(size=width)
    return x, np.sign(x @ teacher)


@pytest.mark.parametrize("seed", range(6))
def test_the_largest_margin_against_coordinate_ascent(seed):
    x, y = rows(seed, count=(30, 4)[seed % 2])
    np.testing.assert_allclose(largest_margin(x, y), naive(x, y), atol=1e-6)


def test_nothing_near_has_a_larger_margin_and_scale_plays_no_part():
    x, y = rows(9, count=200, width=20)
    w = largest_margin(x, y)
    margin = (y * (x @ w)).min()
    assert np.linalg.norm(w) == pytest.approx(1) and margin > 0
    rng = np.random.default_rng(0)
    for _ in range(300):
        other = w + rng.normal(scale=0.02, size=20)
        assert (y * (x @ other)).min() / np.linalg.norm(other) < margin
    np.testing.assert_allclose(largest_margin(x * 1e4, y), w, atol=1e-9)


def test_support_vectors_share_the_margin():
    x, y = rows(3, count=60, width=6)
    distances = np.sort(y * (x @ largest_margin(x, y)))
    assert (distances < distances[0] * (1 + 1e-6)).sum() >= 2


def test_what_cannot_be_separated_is_refused():
    x = np.array([[1.0, 0.0], [1.0, 0.0]])
    with pytest.raises(RequestError, match="no vector through the origin"):
        largest_margin(x, np.array([1.0, -1.0]))
    with pytest.raises(RequestError, match="keep more"):
        largest_margin(np.empty((0, 2)), np.empty(0))


def test_kept_ends():
    distance = np.array([0.5, 0.1, 0.9, 0.3])
    rng = np.random.default_rng(0)
    assert sorted(kept(distance, "hard", 0.5, rng)) == [1, 3]
    assert sorted(kept(distance, "easy", 0.5, rng)) == [0, 2]
    drawn = np.bincount(np.concatenate([kept(distance, "random", 0.5, rng) for _ in range(600)]))
    assert np.abs(drawn - 300).max() < 60
    with pytest.raises(RequestError, match="hard, easy, random"):
        kept(distance, "middle", 0.5, rng)


def mean_error(alpha, keep, width, repetitions, degrees=0.0, share=0.5):
    return np.mean(
        [
            simulated_error(width, alpha, share, keep, np.random.default_rng([n, int(10 * alpha)]), degrees)
            for n in range(repetitions)
        ]
    )


def test_the_table_of_scarce_and_middling_pools():
    """Twelve cells, three draws each, against the errors of another simulation."""
    table = {0.5: (0.431, 0.309, 0.368), 1: (0.409, 0.249, 0.337), 2: (0.320, 0.181, 0.256), 4: (0.142, 0.116, 0.184)}
    for alpha, expected in table.items():
        got = [mean_error(alpha, keep, 150, 3) for keep in ("hard", "easy", "random")]
        np.testing.assert_allclose(got, expected, atol=0.03)


def test_abundant_pools_keep_hard():
    hard, easy, plain = (mean_error(16, keep, 60, 6) for keep in ("hard", "easy", "random"))
    assert hard < easy < plain
    np.testing.assert_allclose([hard, easy, plain], [0.031, 0.039, 0.058], atol=0.012)


def test_a_blind_probe_chooses_at_random_and_a_tilted_one_less_well():
    blind = mean_error(4, "hard", 60, 8, degrees=90)
    assert blind == pytest.approx(mean_error(4, "random", 60, 8), abs=0.03)
    for keep, gap in (("hard", 0.0), ("easy", 0.06)):
        assert mean_error(8, keep, 60, 6) + gap < mean_error(8, keep, 60, 6, degrees=30), keep
