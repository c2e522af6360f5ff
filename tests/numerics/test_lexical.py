import re
import unicodedata

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dataworth.numerics.lexical import Vocabulary, encode, words


def test_words_fold_case_and_compatibility_forms():
    assert words("Don't STOP, the ﬁne_1 Straße!") == ["don", "t", "stop", "the", "fine_1", "strasse"]
    assert words("今天 weather好") == ["今", "天", "weather", "好"]
    assert words(" ?! ") == []


def test_combining_marks_continue_a_word():
    assert words("नमस्ते, हिन्दी दुनिया!") == ["नमस्ते", "हिन्दी", "दुनिया"]
    assert words("தமிழ் كَتَبَ שָׁלוֹם x\u030cy") == ["தமிழ்", "كَتَبَ", "שָׁלוֹם", "x\u030cy"]
    assert words("\U00011103\U00011127\U00011103 \U0001e922\U0001e944") == [  # Chakma, and Adlam, whose case folds
        "\U00011103\U00011127\U00011103",
        "\U0001e922\U0001e944",
    ]
    assert words("İstanbul") == words("i\u0307stanbul") == ["i\u0307stanbul"]
    assert words("\u0301 a \u093f") == ["a"]


def test_joiners_stand_between_letters_and_variation_selectors_are_no_part_of_a_word():
    assert words("می\u200cخواهم क\u094d\u200dष") == ["می\u200cخواهم", "क\u094d\u200dष"]
    assert words("word\u200c word\u200d\U0001f4bb 1\ufe0f\u20e3 葛\U000e0100城") == ["word", "word", "1", "葛", "城"]


def test_in_scripts_without_spaces_a_character_with_its_marks_is_a_word():
    assert words("ที่นี่") == ["ที่", "นี่"]
    assert words("ខ្ញុំទៅ") == ["ខ្", "ញុំ", "ទៅ"]
    assert words("ລາວ") == ["ລ", "າ", "ວ"]
    assert words("မြန်မာ") == ["မြ", "န်", "မာ"]


@given(st.text(st.characters(exclude_categories=("Mn", "Mc", "Cf"), max_codepoint=0x0DFF)))
def test_without_marks_words_are_runs_of_letters_digits_and_underscores(text):
    folded = unicodedata.normalize("NFKC", text).casefold()
    if not any(unicodedata.category(c) in ("Mn", "Mc") for c in folded):
        assert words(text) == re.findall(r"\w+", folded)


def test_unknown_words_are_minus_one_and_not_stored():
    vocabulary = Vocabulary()
    assert vocabulary.add(["a", "b", "a"]) == [0, 1, 0]
    assert vocabulary["zzz"] == -1
    assert len(vocabulary) == 2


@given(st.lists(st.text(alphabet="ab c.", max_size=12), max_size=30), st.integers(1, 7))
def test_encode_equals_word_by_word_for_every_batch_size(texts, batch):
    vocabulary = Vocabulary()
    vocabulary.add(["a", "bb", "ab"])
    flat, lengths = [], []
    for words_T, length_B in encode(iter(texts), vocabulary, batch):
        assert words_T.dtype == np.int32 and len(length_B) <= batch
        flat += words_T.tolist()
        lengths += length_B.tolist()
    assert flat == [vocabulary[w] for t in texts for w in words(t)]
    assert lengths == [len(words(t)) for t in texts]
