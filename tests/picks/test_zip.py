import random
import string

import numpy as np
import pytest

from dataworth.errors import RequestError
from dataworth.numerics.compressed import After
from dataworth.picks.zip import Zip, _Greedy
from dataworth.records import Budget

WORDS = [
    "".join(random.Random(i).choices(string.ascii_lowercase, k=random.Random(-i).randint(2, 9))) for i in range(80)
]


def made(n, seed=0, words=40):
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=words)) for _ in range(n)]


def case(pool, **more):
    return {"ids": [f"{i:032x}" for i in range(len(pool))], "text:pool": pool, **more}


def order(pool, **stages):
    """All rows in the order in which they are taken."""
    greedy = _Greedy([t.encode() for t in pool], np.arange(len(pool)))
    while greedy.left_n.any():
        greedy.round(**{"coarse": 1000, "fine": 100, "each": 10, **stages})
    return greedy.order


def naive(pool):
    """One row after another, each candidate measured beside all kept rows."""
    texts = [t.encode() for t in pool]
    cost = {i: After(b"").cost(t) for i, t in enumerate(texts)}
    taken, size, packed = [], 0, 0
    while cost:
        after = After(b"\n".join(texts[i] for i in taken))
        cost = {i: min(c, after.cost(texts[i])) for i, c in cost.items()}
        best = min(cost, key=lambda i: ((size + len(texts[i])) / (packed + cost[i]), i))
        size, packed = size + len(texts[best]), packed + cost.pop(best)
        taken.append(best)
    return taken


def test_one_row_a_round_is_the_naive_greedy():
    pool = made(25)
    assert order(pool, each=1) == naive(pool)


def test_copies_come_last():
    pool = made(30)
    got = order([*pool, *pool], each=7, fine=20, coarse=40)
    assert len({i % 30 for i in got[:30]}) >= 28
    assert len({i % 30 for i in got}) == 30


def test_a_copy_of_an_earlier_round_is_seen():
    """The reference code's last stage begins with nothing kept."""
    noise = "".join(random.Random(0).choices(string.ascii_letters, k=300))
    got = order([noise, *made(6, seed=2, words=60), noise], each=1)
    assert got[0] == 0 and got[-1] == 7


def test_rows_that_a_round_looked_at_and_left_come_back():
    """The reference code never looks at them again: half of a small pool is out for good."""
    assert sorted(order(made(20), fine=20, each=5)) == list(range(20))


def test_a_copy_is_seen_across_more_text_than_zlibs_window():
    rng = random.Random(5)
    long = ["".join(rng.choices(string.ascii_letters, k=20_000)) for _ in range(4)]
    got = order([*long, long[0]], each=1)
    assert got[-1] in (0, 4)


def test_keeps_less_compressible_rows_than_chance():
    pool = [*made(40), *made(1, seed=3) * 40]
    got = Zip()(case(pool), Budget("rows", 30))
    assert got.kept_N[:40].sum() >= 29
    assert got.counts() == {"kept-new": 30, "adds-less": 50}
    assert got.boundary["kept_ratio"] > 0


def test_row_order_plays_no_part():
    pool = made(40)
    inputs = case(pool)
    mixed = np.random.default_rng(0).permutation(40)
    other = {"ids": [inputs["ids"][i] for i in mixed], "text:pool": [pool[i] for i in mixed]}
    one, two = (Zip()(x, Budget("rows", 11), each=4, fine=10, coarse=20) for x in (inputs, other))
    assert set(one.ids) == set(two.ids) and one.boundary == two.boundary


def test_a_token_budget_is_a_prefix_of_the_order():
    pool = made(20)
    tokens = np.full(20, 10)
    got = Zip()(case(pool, tokens_N=tokens), Budget("tokens", 55), each=2)
    whole = order(pool, each=2)
    assert set(np.flatnonzero(got.kept_N).tolist()) == set(whole[:5])
    assert got.counts()["over-budget"] == 1
    everything = Zip()(case(pool, tokens_N=tokens), Budget("tokens", 5000))
    assert len(everything.ids) == 20 and everything.notes


def test_rows_without_text_and_excluded_rows_are_not_kept():
    pool = [*made(5), ""]
    got = Zip()(case(pool, excluded={f"{2:032x}": ("near-goal", "")}), Budget("rows", 6))
    assert got.counts() == {"kept-new": 4, "near-goal": 1, "no-text": 1}
    assert got.notes


def test_a_pool_of_empty_rows_keeps_nothing():
    got = Zip()(case(["", ""]), Budget("rows", 1))
    assert not got.ids and got.boundary == {}


@pytest.mark.parametrize("stages", [{"coarse": 5}, {"each": 201}, {"each": 0}])
def test_stages_must_narrow_down(stages):
    with pytest.raises(RequestError, match="correct --option"):
        Zip()(case(["a"]), Budget("rows", 1), **stages)


def test_nothing_is_refused():
    with pytest.raises(RequestError, match="keeps nothing"):
        Zip()(case(["a"]), Budget("rows", 0))
