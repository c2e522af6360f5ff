"""Rows, a tiny learner and transformers' own numbers to compare judges with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dataworth.recipe import Recipe
from dataworth.records import Example, Message

RECIPE = Recipe(dtype="fp32", batch_size=2, epochs=2, lr=5e-3, lora_r=4, max_length=96)


def asked(row_id: str, query: str, answer: str) -> Example:
    return Example(row_id, "sft", "prompt_completion", (Message("user", query), Message("assistant", answer)))


def choice(row_id: str, query: str, choices: Sequence[str], gold: int | None = 0, system: str = "") -> Example:
    before = (Message("system", system),) if system else ()
    right = choices[gold] if gold is not None and 0 <= gold < len(choices) else ""
    turns = (*before, Message("user", query), Message("assistant", right))
    return Example(row_id, "sft", "choice", turns, "", tuple(choices), gold)


def text(row_id: str, content: str) -> Example:
    return Example(row_id, "text", "text", (), content)


CHOICES = [
    choice("a", "Which one?", ["this", "that", "the other one", "he"], 2),
    choice("b", "Question: 2 + 2?\nAnswer:", ["four", "five"], 0),
    choice("c", "Say it in Greek.\n", ["λόγος", "μῦθος, maybe", "x"], 1, system="Be brief."),
]


class Bare:
    """transformers alone: log-probabilities of the tokens of `whole` after its first `given` ones."""

    def __init__(self, folder: str | Path, adapter: Path | None = None) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        if adapter:
            from peft import PeftModel

            self.model = PeftModel.from_pretrained(self.model, str(adapter)).eval()

    def ids(self, words: str) -> list[int]:
        return self.tokenizer(words, add_special_tokens=False)["input_ids"]

    def log_probability(self, whole: Sequence[int], given: int) -> float:
        import torch

        with torch.no_grad():
            logits = self.model(input_ids=torch.tensor([list(whole)])).logits[0].float()
        told = torch.log_softmax(logits, -1)[torch.arange(given - 1, len(whole) - 1), torch.tensor(whole[given:])]
        return float(told.sum())
