"""Dataworth: which training examples are worth training on, for this model and this goal.

import dataworth as dw
dw.select("pool.jsonl", goal="goal.jsonl", model="path/to/model", keep="5%").write("picked.jsonl")
"""

from dataworth.api import plan, replay, score, select

__all__ = ["plan", "replay", "score", "select"]
