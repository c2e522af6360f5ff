"""Learning-curve laws with intervals and refusals: pure fits over sizes and losses that somebody measured."""
