"""The torch fold against the numpy reference."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.lm

from dataworth.errors import FingerprintMismatch  # noqa: E402
from dataworth.numerics.projection import Projection, signs  # noqa: E402
from dataworth.probes import fold  # noqa: E402
from dataworth.probes.fold import ModuleFold, module_signs, verify_device  # noqa: E402

MODULES = (("b", 5000), ("a", 20_001), ("c", 3))


def test_signs_are_those_of_the_reference():
    for seed, name in [(0, "a"), (7, "model.layers.3.q_proj.lora_A.weight"), (2**40, "ü")]:
        np.testing.assert_array_equal(module_signs(seed, name, 1001).numpy(), signs(seed, name, 0, 1001))


@pytest.mark.parametrize("width", [1024, 8192, 30_000])
def test_folded_rows_equal_the_reference(width):
    rng = np.random.default_rng(0)
    projection = Projection(MODULES, width=width, seed=3)
    parts = {n: rng.normal(size=(4, s)).astype(np.float32) for n, s in MODULES}
    out = torch.zeros(4, width)
    for name, rows in parts.items():
        ModuleFold(projection, name, "cpu").add_to(out, torch.from_numpy(rows))
    np.testing.assert_allclose(out.numpy(), projection.project(parts), rtol=1e-5, atol=1e-4)


def test_a_device_that_folds_differently_is_refused(monkeypatch):
    projection = Projection(MODULES, width=512)
    verify_device(projection, "cpu")
    monkeypatch.setattr(fold, "MIX_1", 12345)
    with pytest.raises(FingerprintMismatch, match="use another device"):
        verify_device(projection, "cpu")
