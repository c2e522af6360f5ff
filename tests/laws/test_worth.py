"""Worth: exact on a known curve; one-sided, disjoint and unknown sets where the curve asks for them; coverage."""

from __future__ import annotations

import numpy as np
import pytest

from dataworth.errors import RequestError
from dataworth.laws.worth import RandomCurve, Worth, inversion, worth

SIZES = np.array([100.0, 200.0, 400.0, 800.0, 1600.0])
RNG = np.random.default_rng(0)


def law(n: np.ndarray | float) -> np.ndarray:
    return np.asarray(1 + 4 * np.asarray(n, dtype=np.float64) ** -0.5)


def curve(mean_K: np.ndarray, sd: float = 0.002, chains: int = 5, seed: int = 0) -> RandomCurve:
    return RandomCurve(SIZES, mean_K + np.random.default_rng(seed).normal(0, sd, (chains, len(SIZES))))


def test_a_subset_that_costs_what_n_rows_cost_is_worth_n() -> None:
    exact = RandomCurve(SIZES, np.tile(law(SIZES), (3, 1)) + np.array([[-1e-9], [0], [1e-9]]))
    for n in (130.0, 400.0, 1100.0):
        found = worth([float(law(n))] * 2, exact)
        assert found.value == pytest.approx(n, rel=0.01)
    assert worth([float(law(400))] * 2, exact).value == pytest.approx(400, rel=1e-6)


def test_intervals_hold_the_point_and_widen_with_noise() -> None:
    subset = law(500) + 0.002 * np.array([-1, 0.5, 0.5, 1, -1])
    quiet, noisy = worth(subset, curve(law(SIZES))), worth(subset, curve(law(SIZES), sd=0.01))
    for found in (quiet, noisy):
        ((low, high),) = found.spans
        assert low is not None
        assert high is not None
        assert low < (found.value or 0) < high
        assert found.covers(found.value or 0)
    (a, b), (c, d) = quiet.spans[0], noisy.spans[0]
    assert (b or 0) / (a or 1) < (d or 0) / (c or 1)
    assert str(quiet).startswith("49")
    assert ".." in str(quiet)


def test_beyond_the_curve_it_is_one_sided() -> None:
    subset = np.array([1.0, 1.001, 0.999])
    found = worth(subset, curve(law(SIZES)))
    assert found.value is None
    assert found.spans == ((1600.0, None),)
    assert str(found) == "[at least 1,600]"
    poor = worth(subset + 1, curve(law(SIZES)))
    assert poor.spans == ((None, 100.0),)
    assert "at most 100" in str(poor)
    near = worth(law(1600) + 0.001 * np.array([-1, 0, 1]), curve(law(SIZES), sd=0.005))
    assert near.spans[-1][1] is None
    assert (near.spans[0][0] or 0) > 400


def test_a_bump_that_fits_does_not_hide_what_lies_beyond_the_curve() -> None:
    """A curve without a fall but for chance: what is worse than its fewest rows is worth fewer, whatever fits."""
    bumpy = curve(np.array([1.0, 1.0, 1.1, 1.0, 1.0]), sd=0.01)
    worse = worth(1.1 + 0.001 * np.array([-1, 0, 1]), bumpy)
    (first, second) = worse.spans
    assert first == (None, 100.0) and 200 < (second[0] or 0) < 400 < (second[1] or 0) < 800
    assert str(worse).startswith("[at most 100 or ") and not worse.each_more_than(worse, 10, 100)
    better = worth(0.9 + 0.001 * np.array([-1, 0, 1]), curve(np.array([1.0, 1.0, 0.9, 1.0, 1.0]), sd=0.01))
    (first, second) = better.spans
    assert second == (1600.0, None) and 200 < (first[0] or 0) < 400 < (first[1] or 0) < 800


def test_what_interpolation_misses_is_small_on_a_law_and_told_on_a_kink() -> None:
    exact = RandomCurve(SIZES, np.tile(law(SIZES), (2, 1)))
    assert exact.misses() == pytest.approx(0, abs=0.002)
    kinked = law(SIZES) - np.array([0, 0, 0.05, 0, 0])
    by_hand = []
    for k in (1, 2, 3):
        left = RandomCurve(np.delete(SIZES, k), np.tile(np.delete(kinked, k), (2, 1)))
        by_hand.append(abs(left.at(SIZES[k : k + 1]).mean() - kinked[k]))
    assert RandomCurve(SIZES, np.tile(kinked, (2, 1))).misses() == pytest.approx(max(by_hand)) and max(by_hand) > 0.04
    assert RandomCurve(SIZES[:3], np.tile(law(SIZES[:3]), (2, 1))).misses() is None


def test_rows_are_worth_more_each_only_where_the_sets_lie_apart() -> None:
    def known(*spans: tuple[float | None, float | None]) -> Worth:
        return Worth(None, spans, (10.0, 1000.0), 0.9)

    mine, other = known((100.0, 140.0)), known((100.0, 130.0))
    assert mine.each_more_than(other, 10, 20) and not other.each_more_than(mine, 20, 10)
    assert not mine.each_more_than(other, 10, 13), "10 .. 14 and 7.7 .. 10 touch"
    assert not known((100.0, 140.0), (600.0, None)).each_more_than(known((None, 50.0), (90.0, 130.0)), 10, 13)
    assert known((200.0, None)).each_more_than(known((None, 90.0)), 10, 10), "open ends away from one another"
    assert not known((None, 200.0)).each_more_than(other, 1, 20)
    assert not known().each_more_than(other, 1, 20)


def test_a_bent_curve_gives_a_disjoint_set() -> None:
    bent = curve(np.array([2.0, 1.5, 1.8, 1.5, 1.2]), sd=0.01)
    found = worth(np.array([1.6, 1.61, 1.59]), bent)
    assert len(found.spans) == 3
    assert " or " in str(found)
    assert found.value is not None


def test_a_flat_curve_cannot_tell() -> None:
    found = worth(np.array([1.5, 1.52, 1.48]), curve(np.full(5, 1.5), sd=0.02))
    assert found.spans == ((None, None),)
    assert "cannot tell" in str(found)
    assert found.covers(1.0)
    assert found.covers(1e6)


@pytest.mark.parametrize("sd", [0.0, 1e-12, 1e-9, 1e-6, 1e-4, 1e-2])
@pytest.mark.parametrize("seed", range(5))
def test_however_little_the_noise_every_crossing_is_in_the_set(sd: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    bumpy = np.array([2.0, 1.5, 1.6, 1.2, 1.0])
    for mean, cost, crossings in ((law(SIZES), float(law(300.0)), 1), (bumpy, 1.55, 3)):
        random = RandomCurve(SIZES, mean + sd * rng.standard_normal((5, 5)))
        subset = cost + sd * rng.standard_normal(5)
        cost, found = float(subset.mean()), worth(subset, random)
        dense = np.geomspace(SIZES[0], SIZES[-1], 200_001)
        roots = dense[np.flatnonzero(np.diff(np.sign(random.at(dense).mean(0) - cost)))]
        assert len(roots) == crossings
        assert sd > 1e-3 or len(found.spans) == crossings
        exact = random.crossings(cost)
        assert exact == pytest.approx(roots, rel=2e-5)
        assert all(map(found.covers, exact))
        assert crossings > 1 or (found.value is not None and found.covers(found.value))


def test_trials_without_noise_at_a_measured_size_are_worth_that_size() -> None:
    exact = RandomCurve(SIZES, np.tile(law(SIZES), (3, 1)))
    for size in SIZES:
        found = worth(np.full(3, float(law(size))), exact)
        assert found.value == pytest.approx(size) and found.measured == (SIZES[0], SIZES[-1])
        assert SIZES[0] <= found.value <= SIZES[-1]
        assert len(found.spans) == 1 and all(
            end is None or end == pytest.approx(size, rel=1e-9) for end in found.spans[0]
        )


def test_a_steep_curve_is_inverted_where_it_falls() -> None:
    steps = RandomCurve(np.array([100.0, 101.0]), np.array([[2.0, 1.0], [2.0001, 1.0001]]))
    found = worth(np.array([1.5, 1.5]), steps)
    assert found.value is not None and found.covers(found.value)
    assert len(found.spans) == 1 and 100 < found.value < 101


def test_the_order_of_chains_and_trials_changes_nothing() -> None:
    costs = curve(law(SIZES), sd=0.01).cost_CK
    subset = law(300) + 0.01 * RNG.standard_normal(5)
    one, other = (
        worth(subset, RandomCurve(SIZES, costs)),
        worth(subset[::-1], RandomCurve(SIZES, costs[[2, 0, 1, 4, 3]])),
    )
    assert one.spans == other.spans
    assert one.value == pytest.approx(other.value)


def test_a_non_monotone_mean_is_made_monotone_for_the_point() -> None:
    size = np.array([1.0, 2.0, 3.0, 4.0])
    assert inversion(size, np.array([4.0, 2.0, 3.0, 1.0]), 2.5) == pytest.approx(np.sqrt(6), rel=0.3)
    assert inversion(size, np.array([4.0, 3.0, 2.0, 1.0]), 0.5) is None
    assert inversion(size, np.array([4.0, 3.0, 2.0, 1.0]), 4.5) is None


@pytest.mark.parametrize(
    ("sizes", "costs"),
    [([1, 2], [[1, 2]]), ([1], [[1], [2]]), ([2, 1], [[1, 2], [1, 2]]), ([1, 2], [[1, np.nan], [1, 2]]),
     ([0, 2], [[1, 2], [1, 2]]), ([1, 2, 3], [[1, 2], [1, 2]])],
)  # fmt: skip
def test_curves_that_mean_nothing_are_refused(sizes: list[float], costs: list[list[float]]) -> None:
    with pytest.raises(RequestError, match="random curve"):
        RandomCurve(np.array(sizes), np.array(costs))


def test_one_trial_has_no_worth() -> None:
    with pytest.raises(RequestError, match="run more seeds"):
        worth([1.0], curve(law(SIZES)))


@pytest.mark.parametrize("chains", [3, 5, 10])
def test_nine_of_ten_intervals_hold_the_truth(chains: int) -> None:
    rng, hits, proofs = np.random.default_rng(chains), 0, 1000
    for _ in range(proofs):
        true = float(np.exp(rng.uniform(np.log(120), np.log(1400))))
        costs = law(SIZES) + 0.005 * rng.standard_normal((chains, 1)) + 0.005 * rng.standard_normal((chains, 5))
        hits += worth(law(true) + 0.007 * rng.standard_normal(5), RandomCurve(SIZES, costs)).covers(true)
    assert 0.865 <= hits / proofs <= 0.935
