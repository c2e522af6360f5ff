"""Picks by geometry: what each rule keeps, by loops and by the digests' checks, and what all of them owe a pool."""

import numpy as np
import pytest

from dataworth.errors import RequestError
from dataworth.geometry import Clusters
from dataworth.numerics import facility
from dataworth.numerics.neighbours import nearest
from dataworth.picks import diverse, semdedup
from dataworth.picks.cluster_quota import ClusterQuota
from dataworth.picks.craig import Craig
from dataworth.picks.d2 import D2
from dataworth.picks.diverse import Diverse
from dataworth.picks.facility_location import FacilityLocation
from dataworth.picks.herding import Herding
from dataworth.picks.k_center import KCenter
from dataworth.picks.lightweight import Lightweight
from dataworth.picks.semdedup import SemDeDup
from dataworth.picks.sensitivity import Sensitivity
from dataworth.records import Budget, id_order
from dataworth.results import Scored

PICKS = [
    KCenter(),
    FacilityLocation(),
    Diverse(),
    SemDeDup(),
    ClusterQuota(),
    Herding(),
    D2(),
    Craig(),
    Lightweight(),
    Sensitivity(),
]
WEIGHTED = {"craig", "lightweight", "sensitivity"}
AXES = np.eye(4, 16)
each = pytest.mark.parametrize("pick", PICKS, ids=lambda p: p.name)
budgets = pytest.mark.parametrize(
    "budget", [Budget("rows", 1), Budget("rows", 17), Budget("fraction", 0.25), Budget("tokens", 400)], ids=str
)


def unit(x):
    with np.errstate(invalid="ignore"):
        return x / np.linalg.norm(x, axis=1, keepdims=True)


def inputs_of(ids, vectors, seed=0, k=6):
    """Inputs of every pick for these vectors; clusters are the nearest of four axes."""
    rng = np.random.default_rng(seed)
    vectors = vectors.astype(np.float32)
    cosine = unit(vectors.astype(float)) @ AXES[:, : vectors.shape[1]].T
    label = np.where(np.isnan(cosine).any(axis=1), -1, np.nan_to_num(cosine).argmax(axis=1))
    n = len(ids)
    return {
        "ids": ids,
        "score:x": Scored(rng.normal(size=n).round(1)),
        "higher": "keep",
        "eligible_N": np.ones(n, dtype=bool),
        "excluded": {},
        "tokens_N": rng.integers(5, 50, size=n),
        "labels": rng.integers(0, 3, size=n),
        "vectors": vectors,
        "neighbours": nearest(vectors, id_order(ids), k),
        "clusters": Clusters(label, AXES.astype(np.float32), np.round(cosine.max(axis=1), 6).astype(np.float32)),
    }


def row_ids(n):
    return [f"{(i * 2654435761) % 2**64:032x}" for i in range(n)]


def pool(n=60, seed=0):
    rng = np.random.default_rng(seed)
    return inputs_of(row_ids(n), rng.normal(size=(n, 16)) + 0.3, seed)


def shuffled(inputs, order):
    ids = [inputs["ids"][i] for i in order]
    found = inputs_of(ids, inputs["vectors"][order])
    by_row = {key: inputs[key][order] for key in ("eligible_N", "tokens_N", "labels")}
    scored = inputs["score:x"]
    return {**found, **by_row, "score:x": Scored(scored.values_N[order], scored.unscored)}


def kept(selection):
    return np.flatnonzero(selection.kept_N).tolist()


@each
class TestAll:
    @budgets
    def test_row_order_plays_no_part(self, pick, budget):
        inputs, order = pool(), np.random.default_rng(2).permutation(60)
        one, two = pick(inputs, budget, seed=0), pick(shuffled(inputs, order), budget, seed=0)
        assert one.ids and set(one.ids) == set(two.ids)
        assert one.counts() == two.counts() and one.boundary == two.boundary and one.notes == two.notes
        weight = dict(zip(one.ids, one.weights, strict=True))
        assert weight == dict(zip(two.ids, two.weights, strict=True))

    @budgets
    def test_budgets_hold_and_every_row_has_a_reason(self, pick, budget):
        inputs = pool()
        got = pick(inputs, budget, seed=0)
        assert sum(got.counts().values()) == 60
        if budget.unit == "tokens":
            assert inputs["tokens_N"][got.kept_N].sum() <= budget.amount
            assert inputs["tokens_N"][got.kept_N].sum() > budget.amount - 100
        else:
            assert len(got.ids) == budget.rows(60)
        for code, text in got.reason_texts.items():
            assert code == code.lower() and len(text) > 10 and code.startswith("kept") == text.startswith("kept")
        assert (got.weights > 0).all() and (pick.name in WEIGHTED or (got.weights == 1).all())

    def test_equal_costs_are_spent_to_the_last_token(self, pick):
        inputs = {**pool(), "tokens_N": np.full(60, 30)}
        got = pick(inputs, Budget("tokens", 215), seed=0)
        assert len(got.ids) == 7 and not got.notes
        sampled = pick.name in ("lightweight", "sensitivity")  # as many rows as fit: none is next in line
        assert got.counts().get("over-budget", 0) == (0 if sampled or pick.name == "cluster_quota" else 1)

    @pytest.mark.parametrize("k", [60, 61])
    def test_all_and_more_than_all(self, pick, k):
        got = pick(pool(), Budget("rows", k), seed=0)
        assert len(got.ids) == 60 and bool(got.notes) == (k > 60) and (got.weights == 1).all()

    def test_nothing_and_unpayable_budgets_are_refused(self, pick):
        with pytest.raises(RequestError, match="keeps nothing"):
            pick(pool(), Budget("rows", 0), seed=0)
        with pytest.raises(RequestError, match="less than"):
            pick(pool(), Budget("tokens", 2), seed=0)
        with pytest.raises(RequestError, match="token counts"):
            pick({**pool(), "tokens_N": None}, Budget("tokens", 200), seed=0)

    def test_one_row_and_no_row(self, pick):
        assert len(pick(pool(1), Budget("fraction", 0.01), seed=0).ids) == 1
        inputs = pool(4)
        inputs["eligible_N"][:] = False
        got = pick(inputs, Budget("rows", 2), seed=0)
        assert not got.ids and got.notes and got.counts() == {"excluded": 4}

    def test_excluded_rows_and_rows_without_a_vector_are_never_kept(self, pick):
        inputs = pool(40)
        vectors = inputs["vectors"].copy()
        vectors[:3] = np.nan
        inputs = {**inputs_of(inputs["ids"], vectors), "labels": inputs["labels"]}
        inputs["excluded"] = {inputs["ids"][9]: ("near-goal", "x")}
        inputs["eligible_N"][[9, 12]] = False
        got = pick(inputs, Budget("rows", 40), seed=0)
        out = {9, 12} if pick.name == "d2" else {0, 1, 2, 9, 12}
        assert set(kept(got)) == set(range(40)) - out
        assert got.counts().get("no-vector", 0) == len(out) - 2
        assert got.counts()["near-goal"] == got.counts()["excluded"] == 1

    def test_excluded_rows_are_not_rows_to_cover(self, pick):
        """Rows that are out change nothing: the pick is that of the pool without them."""
        inputs = pool(40)
        inputs["eligible_N"][25:] = False
        rest = np.arange(25)
        one = pick(inputs, Budget("rows", 7), seed=0)
        alone = shuffled(inputs, rest)
        if pick.name in ("facility_location", "d2"):  # lists of neighbours hold rows that are out
            inputs["neighbours"] = alone["neighbours"].__class__(
                np.pad(alone["neighbours"].index_Nk, ((0, 15), (0, 3)), constant_values=30),
                np.pad(alone["neighbours"].cosine_Nk, ((0, 15), (0, 3)), constant_values=0.9),
            )
            one = pick(inputs, Budget("rows", 7), seed=0)
        two = pick(alone, Budget("rows", 7), seed=0)
        assert one.ids == two.ids
        np.testing.assert_allclose(one.weights, two.weights)

    def test_ten_copies_of_every_row_do_no_harm(self, pick):
        rng = np.random.default_rng(0)
        ids = [f"{i:032x}" + (f"#{c}" if c else "") for i in range(8) for c in range(10)]
        inputs = inputs_of(ids, np.repeat(rng.normal(size=(8, 8)), 10, axis=0), k=20)
        got = pick(inputs, Budget("rows", 8), seed=0)
        distinct = {i // 10 for i in kept(got)}
        assert len(got.ids) == 8
        if pick.name in ("k_center", "facility_location", "diverse", "semdedup"):
            assert len(distinct) == 8


def test_k_center_starts_at_random_and_states_its_radius():
    inputs = pool()
    got = [KCenter()(inputs, Budget("rows", 5), seed=s) for s in range(6)]
    assert len({s.ids for s in got}) > 1
    x = unit(inputs["vectors"].astype(float))
    distance = np.linalg.norm(x[:, None] - x[None, kept(got[0])], axis=2).min(axis=1)
    assert got[0].boundary["radius"] == pytest.approx(distance.max(), abs=2e-3)


def test_facility_location_is_naive_greedy_on_the_graph():
    inputs = pool()
    order = id_order(inputs["ids"])
    place = np.argsort(order)
    found = inputs["neighbours"]
    dense = np.eye(60)
    for i in range(60):
        for j, c in zip(found.index_Nk[i], found.cosine_Nk[i], strict=True):
            dense[place[i], place[j]] = dense[place[j], place[i]] = max(c, 0)
    picked = facility.greedy_dense(dense, 12)[0]
    got = FacilityLocation()(inputs, Budget("rows", 12))
    assert set(kept(got)) == set(order[picked].tolist())
    assert got.boundary["objective"] == pytest.approx(dense[picked].max(axis=0).mean())


def test_facility_location_options_and_a_thin_graph():
    inputs = pool(60)
    for options in ({"epsilon": 0.05}, {"partitions": 4}):
        got = FacilityLocation()(inputs, Budget("rows", 12), **options)
        assert len(got.ids) == 12
        assert got.boundary["objective"] > 0.9 * FacilityLocation()(inputs, Budget("rows", 12)).boundary["objective"]
    seeds = {FacilityLocation()(inputs, Budget("rows", 12), epsilon=0.1, seed=s).ids for s in range(4)}
    assert len(seeds) > 1
    assert "no neighbours of a kept row" in FacilityLocation()(inputs, Budget("rows", 2)).notes[0]
    assert not FacilityLocation()(inputs, Budget("rows", 20)).notes
    for wrong in ({"epsilon": 0.9}, {"epsilon": 0.05, "partitions": 2}, {"partitions": 0}):
        with pytest.raises(RequestError, match="expected"):
            FacilityLocation()(inputs, Budget("rows", 12), **wrong)


def naive_diverse(inputs, tau, m):
    x, values = unit(inputs["vectors"].astype(float)), inputs["score:x"].values_N
    rank = np.argsort(id_order(inputs["ids"]))
    chosen = []
    for i in sorted(range(len(values)), key=lambda i: (-values[i], rank[i])):
        if len(chosen) < m and all(round(float(x[i] @ x[j]), 6) <= tau for j in chosen):
            chosen.append(i)
    return sorted(chosen)


@pytest.mark.parametrize("rows", [5, 1024])
@pytest.mark.parametrize("tau", [0.2, 0.6, 0.9, 1.0])
def test_diverse_is_the_filter_row_by_row(monkeypatch, rows, tau):
    monkeypatch.setattr(diverse, "_ROWS", rows)
    inputs = pool()
    for m in (1, 8, 60):
        assert kept(Diverse()(inputs, Budget("rows", m), tau=tau)) == naive_diverse(inputs, tau, m)


def test_diverse_keeps_one_of_two_equal_rows_the_better_one():
    vectors = np.eye(4, 8)[[0, 0, 1, 2]]
    inputs = inputs_of(row_ids(4), vectors, k=3)
    inputs["score:x"] = Scored(np.array([1.0, 2, 0, 0]))
    got = Diverse()(inputs, Budget("rows", 4))
    assert kept(got) == [1, 2, 3] and got.counts() == {"kept-diverse": 3, "too-near": 1}
    assert "only 3 of 4" in got.notes[0] and "tau=0.9" in got.notes[0]
    assert kept(Diverse()(inputs, Budget("rows", 2), tau=1.0)) == [0, 1]  # tau = 1 is top-m
    assert kept(Diverse()({**inputs, "higher": "drop"}, Budget("rows", 4))) == [0, 2, 3]
    for tau in (1.5, -1, float("nan")):
        with pytest.raises(RequestError, match="tau"):
            Diverse()(inputs, Budget("rows", 2), tau=tau)


@pytest.mark.parametrize("rows", [3, 2048])
def test_semdedup_keeps_the_best_of_duplicates_within_a_cluster(monkeypatch, rows):
    monkeypatch.setattr(semdedup, "_ROWS", rows)
    inputs = pool(50)
    x, values, label = unit(inputs["vectors"].astype(float)), inputs["score:x"].values_N, inputs["clusters"].label_N
    rank = np.argsort(id_order(inputs["ids"]))

    def better(j, i):
        return (-values[j], rank[j]) < (-values[i], rank[i])

    twin = {i for i in range(50) for j in range(50) if label[i] == label[j] and better(j, i) and x[i] @ x[j] > 0.35}
    got = SemDeDup()(inputs, Budget("rows", 50), threshold=0.35)
    assert 3 < len(twin) < 47 and set(kept(got)) == set(range(50)) - twin
    assert got.counts()["duplicate"] == len(twin) and "only" in got.notes[0]
    top = sorted(set(range(50)) - twin, key=lambda i: (-values[i], rank[i]))[:5]
    few = SemDeDup()(inputs, Budget("rows", 5), threshold=0.35)
    assert set(kept(few)) == set(top) and few.boundary["last_kept"] == values[top[-1]]
    with pytest.raises(RequestError, match="threshold"):
        SemDeDup()(inputs, Budget("rows", 5), threshold=95)


def test_semdedup_goes_by_the_score_not_by_the_order_of_rows():
    inputs = inputs_of(row_ids(3), np.eye(3, 8)[[0, 0, 0]], k=2)
    inputs["score:x"] = Scored(np.array([1.0, 3, 2]))
    assert kept(SemDeDup()(inputs, Budget("rows", 3))) == [1]
    assert kept(SemDeDup()({**inputs, "higher": "drop"}, Budget("rows", 3))) == [0]


def test_cluster_quota_gives_every_cluster_its_share():
    inputs = pool()
    label, values = inputs["clusters"].label_N, inputs["score:x"].values_N
    size = np.bincount(label, minlength=4)
    got = ClusterQuota()(inputs, Budget("rows", 12))
    assert np.bincount(label[got.kept_N], minlength=4).tolist() == np.minimum(size, 3).tolist()
    for c in range(4):
        rows = np.flatnonzero(label == c)
        assert values[rows][got.kept_N[rows]].min() >= values[rows][~got.kept_N[rows]].max()
    assert got.reason_texts["kept-cluster"].startswith("kept: among the highest by x of its cluster within")
    half = ClusterQuota()(inputs, Budget("rows", 30), shares="proportional")
    assert np.abs(np.bincount(label[half.kept_N], minlength=4) - size / 2).max() <= 1
    with pytest.raises(RequestError, match="shares"):
        ClusterQuota()(inputs, Budget("rows", 3), shares="fair")


def test_herding_has_the_mean_of_eligible_rows():
    inputs = pool(200)
    x = inputs["vectors"]
    got = Herding()(inputs, Budget("rows", 20))
    error = np.linalg.norm(x[got.kept_N].mean(axis=0) - x.mean(axis=0))
    rng = np.random.default_rng(0)
    random = [np.linalg.norm(x[rng.permutation(200)[:20]].mean(axis=0) - x.mean(axis=0)) for _ in range(50)]
    assert error < 0.5 * min(random)


def test_d2_takes_the_best_and_then_leaves_its_neighbours():
    """Two groups of three near rows with the best scores in one: D2 takes one of each, top-k two of one."""
    vectors = np.array([[1, 0], [1, 0.02], [1, -0.02], [0, 1], [0.02, 1], [-0.02, 1]])
    inputs = inputs_of(row_ids(6), vectors, k=2)
    inputs["score:x"] = Scored(np.array([10, 9.9, 9.8, 8, 7.9, 7.8]))
    got = D2()(inputs, Budget("rows", 2), k=2)
    assert {i // 3 for i in kept(got)} == {0, 1}
    assert {i // 3 for i in kept(D2()({**inputs, "higher": "drop"}, Budget("rows", 1), k=2))} == {1}
    for wrong in ({"k": 0}, {"k": 3}, {"gamma": 0.0}, {"gamma": -1.0}):
        with pytest.raises(RequestError, match="expected"):
            D2()(inputs, Budget("rows", 2), **{"k": 2, **wrong})


def test_d2_does_not_depend_on_the_scores_unit():
    inputs = pool()
    one = D2()(inputs, Budget("rows", 15))
    inputs["score:x"] = Scored(inputs["score:x"].values_N * 1000 - 50)
    assert D2()(inputs, Budget("rows", 15)).ids == one.ids


def test_craig_weights_sum_to_the_eligible_rows():
    inputs = pool()
    inputs["eligible_N"][:10] = False
    got = Craig()(inputs, Budget("rows", 9))
    assert got.weights.sum() == 50
    few = Craig()(inputs, Budget("rows", 2))
    assert "1 classes have no kept row" in few.notes[0] and few.counts()["class-left-out"] > 0
    assert few.weights.sum() == 50 - few.counts()["class-left-out"]


def test_craig_never_lets_a_row_stand_for_another_class():
    inputs = inputs_of(row_ids(6), np.array([[0.0, 1], [0.1, 1], [0.2, 1], [0.05, 1], [0.15, 1], [5, 1]]), k=2)
    inputs["labels"] = np.array([0, 0, 0, 1, 1, 1])
    got = Craig()(inputs, Budget("rows", 2))
    assert inputs["labels"][got.kept_N].tolist() == [0, 1] and got.weights.tolist() == [3, 3]


@pytest.mark.parametrize("pick", [Lightweight(), Sensitivity()], ids=lambda p: p.name)
def test_sampled_weights_keep_sums_in_expectation(pick):
    inputs = pool(80)
    value = inputs["vectors"].astype(float) ** 2
    sums = []
    for seed in range(300):
        got = pick(inputs, Budget("rows", 20), seed=seed)
        assert len(got.ids) == 20 and (got.weights >= 1).all()
        sums.append((got.weights[:, None] * value[got.kept_N]).sum(axis=0))
    np.testing.assert_allclose(np.mean(sums, axis=0), value.sum(axis=0), rtol=0.05)
    assert pick(inputs, Budget("rows", 20), seed=1).ids != pick(inputs, Budget("rows", 20), seed=2).ids


def test_far_rows_are_drawn_more_often_and_weigh_less():
    inputs = inputs_of(row_ids(40), np.concatenate([np.ones((39, 8)), 9 * np.ones((1, 8))]), k=3)
    got = Lightweight()(inputs, Budget("rows", 10))
    assert got.kept_N[39] and got.weights[-1] == 1 and (got.weights[:-1] > 2).all()


def test_sensitivity_draws_rows_far_from_their_centers_more_often():
    x = np.concatenate([np.tile(AXES[0] + 0.1, (38, 1)), [AXES[0] + 3 * np.eye(16)[9], AXES[0] + 3 * np.eye(16)[10]]])
    got = Sensitivity()(inputs_of(row_ids(40), x, k=3), Budget("rows", 10))
    assert got.kept_N[38:].all() and got.weights[-2:].max() < 1.5 < 2 < got.weights[:-2].min()
