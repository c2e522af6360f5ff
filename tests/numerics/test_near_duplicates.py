import gzip
import json
import os
import random
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from dataworth.errors import MissingExtra, RequestError
from dataworth.numerics.near_duplicates import band_rows, jaccard, near_duplicates
from dataworth.records import id_order

WORDS = [f"w{i}" for i in range(3000)]


@pytest.fixture(autouse=True)
def _with_rensa(request):
    if request.node.name != "test_without_the_library_the_extra_is_named":
        pytest.importorskip("rensa")


def made(n, seed=0, words=60):
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=words)) for _ in range(n)]


def edited(text, seed, every=20):
    """One of every twenty words is another."""
    rng, found = random.Random(seed), text.split(" ")
    for start in range(0, len(found) - every + 1, every):
        found[rng.randrange(start, start + every)] = f"new{rng.randrange(10**6)}"
    return " ".join(found)


def groups(texts, *args, **options):
    return near_duplicates(np.arange(len(texts)), iter(texts), *args, **options)


def pairs_of(text, width):
    w = text.split()
    return {tuple(w[i : i + width]) for i in range(len(w) - width + 1)} or ({tuple(w)} if w else set())


def naive(texts, threshold, width=2):
    """All pairs by sets of words, and the connected parts of what is alike."""
    sets = [pairs_of(t, width) for t in texts]
    group = list(range(len(texts)))
    for a, b in combinations(range(len(texts)), 2):
        union = sets[a] | sets[b]
        if union and len(sets[a] & sets[b]) / len(union) >= threshold and group[a] != group[b]:
            low, high = sorted((group[a], group[b]))
            group = [low if g == high else g for g in group]
    return group


def test_planted_near_duplicates_are_found_and_strangers_are_not():
    base = made(200)
    got = groups([*base, *(edited(t, i) for i, t in enumerate(base))])
    assert (got[200:] == np.arange(200)).sum() == sum(
        naive([t, edited(t, i)], 0.8) == [0, 0] for i, t in enumerate(base)
    )
    assert (got[200:] == np.arange(200)).mean() > 0.9
    assert got[:200].tolist() == list(range(200))


@pytest.mark.parametrize(("threshold", "width"), [(0.8, 2), (0.5, 2), (0.6, 3), (1.0, 1)])
def test_equals_all_pairs(threshold, width):
    base = made(25, words=30)
    texts = [*base, *(edited(t, i, every=10) for i, t in enumerate(base)), *base[:5], "a", "a", "b", ""]
    assert groups(texts, threshold, width=width).tolist() == naive(texts, threshold, width)


def test_chains_are_one_group_named_after_its_first():
    one = made(1, words=80)[0]
    chain = [one]
    for i in range(6):
        chain.append(edited(chain[-1], i, every=40))
    assert set(groups(chain).tolist()) == {0}
    assert naive([chain[0], chain[-1]], 0.8) == [0, 1]


def test_row_order_plays_no_part():
    texts = [t for i, base in enumerate(made(40)) for t in (base, edited(base, i))]
    ids = [f"{(i * 2654435761) % 2**64:032x}" for i in range(80)]
    mixed = np.random.default_rng(0).permutation(80)
    one = near_duplicates(id_order(ids), texts)
    other = near_duplicates(id_order([ids[i] for i in mixed]), [texts[i] for i in mixed])
    np.testing.assert_array_equal(one[mixed], other)
    smallest = [min(ids[j] for j in np.flatnonzero(one == g)) for g in one]
    assert [sorted(ids).index(i) for i in smallest] == one.tolist()


def test_the_seed_of_the_signatures_changes_nothing_found():
    texts = [t for i, base in enumerate(made(40)) for t in (base, edited(base, i, every=40))]
    np.testing.assert_array_equal(groups(texts, seed=1), groups(texts, seed=2))


def test_empty_rows_are_alone_and_case_and_punctuation_are_not_words():
    assert groups(["", "?!", "Red blue.", "red BLUE", "red"]).tolist() == [0, 1, 2, 2, 4]


def test_many_copies_cost_no_pairs():
    assert set(groups(made(1) * 5000).tolist()) == {0}


def test_no_rows_and_no_words():
    assert groups([]).shape == (0,)
    assert groups(["", ""]).tolist() == [0, 1]


def test_bands_miss_a_pair_at_the_threshold_once_in_a_hundred():
    for threshold in (0.3, 0.5, 0.8, 0.95):
        rows = band_rows(threshold, 128)
        assert 1 - (1 - threshold**rows) ** (128 // rows) >= 0.99
        assert 1 - (1 - threshold ** (rows + 1)) ** (128 // (rows + 1)) < 0.99
    assert band_rows(0.8, 128) == 6
    assert band_rows(0.01, 16) == 1


def test_jaccard_is_shared_over_all():
    a, b = np.arange(8, dtype=np.uint64), np.arange(2, 10, dtype=np.uint64)
    assert jaccard(a, b) == 0.6


@pytest.mark.parametrize("wrong", [{"threshold": 0}, {"threshold": 1.1}, {"width": 0}, {"permutations": 0}])
def test_wrong_options_are_refused(wrong):
    with pytest.raises(RequestError, match="correct --option"):
        groups(["a"], **wrong)


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "rensa", None)
    with pytest.raises(MissingExtra, match="rensa"):
        groups(["a b c"])


@pytest.mark.data
@pytest.mark.skipif("DATAWORTH_DATA" not in os.environ, reason="DATAWORTH_DATA is unset")
def test_planted_near_duplicates_of_alpaca_are_found():
    path = Path(os.environ["DATAWORTH_DATA"]) / "alpaca" / "alpaca_random9k.jsonl.gz"
    with gzip.open(path, "rt") as file:
        rows = [json.loads(line) for line, _ in zip(file, range(3000), strict=False)]
    texts = [f"{r['instruction']} {r['output']}" for r in rows]
    long = [i for i, t in enumerate(texts) if len(t.split()) >= 40][:300]
    planted = [edited(texts[i], i) for i in long]
    got = groups([*texts, *planted])
    assert (got[3000:] == got[long]).mean() > 0.95
    assert len(set(got[:3000].tolist())) > 2990
