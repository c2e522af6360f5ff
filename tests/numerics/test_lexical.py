import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dataworth.numerics.lexical import Vocabulary, encode, words


def test_words_fold_case_and_compatibility_forms():
    assert words("Don't STOP, the ﬁne_1 Straße!") == ["don", "t", "stop", "the", "fine_1", "strasse"]
    assert words("今天 weather好") == ["今", "天", "weather", "好"]
    assert words(" ?! ") == []


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
