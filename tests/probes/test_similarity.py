import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.naive_cosines import cosines  # noqa: E402

from dataworth.errors import FingerprintMismatch, NonsenseRefused, RequestError  # noqa: E402
from dataworth.numerics.quantize import quantize  # noqa: E402
from dataworth.numerics.similarity import goal_directions, unit_rows  # noqa: E402
from dataworth.probes.similarity import FeatureRows, GoalProduct, joined, similarity  # noqa: E402
from dataworth.scores.less import Less  # noqa: E402
from dataworth.store import Cache  # noqa: E402

pytestmark = pytest.mark.lm
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def features(x, fmt="int8", projection="p", missing=()):
    """Rows in memory as the store would hand them out: unscored rows never come, their scale is NaN."""
    have = np.array([i for i in range(len(x)) if i not in missing], dtype=np.int64)
    stored = quantize(x[have], fmt)
    scale, norm = np.full((2, len(x)), np.nan, dtype=np.float32)
    scale[have], norm[have] = stored.scale_N, stored.norm_N

    def blocks(rows):
        for a in range(0, len(have), rows):
            yield have[a : a + rows], stored.codes_NP[a : a + rows]

    return FeatureRows(blocks, scale, norm, x.shape[1], projection, {f"row{i}": "spoiled" for i in missing})


def case(n=70, width=264, goals=9, seed=0):
    rng = np.random.default_rng(seed)
    pool = rng.normal(size=(2, n, width)).astype(np.float32)
    goal = (rng.normal(size=(2, goals, width)) * rng.uniform(0.1, 9, size=(2, goals, 1))).astype(np.float32)
    return pool, goal, np.arange(goals) % 3 // 2, np.array([0.7, 0.3])


def test_joined_parts_are_the_whole():
    pool, goal, subtask, _ = case()
    places = [np.array([0, 3, 4, 8]), np.array([1, 2, 5, 6, 7])]
    parts = joined([(features(goal[0][at], "fp16"), at) for at in places])
    got = similarity([features(pool[0])], [parts], subtask, ["a", "b"], np.ones(1))
    whole = similarity([features(pool[0])], [features(goal[0], "fp16")], subtask, ["a", "b"], np.ones(1))
    np.testing.assert_allclose(got.mean_CNG, whole.mean_CNG, atol=1e-6)
    np.testing.assert_allclose(got.centroid_CNG, whole.centroid_CNG, atol=1e-6)
    with pytest.raises(FingerprintMismatch):
        joined([(features(goal[0]), np.arange(9)), (features(goal[0], projection="q"), np.arange(9, 18))])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("fmt", ["int8", "fp16", "int4"])
@pytest.mark.parametrize("width", [264, 263])
def test_equals_the_numpy_reference(fmt, device, width):
    pool, goal, subtask, weights = case(width=width)
    got = similarity(
        [features(p, fmt) for p in pool],
        [features(g, "fp16") for g in goal],
        subtask,
        ["a", "b"],
        weights,
        device=device,
        block_rows=17,
    )
    for c in range(2):
        stored, at_goal = quantize(pool[c], fmt), quantize(goal[c], "fp16")
        unit = unit_rows(at_goal.codes_NP.astype(np.float32))
        mean, centroid = goal_directions(unit, at_goal.norm_N, subtask, ["a", "b"])
        blocks = [(np.arange(70), stored.codes_NP)]
        np.testing.assert_allclose(got.mean_CNG[c], cosines(blocks, stored.scale_N, mean), atol=1e-5)
        np.testing.assert_allclose(got.centroid_CNG[c], cosines(blocks, stored.scale_N, centroid), atol=1e-5)
    assert got.subtasks == ("a", "b")
    assert got.weight_C.tolist() == [0.7, 0.3]


@pytest.mark.parametrize("rows", [1, 3, 2048])
def test_blocks_and_row_order_change_no_bit(rows):
    pool, goal, subtask, weights = case()
    order = np.random.default_rng(1).permutation(70)
    goals = [features(g) for g in goal]
    one = similarity([features(p) for p in pool], goals, subtask, ["a", "b"], weights)
    two = similarity([features(p[order]) for p in pool], goals, subtask, ["a", "b"], weights, block_rows=rows)
    np.testing.assert_array_equal(one.mean_CNG[:, order], two.mean_CNG)
    np.testing.assert_array_equal(one.centroid_CNG[:, order], two.centroid_CNG)


def test_less_c1_a_copy_of_a_goal_row_has_cosine_one():
    pool, goal, _, _ = case()
    pool[0, 5] = 3 * goal[0, 0]
    got = similarity([features(pool[0])], [features(goal[0, :1])], np.array([0]), ["a"], np.ones(1))
    assert got.mean_CNG[0, 5, 0] == pytest.approx(1, abs=1e-4)
    assert np.argmax(got.centroid_CNG[0, :, 0]) == 5


def test_one_plane_is_as_coarse_as_the_rows_and_two_are_not():
    rng = np.random.default_rng(3)
    goals, rows = unit_rows(rng.normal(size=(4, 1024))), quantize(rng.normal(size=(50, 1024)))
    exact = cosines([(np.arange(50), rows.codes_NP)], rows.scale_N, goals)
    one, two = (np.abs(GoalProduct(goals, planes=p)(rows.codes_NP, rows.scale_N) - exact).max() for p in (1, 2))
    assert two < 5e-6 < one < 2e-3


def test_rows_without_features_at_one_checkpoint_are_unscored_altogether():
    pool, goal, subtask, weights = case()
    at = [features(pool[0]), features(pool[1], missing=(4, 8))]
    got = similarity(at, [features(g, missing=(1,)) for g in goal], subtask, ["a", "b"], weights)
    assert np.isnan(got.mean_CNG[:, [4, 8]]).all()
    assert not np.isnan(np.delete(got.mean_CNG, [4, 8], axis=1)).any()
    scored = Less()({"ids": [f"row{i}" for i in range(70)], "similarity": got})
    assert scored.unscored == {"row4": "spoiled", "row8": "spoiled"}


def test_a_goal_or_projection_that_means_nothing_is_refused():
    pool, goal, subtask, weights = case()
    pools, goals = [features(p) for p in pool], [features(g) for g in goal]
    with pytest.raises(FingerprintMismatch, match="one projection"):
        similarity(pools, [goals[0], features(goal[1], projection="q")], subtask, ["a", "b"], weights)
    with pytest.raises(NonsenseRefused, match="'c' has no usable row"):
        similarity(pools, goals, subtask, ["a", "b", "c"], weights)
    broken = features(goal[0])
    broken.scale_N[2] = np.inf
    with pytest.raises(NonsenseRefused, match="not finite"), np.errstate(invalid="ignore"):
        similarity(pools, [broken, goals[1]], subtask, ["a", "b"], weights)
    zero = features(goal[0])
    zero.scale_N[:] = 0
    with pytest.raises(NonsenseRefused, match="of length 0"):
        similarity(pools, [zero, goals[1]], subtask, ["a", "b"], weights)
    with pytest.raises(RequestError, match="as many of each"):
        similarity(pools, goals[:1], subtask, ["a", "b"], weights)
    with pytest.raises(RequestError, match="equal widths"):
        similarity([pools[0], features(pool[1][:, :256])], goals, subtask, ["a", "b"], weights)


def test_reads_the_store_as_the_gradient_probe_leaves_it(tmp_path):
    pool, goal, subtask, _ = case()
    cache = Cache(tmp_path)

    def table(kind, x):
        ids = [f"{i:032x}" for i in range(len(x))]
        art = cache.artefact(kind, {"kind": kind})
        for shard in art.plan(ids, shard_rows=16):
            rows = [int(i, 16) for i in shard.ids]
            stored = quantize(x[rows])
            art.commit(shard, {"rows": stored.codes_NP, "scale": stored.scale_N, "norm": stored.norm_N}, {})
        return art.table(ids)

    def read(kind, x):
        return FeatureRows.of(table(kind, x), width=264, projection="p")

    done = []
    at = read("pool", pool[0]), read("goal", goal[0])
    got = similarity([at[0]], [at[1]], subtask, ["a", "b"], np.ones(1), block_rows=10, progress=done.append)
    direct = similarity([features(pool[0])], [features(goal[0])], subtask, ["a", "b"], np.ones(1))
    np.testing.assert_array_equal(got.mean_CNG, direct.mean_CNG)
    assert sum(done) == 70


def test_without_an_integer_kernel_the_numbers_are_the_same(monkeypatch):
    rng = np.random.default_rng(4)
    goals, rows = unit_rows(rng.normal(size=(3, 256))), quantize(rng.normal(size=(20, 256)))
    fast = GoalProduct(goals)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    plain = GoalProduct(goals)
    assert not plain.integer
    np.testing.assert_allclose(plain(*rows[:2]), fast(*rows[:2]), atol=1e-5)
