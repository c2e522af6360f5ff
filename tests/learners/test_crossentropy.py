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


@pytest.mark.parametrize("chunk_rows", [1, 16, 64, 299, 300, 301])
def test_the_size_of_a_chunk_changes_nothing(monkeypatch, chunk_rows):
    hidden, head, target, bias = inputs()

    def everything():
        losses = token_losses(hidden, head, target, bias)
        (grad,) = torch.autograd.grad(losses.sum(), hidden)
        return losses.detach(), grad, *losses_and_entropies(hidden.detach(), head, target, bias)

    whole = everything()
    monkeypatch.setattr(crossentropy, "_CPU_CHUNK_BYTES", chunk_rows * 4 * 501)
    for cut, wanted in zip(everything(), whole, strict=True):
        torch.testing.assert_close(cut, wanted, rtol=1e-5, atol=1e-5)


def logits_as_they_are(logits):
    """Hidden states and a head whose product is `logits` exactly: the head is the identity."""
    return torch.tensor(logits), torch.eye(len(logits[0]))


def test_extreme_logits_by_hand():
    hidden, head = logits_as_they_are(
        [
            [0.0, 0.0, 0.0, 0.0],
            [1e4, 0.0, 0.0, 0.0],
            [1e4, 0.0, 0.0, 0.0],
            [-1e30, -1e30, 0.0, 0.0],
            [88.0, 89.0, -3e38, 0.0],
        ]
    )
    target = torch.tensor([2, 0, 1, 2, 1])
    log_2 = 0.6931472
    wanted = torch.tensor([2 * log_2, 0.0, 1e4, log_2, 0.3132617])
    losses, entropies = losses_and_entropies(hidden, head, target)
    torch.testing.assert_close(losses, wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(token_losses(hidden, head, target), wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(entropies, torch.tensor([2 * log_2, 0.0, 0.0, log_2, 0.5822]), rtol=1e-3, atol=1e-4)


def test_gradients_of_extreme_logits_are_probabilities_minus_one_hot():
    hidden, head = logits_as_they_are([[1e4, 0.0, 0.0], [1e4, 0.0, 0.0], [-1e30, 0.0, 0.0]])
    hidden.requires_grad_()
    (grad,) = torch.autograd.grad(token_losses(hidden, head, torch.tensor([0, 1, 2])).sum(), hidden)
    torch.testing.assert_close(grad, torch.tensor([[0.0, 0.0, 0.0], [1.0, -1.0, 0.0], [0.0, 0.5, -0.5]]))


@pytest.mark.parametrize("offset", [0.0, 500.0, -500.0])
def test_a_common_offset_of_all_logits_changes_no_loss_and_no_entropy(offset):
    hidden, head, target, _ = inputs(n=40)
    plain = losses_and_entropies(hidden.detach(), head, target)
    moved = losses_and_entropies(hidden.detach(), head, target, torch.full((501,), offset))
    for a, b in zip(moved, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-3)
    assert (moved[1] > -1e-3).all() and (moved[1] < torch.log(torch.tensor(501.0)) + 1e-3).all()


def test_a_vocabulary_of_one_has_nothing_to_learn():
    hidden = torch.randn(3, 4, requires_grad=True)
    losses = token_losses(hidden, torch.randn(1, 4), torch.zeros(3, dtype=torch.long))
    (grad,) = torch.autograd.grad(losses.sum(), hidden)
    assert not losses.any() and not grad.any()


def test_bf16_heads_give_bf16_gradients_and_fp32_entropies_near_the_exact_ones():
    hidden, head, target, bias = inputs(dtype=torch.bfloat16)
    losses, entropies = losses_and_entropies(hidden.detach(), head, target, bias)
    log_p = functional.log_softmax((hidden @ head.t()).float() + bias.float(), -1).detach()
    assert losses.dtype == entropies.dtype == torch.float32
    torch.testing.assert_close(entropies, -(log_p.exp() * log_p).sum(-1), rtol=1e-3, atol=1e-3)
    (grad,) = torch.autograd.grad(token_losses(hidden, head, target, bias).sum(), hidden)
    assert grad.dtype == torch.bfloat16
    exact = torch.autograd.grad(
        functional.cross_entropy(
            functional.linear(hidden.float(), head.float(), bias.float()), target, reduction="sum"
        ),
        hidden,
    )[0]
    assert float((grad - exact).float().norm() / exact.float().norm()) < 0.02


def test_the_backward_may_be_taken_twice_and_weighs_each_position():
    hidden, head, target, _ = inputs(n=5)
    losses = token_losses(hidden, head, target)
    (whole,) = torch.autograd.grad(losses.sum(), hidden, retain_graph=True)
    for n in range(5):
        (one,) = torch.autograd.grad(losses[n] * 2, hidden, retain_graph=True)
        torch.testing.assert_close(one[n], 2 * whole[n])
        assert not one[:n].any() and not one[n + 1 :].any()
