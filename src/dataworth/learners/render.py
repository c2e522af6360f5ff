"""From an example to token ids and the tokens that carry loss.

The mask comes from rendering the conversation up to each assistant turn and finding that prefix in the whole; templates
need no `{% generation %}` tags. Where that is unsound (the template rewrites earlier turns, drops text, refuses
the row) the row gets a reason and no targets; a mask is never silently empty.

`mask_like` says whose loss is meant. For a conversation / for a prompt with one completion:

    assistant     every assistant turn with its end-of-turn token / the completion, the same way
    axolotl       the same (`roles_to_train: [assistant]`, `train_on_eos: turn`, `train_on_inputs: false`)
    llamafactory  every assistant turn, its end-of-turn token and the line break after it
    verl          the same as llamafactory (turn minus generation prompt)
    trl           every token (SFTTrainer's default for `messages`) / the completion to the end of the text
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataworth.errors import RequestError
from dataworth.learners.load import require
from dataworth.learners.template import FALLBACK_TEMPLATE, PINNED_DATE, ChatTemplate, TemplateRefused
from dataworth.recipe import MaskLike
from dataworth.records import Example, Message
from dataworth.store.fingerprint import fingerprint

_CONVERSATIONS = ("messages", "sharegpt")
_STAND_IN = "\ufdef"
_SURROGATE = re.compile("[\ud800-\udfff]")
Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Encoded:
    """One row as the learner sees it.

    `input_ids` int32[T]; `supervised` bool[T]: token t is a target, predicted from the tokens before it, so the first
    is always False. `reason` is empty, or says in plain words why the row carries no loss (then `supervised` is all
    False). `truncated`: the row was longer than `max_length`. `forged`: special tokens written out in the row's own
    text; they are encoded as ordinary characters, so data can't end or begin a turn.
    """

    id: str
    input_ids: NDArray[np.int32]
    supervised: NDArray[np.bool_]
    truncated: bool = False
    reason: str = ""
    forged: int = 0

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def targets(self) -> int:
        """How many tokens carry loss."""
        return int(self.supervised.sum())

    @property
    def said(self) -> list[Any]:
        """What decides a training on it, as plain values."""
        return [self.input_ids.tolist(), self.supervised.tolist()]


@dataclass(frozen=True, slots=True)
class _Rendered:
    """Rendered text, the characters to be learned, and where forged special tokens must be cut."""

    text: str
    spans: tuple[Span, ...] = ()
    cuts: tuple[int, ...] = ()
    reason: str = ""


class Renderer:
    """Renders and masks examples for one tokenizer.

    Args:
        tokenizer: A fast transformers tokenizer; it is copied, so later changes to it have no effect here.
        mask_like: Whose loss mask (see the module's table).
        max_length: Tokens kept of a row; the rest is cut off and flagged.

    Raises:
        RequestError: The tokenizer has several templates and none called default, or one that is not valid Jinja.
    """

    def __init__(self, tokenizer: Any, mask_like: MaskLike = "assistant", max_length: int = 512) -> None:
        tokenizers = require("tokenizers", "rendering")
        self._backend = tokenizers.Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self._backend.no_truncation()
        self._backend.no_padding()
        self.mask_like = mask_like
        self.max_length = max_length
        self._eos: str = tokenizer.eos_token or ""
        adds_bos = self._backend.encode("", add_special_tokens=True).ids[:1] == [tokenizer.bos_token_id]
        self._bos: str = tokenizer.bos_token if adds_bos else ""
        added = self._backend.get_added_tokens_decoder().values()
        self._special = _any_of({t.content for t in added if t.special})
        self._markup = _any_of({t.content for t in added})
        self.template, self.template_kind = self._choose_template(tokenizer)

    def _choose_template(self, tokenizer: Any) -> tuple[ChatTemplate, str]:
        source = tokenizer.chat_template
        if isinstance(source, dict):
            if "default" not in source:
                raise RequestError(
                    f"the tokenizer has templates {sorted(source)} and no default: expected one; name one 'default'"
                )
            source = source["default"]
        variables = {k: str(v) for k, v in tokenizer.special_tokens_map.items() if not isinstance(v, list)}
        if source:
            return ChatTemplate(source, variables), "model"
        return ChatTemplate(FALLBACK_TEMPLATE, {"bos_token": self._bos, "eos_token": self._eos}), "fallback"

    @cached_property
    def spec(self) -> dict[str, Any]:
        """Everything that decides ids and masks, as plain JSON values."""
        return {
            "template": self.template_kind,
            "template_sha256": hashlib.sha256(self.template.source.encode()).hexdigest(),
            "special_tokens": {**self.template.variables, "text": [self._bos, self._eos]},
            "tokenizer_sha256": hashlib.sha256(self._backend.to_str().encode()).hexdigest(),
            "mask_like": self.mask_like,
            "max_length": self.max_length,
            "date": PINNED_DATE.date().isoformat(),
        }

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the spec."""
        return fingerprint(self.spec)

    def encode(self, example: Example) -> Encoded:
        """Token ids and mask of one row; a row that can't carry loss says why in `reason`."""
        return self._encode(example)[0]

    def describe(self, example: Example) -> list[tuple[str, bool]]:
        """The text the learner sees, in pieces: (text, carries loss). What truncation cut off is not shown."""
        encoded, rendered, offsets = self._encode(example)
        pieces: list[tuple[str, bool]] = []
        done = 0
        for supervised, (_, end) in zip(encoded.supervised.tolist(), offsets, strict=False):
            text, done = rendered.text[done:end], max(done, end)
            if pieces and pieces[-1][1] == supervised:
                pieces[-1] = (pieces[-1][0] + text, supervised)
            elif text:
                pieces.append((text, supervised))
        return pieces

    def _encode(self, example: Example) -> tuple[Encoded, _Rendered, list[Span]]:
        marked, mark, forged = self._mark_forged(example)
        rendered = _unmarked(self._render(marked), mark)
        ids, offsets = self._tokenize(rendered)
        supervised = _cover(offsets, rendered.spans)
        supervised[:1] = False
        truncated = len(ids) > self.max_length
        reason = rendered.reason
        if not reason and not supervised.any():
            reason = "no token of the row is a target"
        elif not reason and not supervised[: self.max_length].any():
            reason = f"the row is cut at {self.max_length} tokens, before its first answer token"
        kept = supervised[: self.max_length]
        if reason:
            kept = np.zeros_like(kept)
        encoded = Encoded(example.id, ids[: self.max_length], kept, truncated, reason, forged)
        return encoded, rendered, offsets

    def _mark_forged(self, example: Example) -> tuple[Example, str, int]:
        """Put a mark after the first character of every special token in the row's own text.

        The mark is a Unicode noncharacter (failing that, a later character) the row doesn't contain. Cutting the
        rendered text at the marks before tokenizing leaves no piece that holds a whole special token.
        """
        texts = _texts(example)
        forged = sum(len(self._special.findall(t)) for t in texts)
        if not forged:
            return example, "", 0
        mark = next(c for c in map(chr, range(0xFDD0, 0x110000)) if not any(c in t for t in texts))

        def split(text: str) -> str:
            while found := self._special.search(text):
                text = text[: found.start() + 1] + mark + text[found.start() + 1 :]
            return text

        turns = tuple(Message(split(m.role), split(m.content)) for m in example.messages)
        return Example(example.id, example.kind, example.schema, turns, split(example.text)), mark, forged

    def _render(self, example: Example) -> _Rendered:
        if any(_SURROGATE.search(t) for t in _texts(example)):
            return _Rendered("", reason="its text holds half a surrogate pair, which is no character")
        if example.kind == "text":
            return self._render_text(example.text)
        if example.kind != "sft":
            return _Rendered("", reason=f"a {example.kind} row has no answer to learn from")
        try:
            return self._render_turns(example)
        except TemplateRefused as error:
            return _Rendered("", reason=f"the chat template refuses the row: {error}")

    def _render_text(self, text: str) -> _Rendered:
        """Plain text with the tokenizer's own BOS and an end-of-text token; everything but the BOS is learned."""
        if not text.strip():
            return _Rendered(text, reason="the text is empty")
        full = self._bos + text + self._eos
        return _Rendered(full, spans=((len(self._bos), len(full)),))

    def _render_turns(self, example: Example) -> _Rendered:
        turns = example.messages
        if not turns:
            return _Rendered("", reason="the row has no turns")
        full = self.template.render(turns)
        for k, turn in enumerate(turns):
            if self._find(full, 0, turn.content) is None:
                return _Rendered(
                    full, reason=f"the chat template drops or rewrites the text of turn {k + 1} ({turn.role})"
                )
        if self.mask_like == "trl" and example.schema in _CONVERSATIONS:
            return _Rendered(full, spans=((0, len(full)),))
        answers = [k for k, m in enumerate(turns) if m.role == "assistant"]
        if not answers:
            return _Rendered(full, reason="the row has no assistant turn to learn from")
        if not any(turns[k].content.strip() for k in answers):
            return _Rendered(full, reason="every assistant turn is empty")
        spans = []
        for k in answers:
            start = self._answer_start(full, turns, k)
            if start is None:
                return _Rendered(
                    full,
                    reason=f"the chat template renders what stands before turn {k + 1} differently in the whole",
                )
            end = self._answer_end(full, start, turns[k].content)
            if end is None:
                return _Rendered(
                    full, reason=f"the chat template drops or rewrites the text of turn {k + 1} (assistant)"
                )
            spans.append((start, len(full) if self.mask_like == "trl" else end))
        return _Rendered(full, spans=tuple(spans))

    def _answer_start(self, full: str, turns: tuple[Message, ...], k: int) -> int | None:
        """Where answer `k` starts: the end of its prompt, if that prompt is a prefix of the whole.

        An opening answer has no prompt to render (templates may refuse an empty list): a stand-in shows its place.
        """
        if k:
            prompt = self.template.render(turns[:k], generation_prompt=True)
            return len(prompt) if full.startswith(prompt) else None
        stand_in = self.template.render((Message(turns[0].role, _STAND_IN), *turns[1:]))
        at = stand_in.find(_STAND_IN)
        return at if at >= 0 and full.startswith(stand_in[:at]) else None

    def _answer_end(self, full: str, start: int, content: str) -> int | None:
        """Where the answer that starts at `start` ends, its end-of-turn token included.

        The template may put markup (an empty think block) before the answer, but no other text.
        """
        found = self._find(full, start, content)
        if found is None or self._markup.sub("", full[start : found[0]]).strip():
            return None
        end = found[1]
        closing = self._special.match(full, _skip_space(full, end))
        if closing:
            end = closing.end()
        return _skip_space(full, end) if self.mask_like in ("llamafactory", "verl") else end

    def _find(self, full: str, start: int, content: str) -> Span | None:
        """Where `content` first stands in `full`, whitespace aside: templates trim, and re-set space around markup."""
        places = [(full.find(text, start), len(text)) for text in (content, content.strip())]
        first = min((p for p in places if p[0] >= 0), key=lambda p: (p[0], -p[1]), default=None)
        if first:
            return first[0], sum(first)
        words = self._markup.sub(lambda m: f" {m[0]} ", content).split()
        found = re.compile(r"\s*".join(map(re.escape, words))).search(full, start)
        return found.span() if found else None

    def _tokenize(self, rendered: _Rendered) -> tuple[NDArray[np.int32], list[Span]]:
        """Ids and character spans; text is cut at forged special tokens so that none of them becomes one token."""
        ids: list[int] = []
        offsets: list[Span] = []
        bounds = [0, *rendered.cuts, len(rendered.text)]
        for left, right in pairwise(bounds):
            piece = self._backend.encode(rendered.text[left:right], add_special_tokens=False)
            ids += piece.ids
            offsets += [(left + a, left + b) for a, b in piece.offsets]
        return np.asarray(ids, dtype=np.int32), offsets


def _texts(example: Example) -> list[str]:
    """Every string of a row."""
    return [example.text, *(m.content for m in example.messages), *(m.role for m in example.messages)]


def _any_of(tokens: set[str]) -> re.Pattern[str]:
    """A pattern that matches any of the tokens, longer ones first."""
    return re.compile("|".join(re.escape(t) for t in sorted(tokens, key=len, reverse=True) if t) or "(?!)")


def _skip_space(text: str, at: int) -> int:
    """The first position from `at` on that isn't whitespace."""
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _unmarked(rendered: _Rendered, mark: str) -> _Rendered:
    """Take the marks out of the text, shift the spans, and remember where the marks stood."""
    if not mark:
        return rendered
    at = [i for i, c in enumerate(rendered.text) if c == mark]
    cuts = tuple(i - n for n, i in enumerate(at))

    def shift(i: int) -> int:
        return i - int(np.searchsorted(at, i))

    spans = tuple((shift(a), shift(b)) for a, b in rendered.spans)
    return _Rendered(rendered.text.replace(mark, ""), spans, cuts, rendered.reason)


def _cover(offsets: list[Span], spans: tuple[Span, ...]) -> NDArray[np.bool_]:
    """Tokens that carry any character of a span: one that merges prompt and answer over the boundary is a target."""
    out = np.zeros(len(offsets), dtype=np.bool_)
    if not spans or not offsets:
        return out
    start, end = np.asarray(offsets, dtype=np.int64).T
    for a, b in spans:
        out |= (start < b) & (end > a)
    return out
