from dataclasses import replace

from dataworth.proving.trials import Training
from dataworth.recipe import Recipe


def test_a_dtype_asked_for_by_name_is_the_training_that_auto_made_of_it():
    learner = {"weights_sha256": "00", "dtype": "bf16"}
    auto = Training(("a", "b"), (), Recipe())
    named = replace(auto, recipe=Recipe(dtype="bf16"))
    assert named.spec(learner) == auto.spec(learner)
    assert auto.spec({**learner, "dtype": "fp32"}) != auto.spec(learner)
    assert replace(auto, recipe=Recipe(lr=1e-3)).spec(learner) != auto.spec(learner)
