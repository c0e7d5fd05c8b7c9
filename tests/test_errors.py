from unlearn.errors import unknown


def test_unknown_names_the_nearest_and_all():
    assert unknown("key", "stpes", ["sampler", "steps"]) == (
        "Unknown key 'stpes'. Did you mean 'steps'? Known: sampler, steps."
    )


def test_unknown_without_a_near_one():
    assert unknown("detector", "zzz", []) == "Unknown detector 'zzz'. Known: none."
