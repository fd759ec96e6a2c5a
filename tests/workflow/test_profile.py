"""What a network costs, and what is said of one that cannot take the input."""

import pytest

from ganshrink.workflow.profile import profile


@pytest.mark.slow
def test_input_channels_follow_the_input_unless_given():
    found = profile("resnet9", ["ngf=4", "blocks=1"], ["5x16x16"])
    assert found["options"] == {"ngf": 4, "blocks": 1, "in_channels": 5} and found["inputs"] == [[5, 16, 16]]
    with pytest.raises(ValueError, match="resnet9 cannot take an input of 5x16x16: .*3 channels"):
        profile("resnet9", ["ngf=4", "blocks=1", "in_channels=3"], ["5x16x16"])


@pytest.mark.slow
def test_a_generator_of_latent_vectors_takes_a_length():
    small = ["ngf=8", "size=16"]
    assert profile("sagan", [*small, "latent=6"])["inputs"] == [[6]]
    found = profile("sagan", small, ["5"])
    assert (found["inputs"], found["options"]["latent"]) == ([[5]], 5)


@pytest.mark.parametrize(
    ("net", "inputs", "message"),
    [
        ("resnet9", ["3x2x2"], "resnet9 cannot take an input of 3x2x2: "),
        ("resnet9", ["3x8x8", "3x8x8"], "cannot take an input of 3x8x8 and 3x8x8: .*positional argument"),
        (
            "resnet9",
            ["3x8x8", "8x8"],
            "--input must be CxHxW, such as 3x256x256, or C for a vector, got '8x8'",
        ),
        ("none_such.nets:make", ["3x8x8"], "there is no module none_such, neither installed nor in"),
    ],
)
def test_what_cannot_be_profiled_is_one_line(net, inputs, message):
    with pytest.raises(ValueError, match=message) as error:
        profile(net, ["ngf=2"] if net == "resnet9" else [], inputs)
    assert "\n" not in str(error.value)
