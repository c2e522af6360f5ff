"""D2's passes against loops over rows and an argmax a step."""

import numpy as np

from dataworth.numerics import message_passing
from dataworth.numerics.message_passing import distances, forward, reverse
from dataworth.numerics.neighbours import nearest


def case(n=30, k=4, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 5))
    found = nearest(x, np.arange(n), k)
    return found, rng.random(n)


def naive(index, cosine, value, k, gamma):
    n = len(value)
    far = {}
    for i in range(n):
        for j, c in zip(index[i], cosine[i], strict=True):
            if j >= 0:
                far[i, j] = far[j, i] = np.sqrt(max(0, 2 - 2 * float(c)))
    score = np.array(
        [value[i] + sum(np.exp(-d) * max(value[b], 1e-7) for (a, b), d in far.items() if a == i) for i in range(n)]
    )
    first = score.copy()
    picked = []
    for _ in range(k):
        s = max((i for i in range(n) if i not in picked), key=lambda i: (score[i], -i))
        picked.append(s)
        for (a, b), d in far.items():
            if a == s:
                score[b] -= np.exp(-gamma * d) * max(first_of(score, s), 0)
    return first, picked


def first_of(score, s):
    return score[s]


def test_both_passes_equal_loops_over_rows():
    for seed in range(3):
        found, value = case(seed=seed)
        kernel = distances(found.index_Nk, found.cosine_Nk)
        score, picked = naive(found.index_Nk, found.cosine_Nk, value, 30, 0.1)
        got = forward(kernel, value)
        np.testing.assert_allclose(got, score)
        assert reverse(kernel, got, 30, 0.1).tolist() == picked


def test_forward_has_neither_gamma_nor_a_square():
    index, cosine = np.array([[1], [0]]), np.array([[0.5], [0.5]], np.float32)
    got = forward(distances(index, cosine), np.array([2.0, 0.0]))
    np.testing.assert_allclose(got, [2 + np.exp(-1) * 1e-7, 0 + np.exp(-1) * 2])
    silent = forward(distances(index, cosine), np.zeros(2))
    np.testing.assert_allclose(silent, np.exp(-1) * 1e-7, err_msg="a row without a score still counts as a neighbour")


def test_reverse_uses_gamma_and_never_takes_a_row_twice():
    index, cosine = np.array([[1], [0], [-1]]), np.array([[1.0], [1.0], [np.nan]], np.float32)
    kernel = distances(index, cosine)
    assert reverse(kernel, np.array([1.0, 0.9, 0.5]), 3, 1.0).tolist() == [0, 2, 1]
    assert reverse(kernel, np.array([-1.0, -1.0, -2.0]), 3, 1.0).tolist() == [0, 1, 2]


def test_a_row_below_zero_raises_nobody():
    """Taken literally, a negative score times -exp(-gamma distance) would push its neighbours up."""
    index, cosine = np.array([[1], [0], [-1]]), np.array([[1.0], [1.0], [np.nan]], np.float32)
    kernel = distances(index, cosine)
    assert reverse(kernel, np.array([-1.0, -3.0, -2.5]), 3, 1.0).tolist() == [0, 2, 1]


def test_compiled_and_interpreted_agree(monkeypatch):
    found, value = case(60)
    kernel = distances(found.index_Nk, found.cosine_Nk)
    fast = reverse(kernel, forward(kernel, value), 40, 0.5)
    monkeypatch.setattr(message_passing, "compiled", lambda kernel: kernel)
    np.testing.assert_array_equal(fast, reverse(kernel, forward(kernel, value), 40, 0.5))
