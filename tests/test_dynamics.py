"""The quantities that difficulty scores read, against their formulas."""

import numpy as np
import pytest

from dataworth.dynamics import Dynamics, Recorder, quantities
from dataworth.errors import RequestError


def test_the_quantities_are_those_of_the_formulas():
    p = np.array([[0.7, 0.2, 0.1], [0.2, 0.5, 0.3]])
    loss, gold, margin, error, correct = quantities(np.log(p) + 3.0, np.array([0, 2]))
    np.testing.assert_allclose(loss, -np.log([0.7, 0.3]), rtol=1e-6)
    np.testing.assert_allclose(gold, [0.7, 0.3], rtol=1e-6)
    np.testing.assert_allclose(margin, [np.log(0.7 / 0.2), np.log(0.3 / 0.5)], rtol=1e-6)
    np.testing.assert_allclose(error, [np.sqrt(0.14), np.sqrt(0.04 + 0.25 + 0.49)], rtol=1e-6)
    assert correct.tolist() == [1, 0]


def test_error_lies_between_0_and_root_2_and_is_root_2_of_one_minus_p_for_two_classes():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 200)
    _, gold, _, error, _ = quantities(rng.normal(0, 30, (200, 2)), label)
    assert (error >= 0).all() and (error <= np.sqrt(2) + 1e-6).all()
    np.testing.assert_allclose(error, np.sqrt(2) * (1 - gold), atol=1e-6)


def test_huge_logits_stay_finite_and_a_tie_is_not_correct():
    found = quantities(np.array([[1e4, -1e4], [2.0, 2.0]]), np.array([1, 0]))
    assert np.isfinite(found).all()
    assert found[0, 0] == pytest.approx(2e4) and found[4].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("logits", "labels", "said"),
    [
        (np.zeros((2, 1)), np.zeros(2, int), "2 or more classes"),
        (np.zeros((2, 3)), np.array([0, 3]), "expected 0 to 2"),
        (np.array([[np.nan, 1.0]]), np.array([0]), "isn't finite"),
    ],
)
def test_nonsense_is_refused(logits, labels, said):
    with pytest.raises(RequestError, match=said):
        quantities(logits, labels)


def test_arrays_of_other_shapes_are_no_dynamics():
    a = np.zeros((1, 2, 3), np.float32)
    assert Dynamics(a, a, a, a, a).epochs == 2
    with pytest.raises(RequestError, match="of one shape"):
        Dynamics(a, a, a, a, a[0])


def test_a_loop_of_ones_own_is_recorded_and_saved(tmp_path):
    recorder = Recorder(["a", "b", "c"], 2)
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 4)), rng.normal(size=(1, 4))
    recorder.record(0, ["c", "a"], first, [1, 2])
    recorder.record(1, ["b"], second, [0])
    recorder.save(tmp_path / "dynamics.npz")
    with np.load(tmp_path / "dynamics.npz", allow_pickle=False) as found:
        assert found["ids"].tolist() == ["a", "b", "c"]
        margin = quantities(first, np.array([1, 2]))[2]
        np.testing.assert_array_equal(found["margin"][0], [margin[1], np.nan, margin[0]])
        assert np.isnan(found["loss"][1]).tolist() == [True, False, True]


def test_ids_may_come_as_a_tensor():
    torch = pytest.importorskip("torch")
    recorder = Recorder(range(3), 1)
    recorder.record(0, torch.tensor([2, 0]), torch.zeros(2, 2), torch.tensor([1, 0]))
    assert np.isnan(recorder.values_5EN[0, 0]).tolist() == [False, True, False]


def test_unknown_rows_and_epochs_are_refused():
    recorder = Recorder([1, 2], 1)
    with pytest.raises(RequestError, match="row 3"):
        recorder.record(0, [3], np.zeros((1, 2)), [0])
    with pytest.raises(RequestError, match="epoch 1"):
        recorder.record(1, [1], np.zeros((1, 2)), [0])
    with pytest.raises(RequestError, match="distinct ids"):
        Recorder([1, 1], 1)


def test_recordings_of_several_nets_are_read_in_the_pools_order(tmp_path):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 3, 4, 5))
    labels = np.array([0, 1, 2, 3])
    for net, by in enumerate((["a", "b", "c", "d"], [0, 1, 2, 3])):
        recorder = Recorder(by, 3)
        for epoch in range(3):
            recorder.record(epoch, by[::-1], logits[net, epoch, ::-1], labels[::-1])
        recorder.save(tmp_path / f"{net}.npz")
    found = Dynamics.load([tmp_path / "0.npz", tmp_path / "1.npz"], ["a", "b", "c", "d"])
    for net in range(2):
        for epoch in range(3):
            np.testing.assert_array_equal(found.margin_SEN[net, epoch], quantities(logits[net, epoch], labels)[2])
    some = Dynamics.load([tmp_path / "0.npz"], ["d", "new", "a", "b", "c"])
    np.testing.assert_array_equal(some.p_SEN[0, 1], [found.p_SEN[0, 1][3], np.nan, *found.p_SEN[0, 1][:3]])


def test_what_is_no_recording_of_these_rows_is_refused(tmp_path):
    Recorder(["x", "y"], 2).save(tmp_path / "a.npz")
    Recorder([0, 1], 3).save(tmp_path / "b.npz")
    (tmp_path / "c.npz").write_text("no archive")
    with pytest.raises(RequestError, match="names row 'x'"):
        Dynamics.load([tmp_path / "a.npz"], ["p", "q"])
    with pytest.raises(RequestError, match="different lengths"):
        Dynamics.load([tmp_path / "a.npz", tmp_path / "b.npz"], ["x", "y"])
    for name in ("c.npz", "none.npz"):
        with pytest.raises(RequestError, match="is no recording"):
            Dynamics.load([tmp_path / name], ["x"])
