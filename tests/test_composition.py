"""What a subset is made of: counts against loops over rows, named sources, bins that hold every row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.made_pools import held_pool, numbered

from dataworth import config, rendered
from dataworth.composition import MOST_MOVED, MOST_SOURCES, _edges, _shift, bins_for, composition
from dataworth.recipe import Recipe
from dataworth.records import Pool
from dataworth.session import SILENT, Session
from dataworth.store.cache import Cache


def session(pool: Pool, tmp_path: Path) -> Session:
    return Session(config.SelectRequest(pool=("p",)), pool, None, Recipe(), Cache(tmp_path), SILENT)


def test_counts_are_those_of_a_loop_over_the_rows(tmp_path: Path) -> None:
    rows = numbered(60)
    sources = [f"s{n % 5}" for n in range(60)]
    pool = held_pool(rows, sources)
    kept_N = np.arange(60) % 7 == 0
    told = composition(session(pool, tmp_path), {"picks": kept_N})
    lengths = [len(f"{r['prompt']}\n{r['completion']}") for r in rows]
    assert told["unit"] == "characters"
    assert [p["name"] for p in told["parts"]] == ["pool", "picks"]
    for part, held in zip(told["parts"], ([True] * 60, kept_N.tolist()), strict=True):
        mine = [n for n in range(60) if held[n]]
        assert part["rows"] == len(mine) == sum(part["length_rows"]) == sum(part["source_rows"])
        assert part["source_rows"] == [sum(sources[n] == s for n in mine) for s in told["sources"]]
        assert part["sum"] == sum(lengths[n] for n in mine)
        assert part["quantiles"][0] == min(lengths[n] for n in mine)
        assert part["quantiles"][-1] == max(lengths[n] for n in mine)
        assert part["quantiles"][2] == np.median([lengths[n] for n in mine])


def test_sources_a_part_is_full_of_are_named_and_the_others_counted_together(tmp_path: Path) -> None:
    sources = [*(f"big{n % 40:02d}" for n in range(200)), *["rare"] * 2]
    pool = held_pool(numbered(202), sources)
    told = composition(session(pool, tmp_path), {"picks": np.arange(202) >= 200})
    assert len(told["sources"]) == MOST_SOURCES
    assert told["sources"][0] == "rare", "all of the picks, one in a hundred of the pool"
    assert told["sources"][-1] == f"{told['further_sources']} further sources"
    assert told["further_sources"] == 41 - (MOST_SOURCES - 1)
    for part in told["parts"]:
        assert sum(part["source_rows"]) == part["rows"]


def test_a_subset_named_pool_is_not_taken_for_the_pool(tmp_path: Path) -> None:
    told = composition(session(held_pool(numbered(9)), tmp_path), {"pool": np.arange(9) < 2})
    assert [(p["name"], p["rows"]) for p in told["parts"]] == [("whole pool", 9), ("pool", 2)]


def test_an_empty_part_has_no_quantiles(tmp_path: Path) -> None:
    told = composition(session(held_pool(numbered(5)), tmp_path), {"picks": np.zeros(5, dtype=bool)})
    assert told["parts"][1]["quantiles"] is None
    assert told["parts"][1]["rows"] == sum(told["parts"][1]["length_rows"]) == 0


def test_tokens_are_counted_where_the_run_has_them_and_rows_without_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = held_pool(numbered(4))

    class Tokens:
        def __init__(self) -> None:
            self.unscored = {pool.ids[2]: "carries no loss"}

        def table(self, ids: object) -> Tokens:
            return self

        def column(self, name: str, fill: int) -> np.ndarray:
            return np.array([10, 20, 0, 40])

    monkeypatch.setattr(rendered, "token_artefact", lambda session, pool: Tokens())
    opened = session(pool, tmp_path)
    opened.used["f"] = "tokens"
    told = composition(opened, {})
    assert told["unit"] == "tokens"
    (whole,) = told["parts"]
    assert (whole["rows"], sum(whole["length_rows"]), whole["sum"]) == (4, 3, 70)
    assert whole["quantiles"][0] == 10


def test_the_pass_over_the_pool_is_on_the_bill(tmp_path: Path) -> None:
    opened = session(held_pool(numbered(5)), tmp_path)
    composition(opened, {})
    assert opened.costs["composition"]["rows"] == 5


@given(st.lists(st.integers(0, 100_000), min_size=1, max_size=50), st.integers(1, 30))
def test_bins_grow_and_hold_every_length(lengths: list[int], bins: int) -> None:
    edges, _ = _edges(np.array(lengths, dtype=np.float64), bins)
    assert (np.diff(edges) > 0).all()
    assert np.histogram(lengths, bins=edges)[0].sum() == len(lengths)
    assert len(edges) <= bins + 1 or len(edges) == 2


def test_bins_are_even_in_the_logarithm_for_lengths_that_spread_widely() -> None:
    assert _edges(np.array([10.0, 5000.0]), 12)[1]
    assert not _edges(np.array([100.0, 900.0]), 12)[1]
    assert not _edges(np.array([0.0, 900.0]), 12)[1], "zero has no logarithm"
    assert _edges(np.array([np.nan]), 12)[0].tolist() == [0, 1]


def test_few_rows_get_few_bins() -> None:
    assert [bins_for(n) for n in (0, 20, 300, 10**6)] == [6, 6, 13, 24]


def test_rows_with_a_class_are_counted_by_class_and_have_no_length(tmp_path: Path) -> None:
    import dataworth as dw

    rng = np.random.default_rng(0)
    label = np.repeat(["cat", "dog", "owl"], [30, 20, 10])
    np.savez(tmp_path / "pool.npz", image=rng.integers(0, 256, (60, 4, 4, 3)).astype(np.uint8), label=label)
    found = dw.select(
        str(tmp_path / "pool.npz"), method="random", keep=15, run=str(tmp_path / "run"), workers=0, device="cpu"
    )
    told = found.record["composition"]
    pool, picks = told["parts"]
    assert told["by"] == "class" and dict(zip(told["sources"], pool["source_rows"], strict=True)) == {
        "cat": 30,
        "dog": 20,
        "owl": 10,
    }
    assert sum(picks["source_rows"]) == 15
    shown = dw.view(found.run).explain()
    assert "rows by class" in shown and "length in" not in shown


@given(st.lists(st.integers(0, 9), min_size=1, max_size=60), st.integers(0, 60))
def test_shifts_of_classes_are_those_of_a_loop(labels: list[int], rows: int) -> None:
    own_N, names = np.array(labels), tuple(f"c{n}" for n in range(10))
    own_n = own_N[:rows]
    told = _shift(np.bincount(own_N, minlength=10), own_n, names)
    share = {k: (labels.count(k) / len(labels), own_n.tolist().count(k) / max(1, len(own_n))) for k in range(10)}
    assert told["distance"] == pytest.approx(sum(abs(a - b) for a, b in share.values()) / 2)
    by_name = dict(zip(names, share.values(), strict=True))
    for way, sign in (("lost", -1), ("gained", 1)):
        moved = sorted((b - a for a, b in share.values()), key=lambda d: -sign * d)[:MOST_MOVED]
        assert [b - a for _, a, b in told[way]] == pytest.approx([d for d in moved if sign * d > 0])
        assert all((a, b) == pytest.approx(by_name[name]) for name, a, b in told[way])


def test_random_rows_are_seldom_further_from_the_pool_than_chance_and_one_class_always_is() -> None:
    rng = np.random.default_rng(1)
    own_N = rng.integers(0, 10, 1000)
    there, names = np.bincount(own_N), tuple("abcdefghij")
    told = [_shift(there, rng.permutation(own_N)[:200], names) for _ in range(200)]
    assert np.mean([t["distance"] > t["chance"] for t in told]) <= 0.03
    assert np.mean([t["distance"] > 0.8 * t["chance"] for t in told]) > 0.03, "nor is it anything"
    one = _shift(there, own_N[own_N == 3], names)
    assert one["distance"] > 3 * one["chance"]
    assert one["gained"] == [("d", pytest.approx(there[3] / 1000), 1.0)]
    assert _shift(there, own_N, names)["distance"] == 0
