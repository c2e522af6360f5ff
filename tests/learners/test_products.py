from dataclasses import replace

import pytest

pytest.importorskip("torch")

import torch
from tests.learners.test_trainer import TINY, load, some_rows
from tests.learners.tinymodel import tiny_folder
from torch import nn

from dataworth.learners import products
from dataworth.learners.trainer import train
from dataworth.probes.opening import open_pass
from dataworth.probes.spec import FeatureSpec

pytestmark = pytest.mark.lm


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.set_num_threads(1)
    return tiny_folder(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def lacking(monkeypatch):
    """A CPU without instructions for bf16."""
    monkeypatch.setattr(products, "has_bf16", lambda: False)


def some(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).bfloat16()


def rounded(wide):
    return wide.bfloat16()


def test_every_product_is_that_of_fp32_rounded_once(lacking):
    x, w, b, y = some(7, 33), some(33, 9, seed=1), some(9, seed=2), some(7, 9, seed=3)
    batch, other, base = some(3, 7, 33, seed=4), some(3, 33, 5, seed=5), some(3, 7, 5, seed=6)
    wide = [t.float() for t in (x, w, b, y, batch, other, base)]
    xf, wf, bf, yf, batch_f, other_f, base_f = wide
    out = torch.empty(7, 9, dtype=torch.bfloat16)
    with products.widened(w):
        found = {
            "matmul": x @ w,
            "linear": nn.functional.linear(x, w.t()),
            "bias": nn.functional.linear(x, w.t(), b),
            "out": torch.mm(x, w, out=out),
            "addmm": torch.addmm(y, x, w, beta=0.5, alpha=2.0),
            "addmm_": y.clone().addmm_(x, w),
            "slice_": torch.cat([y, y], 1)[:, :9].addmm_(x, w),
            "bmm": torch.bmm(batch, other),
            "baddbmm": torch.baddbmm(base, batch, other, alpha=0.25),
            "baddbmm_": base.clone().baddbmm_(batch, other),
            "fp32": xf @ wf,
        }
    expected = {
        "matmul": rounded(xf @ wf),
        "linear": rounded(xf @ wf),
        "bias": rounded(torch.addmm(bf, xf, wf)),
        "out": rounded(xf @ wf),
        "addmm": rounded(torch.addmm(yf, xf, wf, beta=0.5, alpha=2.0)),
        "addmm_": rounded(torch.addmm(yf, xf, wf)),
        "slice_": rounded(torch.addmm(yf, xf, wf)),
        "bmm": rounded(torch.bmm(batch_f, other_f)),
        "baddbmm": rounded(torch.baddbmm(base_f, batch_f, other_f, alpha=0.25)),
        "baddbmm_": rounded(torch.baddbmm(base_f, batch_f, other_f)),
        "fp32": xf @ wf,
    }
    assert found["out"] is out
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and torch.equal(found[name], value), name


@pytest.mark.parametrize("grad", [False, True])
def test_the_backward_is_widened_too(lacking, grad, monkeypatch):
    x, w = some(16, 24).requires_grad_(grad), some(10, 24, seed=1)
    seen = []
    whole = products._Widened.__torch_dispatch__

    def spying(self, func, types, args=(), kwargs=None):
        if func.overloadpacket in products._PRODUCTS:
            seen.append(args[0].dtype)
        return whole(self, func, types, args, kwargs)

    monkeypatch.setattr(products._Widened, "__torch_dispatch__", spying)
    with products.widened(w), torch.set_grad_enabled(grad):
        y = nn.functional.linear(x, w)
        if grad:
            y.sum().backward()
    if grad:
        assert torch.equal(x.grad, (torch.ones(16, 10) @ w.float()).bfloat16())
    assert seen == [torch.bfloat16] * (2 if grad else 1)


def test_nothing_is_widened_where_it_need_not_be(lacking, monkeypatch):
    none = type(products.nullcontext())
    assert isinstance(products.widened(torch.zeros(1)), none)
    assert isinstance(products.widened(torch.zeros(1, dtype=torch.bfloat16, device="meta")), none)
    monkeypatch.setattr(products, "has_bf16", lambda: True)
    assert isinstance(products.widened(some(1)), none)


@pytest.mark.parametrize("layers", [0, 1])
def test_a_training_goes_the_same_way_widened_or_not(folder, tmp_path, monkeypatch, layers):
    recipe = replace(TINY, dtype="bf16", lora_layers=layers)
    found = {}
    for able in (True, False):
        monkeypatch.setattr(products, "has_bf16", lambda able=able: able)
        found[able] = train(load(folder, recipe), some_rows(12), out=tmp_path / f"{able}", recipe=recipe).losses
    assert found[True] == pytest.approx(found[False], rel=5e-3)
    assert found[True][-1] < found[True][0]


def test_features_are_the_same_widened_or_not(folder, monkeypatch):
    config = {
        "model": str(folder),
        "recipe": replace(TINY, dtype="bf16").to_dict(),
        "feature": FeatureSpec(kind="onesided", optimizer="sgd", k=8).to_dict(),
    }
    from dataworth.learners.batching import batches

    batch = next(iter(batches(some_rows(6), 512, torch.device("cpu"))))
    found = {}
    for able in (True, False):
        monkeypatch.setattr(products, "has_bf16", lambda able=able: able)
        model = open_pass(config, "cpu")
        features_BP, _ = model.gradients(batch)
        found[able] = features_BP, model.losses(batch).loss_B, model.embeddings(batch)
    for plain, wide in zip(found[True], found[False], strict=True):
        assert float((plain - wide).norm()) <= 0.1 * float(plain.norm())
