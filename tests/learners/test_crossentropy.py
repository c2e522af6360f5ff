"""The fused cross-entropy against torch's own."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.lm

from torch.nn import functional  # noqa: E402

from dataworth.learners import crossentropy  # noqa: E402
from dataworth.learners.crossentropy import losses_and_entropies, token_losses  # noqa: E402


def inputs(n=300, width=24, vocabulary=501, dtype=torch.float32):
    torch.manual_seed(0)
    hidden = torch.randn(n, width, dtype=dtype, requires_grad=True)
    head = torch.randn(vocabulary, width).to(dtype)
    return hidden, head, torch.randint(vocabulary, (n,)), torch.randn(vocabulary).to(dtype)


@pytest.mark.parametrize("chunk", [17, 10_000])
@pytest.mark.parametrize("with_bias", [True, False])
def test_losses_and_gradients_equal_torch(monkeypatch, chunk, with_bias):
    monkeypatch.setattr(crossentropy, "_CPU_CHUNK_BYTES", chunk * 4 * 501)
    hidden, head, target, bias = inputs()
    bias = bias if with_bias else None
    weight = torch.rand(len(target)) * 3
    ours = token_losses(hidden, head, target, bias)
    (ours_g,) = torch.autograd.grad((ours * weight).sum(), hidden)
    theirs = functional.cross_entropy(functional.linear(hidden, head, bias), target, reduction="none")
    (theirs_g,) = torch.autograd.grad((theirs * weight).sum(), hidden)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours_g, theirs_g, rtol=1e-4, atol=1e-5)


def test_bf16_losses_are_those_of_its_rounded_logits():
    hidden, head, target, _ = inputs(dtype=torch.bfloat16)
    ours = token_losses(hidden, head, target)
    assert ours.dtype == torch.float32
    theirs = functional.cross_entropy((hidden @ head.t()).float(), target, reduction="none")
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)
    (ours_g,) = torch.autograd.grad(ours.sum(), hidden)
    (theirs_g,) = torch.autograd.grad(theirs.sum(), hidden)
    assert float((ours_g - theirs_g).float().norm() / theirs_g.float().norm()) < 0.02


def test_entropies_and_losses_in_one_sweep():
    hidden, head, target, bias = inputs()
    losses, entropies = losses_and_entropies(hidden, head, target, bias)
    log_p = functional.log_softmax(functional.linear(hidden, head, bias), -1)
    torch.testing.assert_close(losses, -log_p[torch.arange(300), target], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(entropies, -(log_p.exp() * log_p).sum(-1), rtol=1e-4, atol=1e-4)


def test_huge_logits_stay_finite_and_no_row_is_fine():
    hidden, head, target, _ = inputs(n=3)
    loss = token_losses(hidden * 1e4, head, target)
    assert torch.isfinite(loss).all()
    empty = token_losses(hidden[:0], head, target[:0])
    assert empty.shape == (0,)


def test_the_frozen_head_gets_no_gradient():
    hidden, head, target, _ = inputs(n=3)
    head.requires_grad_()
    token_losses(hidden, head, target).sum().backward()
    assert head.grad is None
