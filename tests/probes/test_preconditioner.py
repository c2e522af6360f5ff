"""Adam's map of one parameter, its numbers where eps matters, and the names it insists on."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.lm

from dataworth.errors import FingerprintMismatch, RequestError  # noqa: E402
from dataworth.probes.preconditioner import Moments, Preconditioner, canonical  # noqa: E402
from dataworth.probes.spec import FeatureSpec  # noqa: E402


def mapped(g, m, v, **changes):
    spec = FeatureSpec(optimizer=changes.pop("optimizer", "adam"), **changes)
    moments = Moments.named(9, {"w": torch.tensor([m])}, {"w": torch.tensor([v])})
    return float(Preconditioner(spec, moments, "w", "cpu")(torch.tensor([[g]]), slice(0, 1)))


@pytest.mark.parametrize(
    ("g", "m", "v", "inside", "outside"), [(1e-5, 0.0, 0.0, 0.010, 3.07), (1e-6, 1e-6, 1e-12, 0.010, 0.990)]
)
def test_where_eps_stands_decides_small_gradients(g, m, v, inside, outside):
    """The LESS repository's sqrt(v + eps) floors the denominator at 1e-4; Adam's sqrt(v) + eps at 1e-8."""
    assert mapped(g, m, v, eps_mode="inside") == pytest.approx(inside, rel=0.01)
    assert mapped(g, m, v, eps_mode="outside") == pytest.approx(outside, rel=0.01)


def test_without_momentum_the_map_is_odd_in_the_gradient():
    there = mapped(3e-4, 5e-3, 1e-8, optimizer="adam_no_momentum")
    back = mapped(-3e-4, 5e-3, 1e-8, optimizer="adam_no_momentum")
    assert there == pytest.approx(-back) and there > 0
    assert mapped(3e-4, 5e-3, 1e-8) + mapped(-3e-4, 5e-3, 1e-8) > 1, "momentum is common to both"


def test_adam_may_change_a_direction_when_a_gradient_is_scaled():
    spec = FeatureSpec(optimizer="adam")
    moments = Moments.named(1, {"w": torch.tensor([0.1, -0.2])}, {"w": torch.tensor([0.01, 0.5])})
    one = Preconditioner(spec, moments, "w", "cpu")
    g = torch.tensor([[0.3, 0.4]])
    a, b = one(g, slice(0, 2))[0], one(7 * g, slice(0, 2))[0]
    assert float(torch.cosine_similarity(a, b, dim=0)) < 0.999


def test_blocks_of_a_parameter_give_what_the_whole_gives():
    torch.manual_seed(0)
    moments = Moments.named(4, {"w": torch.randn(3, 4)}, {"w": torch.rand(3, 4)})
    one = Preconditioner(FeatureSpec(optimizer="adam", bias_correction=True), moments, "w", "cpu")
    g = torch.randn(5, 12)
    parts = [one(g[:, s], s) for s in (slice(0, 5), slice(5, 12))]
    torch.testing.assert_close(torch.cat(parts, 1), one(g, slice(0, 12)))


def test_names_lose_their_wrappers_only():
    bare = "model.layers.0.self_attn.q_proj.lora_A.weight"
    assert canonical("base_model.model." + bare.replace("lora_A", "lora_A.default")) == bare
    assert canonical("module.base_model.model." + bare) == bare
    assert canonical(bare) == bare


def test_moments_by_position_of_other_shapes_or_names_are_refused():
    with pytest.raises(RequestError, match="expected parameter names"):
        Moments.named(1, {"0": torch.zeros(1)}, {"0": torch.zeros(1)})
    moments = Moments.named(1, {"w": torch.zeros(2, 3)}, {"w": torch.zeros(2, 3)})
    moments.require({"w": (2, 3)})
    with pytest.raises(FingerprintMismatch, match="one folder"):
        moments.require({"w": (3, 2)})
    with pytest.raises(FingerprintMismatch, match="shape None"):
        moments.require({"w": (2, 3), "u": (1, 1)})
