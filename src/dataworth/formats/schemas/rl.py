"""RL prompts: `prompt` (or `question`) with something to check an answer against and no completion."""

from __future__ import annotations

from dataworth.formats.schemas.base import Columns, Schema
from dataworth.formats.schemas.prompt_completion import side_problem, side_turns
from dataworth.records import Message

TRUTHS = ("answer", "solution", "ground_truth", "expected_answer", "reward_model")


def _prompt(columns: Columns) -> str:
    return "prompt" if "prompt" in columns else "question"


def _rl_problem(columns: Columns) -> str | None:
    problem = side_problem(columns, _prompt(columns))
    if problem:
        return problem
    if "completion" in columns:
        return "column 'completion' stands in an RL row"
    if all(columns.get(t) is None for t in TRUTHS):
        return f"an RL prompt without one of {', '.join(TRUTHS)}"
    return None


def _problem(columns: Columns) -> str | None:
    return _rl_problem(columns) if "prompt" in columns else "column 'prompt' is missing"


def _turns(columns: Columns) -> tuple[Message, ...]:
    return side_turns(columns[_prompt(columns)], "user")


SCHEMA = Schema("rl", "rl", ("prompt", "answer"), ("prompt", *TRUTHS), _problem, _turns)
# GSM8K-like rows are RL data only when the user says so (`task="rl"`).
ASKED_FOR = Schema("rl", "rl", ("question", "answer"), ("prompt", "question", *TRUTHS), _rl_problem, _turns)
