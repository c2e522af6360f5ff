"""A tiny random Llama with a warmed-up LoRA adapter, rows with random masks, and naive gradients."""

from __future__ import annotations

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from dataworth.learners.render import Encoded
from dataworth.probes.preconditioner import canonical

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def llama(attention="sdpa", tied=True, **changes):
    torch.manual_seed(0)
    values = dict(
        vocab_size=97,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=tied,
        attn_implementation=attention,
        initializer_range=0.2,
    )
    return LlamaForCausalLM(LlamaConfig(**(values | changes))).eval()


def with_lora(model, targets=ALL, r=4, seed=1):
    """A LoRA adapter whose B is not zero, as after some training."""
    torch.manual_seed(seed)
    adapted = get_peft_model(model, LoraConfig(r=r, lora_alpha=2 * r, lora_dropout=0.0, target_modules=targets))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return adapted.eval()


def make_rows(n=9, vocab=97, longest=30, seed=0):
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        length = int(rng.integers(4, longest))
        supervised = rng.random(length) < 0.5
        supervised[0], supervised[-1] = False, True
        rows.append(Encoded(f"{i:032x}", rng.integers(0, vocab, length).astype(np.int32), supervised))
    return rows


def naive_gradients(adapted, rows, total=False):
    """One backward per row through PEFT: {canonical name: [rows, L]} and the losses."""
    grads, losses = [], []
    for row in rows:
        ids = torch.tensor(row.input_ids, dtype=torch.long)[None]
        labels = torch.where(torch.tensor(row.supervised)[None], ids, -100)
        adapted.zero_grad()
        loss = adapted(input_ids=ids, labels=labels).loss * (row.targets if total else 1)
        loss.backward()
        losses.append(loss.item())
        grads.append(
            {
                canonical(n): p.grad.float().flatten().numpy().copy()
                for n, p in adapted.named_parameters()
                if p.requires_grad
            }
        )
    return {name: np.stack([g[name] for g in grads]) for name in grads[0]}, np.array(losses)
