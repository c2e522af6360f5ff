"""Every score and every pick, under everything a pool may throw at them."""

from dataclasses import fields

import numpy as np
import pytest

from dataworth import plugins
from dataworth.dynamics import Dynamics, ThresholdDynamics, quantities
from dataworth.errors import DataworthError, RequestError
from dataworth.numerics.clusters import kmeans
from dataworth.numerics.neighbours import nearest
from dataworth.records import Budget, id_order
from dataworth.results import Scored, Similarity

SCORES = [*sorted(plugins.SCORES), *(f"{family}:quality" for family in sorted(plugins.FAMILIES))]
PICKS = sorted(plugins.PICKS)
NUMBERS = ("losses", "losses_alone", "entropies", "losses_seen", "losses_unseen")
ROWS = (*NUMBERS, "labels", "near_duplicates", "probabilities")
OF_PICKS = ("text:pool", "dynamics", "vectors", "neighbours", "clusters", "labels", "near_duplicates")
OF_LABELS = frozenset({"labels", "goal_labels", "dynamics", "threshold_dynamics", "grad_norms"})
WRONG_LABELS = {
    **dict.fromkeys(("el2n", "grand", "forgetting", "moderate"), "high"),
    **dict.fromkeys(("aum", "aum_threshold", "pvi", "knn_shapley"), "low"),
}
"""At which end a score has rows with a wrong label."""
WITHOUT_COPIES = ("deduplicate", "diverse", "semdedup")
WORDS = np.array(["red", "blue", "seven", "goal", "why", "cat", "sum", "of"])


def row_ids(n):
    return [f"{(i * 2654435761) % 2**64:032x}" for i in range(n)]


def artefacts(n, seed=0):
    """Every artefact a score may need, rows along the first axis (third for similarities)."""
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(2, n, 3)).astype(np.float32)
    return {
        "ids": row_ids(n),
        "text:pool": [" ".join(rng.choice(WORDS, size=rng.integers(1, 12))) for _ in range(n)],
        "text:response": [" ".join(rng.choice(WORDS, size=rng.integers(1, 12))) for _ in range(n)],
        "text:goal": {"a": ["why is the goal red", "sum of seven"], "b": ["cat"]},
        "losses": (losses := rng.uniform(0.5, 4, size=n)),
        "losses_alone": losses + rng.uniform(0.1, 1, size=n),
        "entropies": rng.uniform(0.5, 4, size=n),
        "losses_seen": (seen := rng.uniform(10, 90, size=n)),
        "losses_unseen": seen + rng.uniform(1, 20, size=n),
        "labels": np.arange(n) % 3,
        "goal_labels": {"a": np.array([0, 1, 2, 0]), "b": np.array([1, 2])},
        "near_duplicates": np.arange(n),
        "dynamics": trainings(rng.normal(size=(2, 12, n, 3)), np.arange(n) % 3),
        "threshold_dynamics": ThresholdDynamics(rng.normal(size=(2, 6, n)).astype(np.float32), own_labels(n)),
        "probabilities": (p := rng.uniform(0.1, 1, size=(n, 3))) / p.sum(axis=1, keepdims=True),
        "grad_norms": rng.uniform(0.5, 4, size=(2, n)),
        "goal_vectors": {"a": rng.normal(size=(4, 24)), "b": rng.normal(size=(2, 24))},
        "column:quality": Scored(np.arange(n) * 7 % 11.0),
        "similarity": Similarity(table, table[::-1].copy(), np.array([0.7, 0.3]), ("a", "b", "c")),
        **geometry(row_ids(n), rng.normal(size=(n, 24))),
    }


def trainings(logits_SENK, label):
    """Dynamics of made logits."""
    found = [[quantities(logits_NK, label) for logits_NK in net] for net in logits_SENK]
    return Dynamics(*np.array(found).transpose(2, 0, 1, 3))


def own_labels(n):
    """Every fourth row is relabelled in the first training, the row after it in the second."""
    return np.stack([np.arange(n) % 4 != r for r in range(2)])


def rows_of(dynamics, order):
    return Dynamics(*(np.asarray(getattr(dynamics, f.name))[:, :, order] for f in fields(dynamics)))


def geometry(ids, vectors):
    """Vectors and what is made of them, as the api makes it."""
    order = id_order(ids)
    return {"vectors": vectors, "neighbours": nearest(vectors, order, 5), "clusters": kmeans(vectors, order, 3)}


def reordered(inputs, order):
    """The same pool in another row order (an order with repeats makes exact copies)."""
    sim, threshold, column = inputs["similarity"], inputs["threshold_dynamics"], inputs["column:quality"]
    unscored = inputs.get("unscored", {})
    return {
        **inputs,
        "ids": (ids := [inputs["ids"][i] for i in order]),
        "text:pool": [inputs["text:pool"][i] for i in order],
        "text:response": [inputs["text:response"][i] for i in order],
        **{name: inputs[name][order] for name in ROWS},
        "dynamics": rows_of(inputs["dynamics"], order),
        "threshold_dynamics": ThresholdDynamics(threshold.margin_2EN[..., order], threshold.own_2N[:, order]),
        "grad_norms": inputs["grad_norms"][:, order],
        **geometry(ids, inputs["vectors"][order]),
        "column:quality": Scored(column.values_N[order], column.unscored),
        "similarity": Similarity(
            sim.mean_CNG[:, order], sim.centroid_CNG[:, order], sim.weight_C, sim.subtasks, sim.unscored
        ),
        "unscored": unscored,
    }


def holed(values, rows):
    """Values of which the last axis is rows, NaN at some."""
    out = np.array(values, dtype=float)
    out[..., rows] = np.nan
    return out


def without(dynamics, rows):
    return Dynamics(*(holed(getattr(dynamics, f.name), rows).astype(np.float32) for f in fields(dynamics)))


def spoiled(inputs, rows):
    """Rows `rows` have no usable artefact of any kind."""
    ids = inputs["ids"]
    sim, threshold = inputs["similarity"], inputs["threshold_dynamics"]
    vectors, mean, centroid = inputs["vectors"].copy(), sim.mean_CNG.copy(), sim.centroid_CNG.copy()
    vectors[rows], mean[:, rows], centroid[:, rows] = np.nan, np.nan, np.nan
    numbers = {name: inputs[name].copy() for name in NUMBERS}
    for values in numbers.values():
        values[rows] = np.nan
    reasons = {ids[i]: "it was spoiled" for i in rows}
    return {
        **inputs,
        "text:pool": ["" if i in rows else t for i, t in enumerate(inputs["text:pool"])],
        "text:response": ["" if i in rows else t for i, t in enumerate(inputs["text:response"])],
        **numbers,
        "dynamics": without(inputs["dynamics"], rows),
        "threshold_dynamics": ThresholdDynamics(holed(threshold.margin_2EN, rows).astype(np.float32), threshold.own_2N),
        "grad_norms": holed(inputs["grad_norms"], rows),
        "probabilities": holed(inputs["probabilities"].T, rows).T,
        **geometry(ids, vectors),
        "column:quality": Scored(holed(inputs["column:quality"].values_N, rows), reasons),
        "similarity": Similarity(mean, centroid, sim.weight_C, sim.subtasks, reasons),
        "unscored": reasons,
    }


def noisy(n, share=0.2, seed=0):
    """Three classes that vectors and nets tell apart, and a share of rows with another class's label: those, too."""
    rng = np.random.default_rng(seed)
    true = np.arange(n) % 3
    wrong = np.isin(np.arange(n), rng.choice(n, size=round(share * n), replace=False))
    label = np.where(wrong, (true + 1 + np.arange(n) // 3 % 2) % 3, true)
    grown = np.linspace(0.5, 5, 12)[:, None, None] * np.eye(3)[true]  # the nets learn what is true
    logits = grown + rng.normal(size=(2, 12, n, 3))
    found, own = trainings(logits, label), own_labels(n)
    margin = np.where(own[:, None], found.margin_SEN, -np.abs(found.margin_SEN))
    p = np.exp(logits[:, -1]).mean(axis=0)
    center = rng.normal(size=(3, 24)) * 3
    return {
        **artefacts(n, seed),
        "labels": label,
        "dynamics": found,
        "threshold_dynamics": ThresholdDynamics(margin.astype(np.float32), own),
        "grad_norms": found.error_SEN[:, -1] * rng.uniform(0.9, 1.1, size=(2, n)),
        "probabilities": p / p.sum(axis=1, keepdims=True),
        "goal_vectors": {"a": center[[0, 1, 2, 0]], "b": center[[1, 2]]},
        **geometry(row_ids(n), center[true] + rng.normal(size=(n, 24))),
    }, wrong


def tenfold(ids):
    """Every row ten times, and what the copies are called."""
    return np.repeat(np.arange(len(ids)), 10), [i if k == 0 else f"{i}#{k}" for i in ids for k in range(10)]


@pytest.mark.parametrize("name", SCORES)
class TestScores:
    def test_declares_itself(self, name):
        score = plugins.load("scores", name)
        assert score.higher in ("keep", "drop")
        assert score.kinds <= {"sft", "text", "preference", "rl", "classify"} and score.kinds
        assert all(need in artefacts(2) for need in score.needs)

    def test_needs_nothing_but_its_needs(self, name):
        score = plugins.load("scores", name)
        inputs = artefacts(9)
        bare = {k: v for k, v in inputs.items() if k in score.needs | {"ids"}}
        np.testing.assert_array_equal(score(bare).values_N, score(inputs).values_N)

    def test_is_permutation_equivariant_and_pure(self, name):
        score = plugins.load("scores", name)
        inputs = artefacts(50)
        order = np.random.default_rng(1).permutation(50)
        one = score(inputs).values_N
        np.testing.assert_array_equal(score(reordered(inputs, order)).values_N, one[order])
        np.testing.assert_array_equal(score(inputs).values_N, one)

    def test_one_row(self, name):
        if name == "aum_threshold":  # a row alone has no row beside it that was relabelled
            with pytest.raises(RequestError, match="no threshold row"):
                plugins.load("scores", name)(artefacts(1))
            return
        got = plugins.load("scores", name)(artefacts(1))
        assert got.values_N.shape == (1,)
        if name == "density":  # a row alone has no neighbours
            assert list(got.unscored.values()) == ["it has no neighbours"]
            return
        assert np.isfinite(got.values_N).all() and not got.unscored

    def test_spoiled_rows_are_unscored_with_their_reason_and_change_no_other_row(self, name):
        score = plugins.load("scores", name)
        inputs = artefacts(20)
        if not score.needs:
            return
        got = score(spoiled(inputs, [3, 11]))
        assert dict(got.unscored) == {inputs["ids"][i]: "it was spoiled" for i in (3, 11)}
        rest = [i for i in range(20) if i not in (3, 11)]
        np.testing.assert_array_equal(got.values_N[rest], score(reordered(inputs, rest)).values_N)

    def test_copies_score_alike(self, name):
        score = plugins.load("scores", name)
        if name == "random":
            return
        inputs = reordered(artefacts(20), np.array([*range(20), 4, 4, 7]))
        inputs["ids"] = [*inputs["ids"][:20], *(f"{inputs['ids'][i]}#{k}" for i, k in ((4, 1), (4, 2), (7, 1)))]
        values = score(inputs).values_N
        assert values[20] == values[21] == values[4]
        assert values[22] == values[7]

    def test_equal_rows_get_exactly_equal_numbers(self, name):
        """What the constant-score guard relies on."""
        if name == "random":
            return
        inputs = reordered(artefacts(20), np.zeros(20, dtype=int))
        inputs["ids"] = row_ids(20)
        alike = inputs["threshold_dynamics"].margin_2EN
        inputs["threshold_dynamics"] = ThresholdDynamics(alike, own_labels(20))  # which are relabelled isn't the rows'
        assert np.ptp(plugins.load("scores", name)(inputs).values_N) == 0

    def test_ten_copies_of_every_row_score_alike(self, name):
        if name == "random":
            return
        inputs = artefacts(24)
        order, ids = tenfold(inputs["ids"])
        got = plugins.load("scores", name)({**reordered(inputs, order), "ids": ids})
        assert np.isfinite(got.values_N).all() and not np.ptp(got.values_N.reshape(24, 10), axis=1).any()

    @pytest.mark.parametrize("kept", [(0, 2), (1,)])
    def test_a_class_without_rows_is_no_row_s_loss(self, name, kept):
        """Classes of the pool's set, or of the goal, that no row has; -1 is how the goal's unknown ones arrive."""
        inputs, order = artefacts(48), np.random.default_rng(3).permutation(48)
        inputs["labels"] = np.array(kept)[np.arange(48) % len(kept)]
        inputs["goal_labels"] = {"a": np.array([0, -1, 2, -1]), "b": np.array([-1, -1])}
        score = plugins.load("scores", name)
        got = score(inputs).values_N
        if name == "pvi" and len(kept) == 1:
            assert not got.any(), "where there is one class, a vector tells nothing of it"
        assert np.isfinite(got).all()
        np.testing.assert_array_equal(score(reordered(inputs, order)).values_N, got[order])

    def test_a_fifth_of_the_labels_wrong(self, name):
        """Every row is scored; who doesn't read labels doesn't mind; who tells wrong ones tells them."""
        (inputs, wrong), order = noisy(90), np.random.default_rng(4).permutation(90)
        score = plugins.load("scores", name)
        got = score(inputs).values_N
        assert np.isfinite(got).all()
        np.testing.assert_array_equal(score(reordered(inputs, order)).values_N, got[order])
        if not score.needs & OF_LABELS:
            np.testing.assert_array_equal(score({**inputs, "labels": inputs["labels"][::-1]}).values_N, got)
        elif name in WRONG_LABELS:
            sign = 1 if WRONG_LABELS[name] == "high" else -1
            above = sign * got[wrong][:, None] > sign * got[~wrong]
            assert above.mean() > 0.9, "chance: 0.5"


def ballot(n, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "ids": row_ids(n),
        "score:x": Scored(rng.normal(size=n).round(1)),
        "higher": "keep",
        "eligible_N": np.ones(n, dtype=bool),
        "excluded": {},
        "tokens_N": rng.integers(5, 50, size=n),
        "source_N": rng.integers(0, 3, size=n),
        "sources": ("one", "two", "three"),
        **{name: artefacts(n, seed)[name] for name in OF_PICKS},
    }


def shuffled(inputs, order):
    scored = inputs["score:x"]
    return {
        **inputs,
        "ids": [inputs["ids"][i] for i in order],
        "score:x": Scored(scored.values_N[order], scored.unscored),
        **{key: inputs[key][order] for key in ("eligible_N", "tokens_N", "source_N", "labels", "near_duplicates")},
        "text:pool": [inputs["text:pool"][i] for i in order],
        "dynamics": rows_of(inputs["dynamics"], order),
        **geometry([inputs["ids"][i] for i in order], inputs["vectors"][order]),
    }


def changed(inputs, change):
    """A ballot with other labels, or with copies."""
    label, n = inputs["labels"], len(inputs["ids"])
    if change == "tenfold":
        order, ids = tenfold(inputs["ids"][: n // 5])
        return {
            **shuffled({**inputs, "ids": [*inputs["ids"]]}, order),
            "ids": ids,
            **geometry(ids, inputs["vectors"][order]),
        }
    if change == "label noise":
        return {**inputs, "labels": noisy(n)[0]["labels"]}
    if change == "unscored class":
        values = np.where(label == 1, np.nan, inputs["score:x"].values_N)
        missing = {inputs["ids"][i]: "spoiled" for i in np.flatnonzero(label == 1)}
        return {**inputs, "score:x": Scored(values, missing)}
    return {**inputs, "labels": np.where(label == 1, 2, label) if change == "missing class" else np.ones_like(label)}


BUDGETS = [Budget("rows", 1), Budget("rows", 17), Budget("fraction", 0.25), Budget("tokens", 400)]


@pytest.mark.parametrize("name", PICKS)
class TestPicks:
    @pytest.mark.parametrize("budget", BUDGETS, ids=str)
    def test_is_permutation_equivariant_with_ties(self, name, budget):
        pick = plugins.load("picks", name)
        inputs = ballot(60)
        order = np.random.default_rng(2).permutation(60)
        one, two = pick(inputs, budget, seed=0), pick(shuffled(inputs, order), budget, seed=0)
        assert set(one.ids) == set(two.ids) and one.ids
        assert one.counts() == two.counts() and one.boundary == two.boundary
        np.testing.assert_array_equal(one.kept_N[order], two.kept_N)

    @pytest.mark.parametrize("budget", BUDGETS, ids=str)
    def test_counts_add_up_and_budgets_hold(self, name, budget):
        inputs = ballot(60)
        got = plugins.load("picks", name)(inputs, budget, seed=0)
        assert sum(got.counts().values()) == 60
        assert got.ids == tuple(i for i, k in zip(inputs["ids"], got.kept_N, strict=True) if k)
        assert len(got.weights) == len(got.ids)
        if budget.unit == "tokens":
            assert inputs["tokens_N"][got.kept_N].sum() <= budget.amount
        else:
            assert len(got.ids) == budget.rows(60)
        for code, text in got.reason_texts.items():
            assert code == code.lower() and len(text) > 10
            assert (code.startswith("kept")) == text.startswith("kept")

    @pytest.mark.parametrize("k", [60, 61, 600])
    def test_all_and_more_than_all(self, name, k):
        got = plugins.load("picks", name)(ballot(60), Budget("rows", k), seed=0)
        assert len(got.ids) == 60
        assert bool(got.notes) == (k > 60)

    def test_nothing_is_refused(self, name):
        with pytest.raises(RequestError, match="keeps nothing"):
            plugins.load("picks", name)(ballot(60), Budget("rows", 0), seed=0)

    @pytest.mark.parametrize("budget", [Budget("fraction", 0.01), Budget("rows", 3), Budget("tokens", 400)], ids=str)
    def test_one_row(self, name, budget):
        assert len(plugins.load("picks", name)(ballot(1), budget, seed=0).ids) == 1

    def test_constant_scores_are_broken_by_id_alone(self, name):
        inputs = {**ballot(30), "score:x": Scored(np.zeros(30))}
        one = plugins.load("picks", name)(inputs, Budget("rows", 9), seed=0)
        two = plugins.load("picks", name)(shuffled(inputs, np.arange(30)[::-1]), Budget("rows", 9), seed=0)
        assert set(one.ids) == set(two.ids)

    def test_unscored_and_excluded_rows_are_never_kept(self, name):
        inputs = ballot(30)
        values = inputs["score:x"].values_N.copy()
        values[:5] = np.nan
        ids = inputs["ids"]
        inputs["score:x"] = Scored(values, {ids[i]: "spoiled" for i in range(5)})
        inputs["excluded"] = {ids[9]: ("near-goal", "x"), ids[10]: ("my-rule", "dropped: by a rule of mine")}
        inputs["eligible_N"][[9, 10, 12]] = False
        got = plugins.load("picks", name)(inputs, Budget("rows", 30), seed=0)
        out = {9, 10, 12} | (set(range(5)) if "score" in plugins.load("picks", name).needs else set())
        assert set(got.ids) == {ids[i] for i in range(30) if i not in out}
        counts = got.counts()
        assert counts["near-goal"] == counts["my-rule"] == counts["excluded"] == 1
        assert got.reason_texts["my-rule"] == "dropped: by a rule of mine"
        assert got.notes

    def test_nothing_eligible_keeps_nothing_and_says_so(self, name):
        inputs = ballot(4)
        inputs["eligible_N"][:] = False
        got = plugins.load("picks", name)(inputs, Budget("rows", 2), seed=0)
        assert not got.ids and got.notes

    @pytest.mark.parametrize("budget", BUDGETS, ids=str)
    @pytest.mark.parametrize("change", ["missing class", "one class", "label noise", "unscored class", "tenfold"])
    def test_classes_noise_and_copies_spoil_neither_budgets_nor_order(self, name, budget, change):
        inputs = changed(ballot(60), change)
        rows = len(inputs["ids"])
        order = np.random.default_rng(5).permutation(rows)
        pick = plugins.load("picks", name)
        one, two = pick(inputs, budget, seed=0), pick(shuffled(inputs, order), budget, seed=0)
        np.testing.assert_array_equal(one.kept_N[order], two.kept_N)
        assert one.ids and sum(one.counts().values()) == rows
        assert np.isfinite(one.weights).all() and (one.weights > 0).all()
        if change == "tenfold" and name in WITHOUT_COPIES:
            assert len({i[:32] for i in one.ids}) == len(one.ids)
        elif budget.unit != "tokens":
            assert len(one.ids) == budget.rows(rows)

    @pytest.mark.parametrize("change", ["missing class", "one class", "label noise", "tenfold"])
    def test_all_rows_of_such_pools(self, name, change):
        inputs = changed(ballot(60), change)
        got = plugins.load("picks", name)(inputs, Budget("rows", len(inputs["ids"])), seed=0)
        if change == "tenfold" and name in WITHOUT_COPIES:
            assert {i[:32] for i in got.ids} == {i[:32] for i in inputs["ids"]} and len(got.ids) == 12 and got.notes
        else:
            assert got.kept_N.all()

    def test_copies_are_rows_like_any_other(self, name):
        inputs = ballot(6)
        inputs["ids"] = [inputs["ids"][0], *(f"{inputs['ids'][0]}#{k}" for k in range(1, 6))]
        inputs["score:x"] = Scored(np.ones(6))
        got = plugins.load("picks", name)(inputs, Budget("rows", 3), seed=0)
        assert len(set(got.ids)) == 3


def test_errors_are_one_line():
    for name in SCORES:
        try:
            plugins.options(plugins.load("scores", name), {"nonsense": "1"})
        except DataworthError as error:
            assert "\n" not in str(error)
