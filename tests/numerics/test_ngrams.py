import numpy as np
import pytest

from dataworth.numerics.lexical import encode
from dataworth.numerics.ngrams import WordHashes, ngrams

MASK = 2**64 - 1


def mixed(x):
    """SplitMix64 after its authors' C code."""
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def naive(words, width):
    hashes = WordHashes()
    out = []
    for i in range(len(words) - width + 1):
        found = hashes[words[i]]
        for w in words[i + 1 : i + width]:
            found = (mixed(found) + hashes[w]) & MASK
        out.append(mixed(found))
    return out


def test_mixing_is_splitmix64():
    """First two outputs of the generator from seed 1234567, as published with it."""
    gamma = 0x9E3779B97F4A7C15
    assert mixed(1234567) == 6457827717110365317
    assert mixed((1234567 + gamma) & MASK) == 3203168211198807973


@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_equals_a_loop_over_texts(width):
    texts = ["a b c d e", "", "b c", "a b c d e f g a b", "x"]
    words_T, length_B = next(encode(texts, WordHashes()))
    gram_T, count_B = ngrams(words_T, length_B, width)
    assert count_B.tolist() == [len(naive(t.split(), width)) for t in texts]
    assert gram_T.tolist() == [g for t in texts for g in naive(t.split(), width)]
    assert gram_T.dtype == np.uint64


def test_order_and_width_count():
    words_T, length_B = next(encode(["a b", "b a"], WordHashes()))
    one, two = ngrams(words_T, length_B, 2)[0].tolist()
    assert one != two and not {one, two} & set(ngrams(words_T, length_B, 1)[0].tolist())


def test_half_surrogates_have_a_hash():
    assert WordHashes()["\ud800x"] >= 0
