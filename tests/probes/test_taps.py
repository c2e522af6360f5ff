"""One tapped linear: features as the gradient of the dummy input."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.lm

from dataworth.errors import RequestError  # noqa: E402
from dataworth.probes.adapters import install  # noqa: E402
from dataworth.probes.spec import FeatureSpec  # noqa: E402
from dataworth.probes.taps import FeatureMap, Group, Sink, Tap, TapLinear, onesided_tap  # noqa: E402


def tapped(rows=3, tokens=5, width=64, k=2):
    torch.manual_seed(0)
    tap = Tap("layer", torch.randn(k, 8), torch.randn(6, k), 6, 0.5)
    features = FeatureMap(FeatureSpec(width=width), [tap], device="cpu", dtype=torch.float32)
    sink = Sink()
    layer = TapLinear(torch.randn(6, 8), torch.randn(6), Group(features, [tap]), sink)
    sink.z_BP, sink.tokens = features.zeros(rows), tokens
    return layer, sink, features, tap


def naive(x, g, tap, features):
    """Projected gradients of A and B of `s B A x`, one row at a time."""
    grads = {
        "layer.lora_A.weight": [tap.scale * (g_b @ tap.outputs_Ok).t() @ x_b for x_b, g_b in zip(x, g, strict=True)],
        "layer.lora_B.weight": [tap.scale * g_b.t() @ (x_b @ tap.inputs_kI.t()) for x_b, g_b in zip(x, g, strict=True)],
    }
    return features.projection.project({n: torch.stack(v).flatten(1).numpy() for n, v in grads.items()})


@pytest.mark.parametrize("flat", [False, True])
def test_the_gradient_of_z_is_the_projected_gradient_of_the_adapter(flat):
    layer, sink, features, tap = tapped()
    x, g = torch.randn(3, 5, 8, requires_grad=True), torch.randn(3, 5, 6)
    y = layer(x.flatten(0, 1)).view(3, 5, 6) if flat else layer(x)
    torch.testing.assert_close(y, torch.nn.functional.linear(x, layer.weight, layer.bias))
    d_x, d_z = torch.autograd.grad(y, (x, sink.z_BP), g)
    torch.testing.assert_close(d_x, g @ layer.weight)
    torch.testing.assert_close(d_z.numpy(), naive(x.detach(), g, tap, features), rtol=1e-4, atol=1e-4)


def test_a_layer_used_twice_adds_up():
    layer, sink, features, tap = tapped()
    x, g = torch.randn(3, 5, 8), torch.randn(3, 5, 6)
    (d_z,) = torch.autograd.grad(layer(x) + layer(2 * x), sink.z_BP, g)
    torch.testing.assert_close(d_z.numpy(), 3 * naive(x, g, tap, features), rtol=1e-4, atol=1e-4)


def test_tokens_without_gradient_contribute_exactly_nothing():
    layer, sink, _, _ = tapped()
    x, g = torch.randn(3, 5, 8), torch.randn(3, 5, 6)
    g[:, 3:] = 0
    (one,) = torch.autograd.grad(layer(x), sink.z_BP, g)
    x = x.clone()
    x[:, 3:] = 1e6
    (two,) = torch.autograd.grad(layer(x), sink.z_BP, g)
    assert torch.equal(one, two)


def test_without_a_dummy_it_is_a_plain_linear():
    layer, sink, _, _ = tapped()
    sink.z_BP = None
    x = torch.randn(2, 7, 8)
    assert torch.equal(layer(x), torch.nn.functional.linear(x, layer.weight, layer.bias))


def test_inputs_that_do_not_hold_every_token_of_every_row_are_refused():
    layer = tapped()[0]
    with pytest.raises(RequestError, match="leave the layer out"):
        layer(torch.randn(9, 8)).sum().backward()


def test_a_tap_without_a_layer_is_refused():
    _, _, features, _ = tapped()
    with pytest.raises(RequestError, match="no linear layer"):
        install(torch.nn.Sequential(torch.nn.Linear(8, 6)), features)


def test_onesided_taps_differ_by_module_and_repeat_by_seed():
    one, again, other = (onesided_tap(n, 8, 6, 4, 0, "cpu") for n in ("a", "a", "b"))
    assert torch.equal(one.inputs_kI, again.inputs_kI) and not torch.equal(one.inputs_kI, other.inputs_kI)
    assert one.parameters() == {"a.weight": (6, 4)} and one.scale == 0.5
