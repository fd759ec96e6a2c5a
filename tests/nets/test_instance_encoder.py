"""Pix2pixHD's encoder of instances: means by number equal the loop of the released code, and export."""

import pytest
import torch

from ganshrink.exporters import export_onnx, open_session
from ganshrink.nets.instance_encoder import InstanceEncoder, instance_means


def by_loop(features: torch.Tensor, instances: torch.Tensor) -> torch.Tensor:
    """One image and one number after the other, as the released code does."""
    mean = features.clone()
    for place, numbers in enumerate(instances):
        for number in numbers.unique():
            at = numbers[0] == number
            mean[place, :, at] = features[place, :, at].mean(1, keepdim=True)
    return mean


def numbered(count: int, *size: int) -> torch.Tensor:
    """Each image with its own numbers, some of them missing; the last image is one instance."""
    numbers = torch.randint(0, 7, size, generator=torch.Generator().manual_seed(0)) * 3 % count
    numbers[-1] = count - 1
    return numbers


def test_means_equal_the_loop_and_so_do_their_gradients():
    torch.manual_seed(0)
    features = torch.randn(3, 4, 6, 10, dtype=torch.float64, requires_grad=True)
    instances, weights = numbered(1024, 3, 1, 6, 10), torch.randn(3, 4, 6, 10, dtype=torch.float64)
    made, wanted = instance_means(features, instances), by_loop(features, instances)
    torch.testing.assert_close(made, wanted)
    both = [torch.autograd.grad((means * weights).sum(), features)[0] for means in (made, wanted)]
    torch.testing.assert_close(*both)


def test_the_encoder_is_the_published_one():
    """Of 16 channels, four halvings and as many doublings: an own count."""
    with torch.device("meta"):
        encoder = InstanceEncoder()
    widths = [16 * 2**level for level in range(5)]
    wanted = 3 * 16 * 49 + 16 + 16 * 3 * 49 + 3
    for narrow, wide in zip(widths[:-1], widths[1:], strict=True):
        wanted += 2 * narrow * wide * 9 + wide + narrow
    assert sum(p.numel() for p in encoder.parameters()) == wanted == 788_803
    names = [f"model.{i}" for i in (1, 4, 7, 10, 13, 16, 19, 22, 25, 29)]  # of the released code
    assert [name.removesuffix(".weight") for name in encoder.state_dict() if "weight" in name] == names


@pytest.mark.slow
@pytest.mark.exhaustive
def test_the_encoder_exports_at_any_size(tmp_path):
    torch.manual_seed(0)
    encoder = InstanceEncoder(nef=4, halvings=2).eval()
    example = torch.rand(1, 3, 32, 32) * 2 - 1, numbered(5, 1, 1, 32, 32)
    path = tmp_path / "encoder.onnx"
    entry = export_onnx(encoder, example, path, dynamic_size=True, inputs=[tuple(t[0] for t in example)])
    assert entry["psnr_db"] > 90
    session = open_session(path, threads=1)
    for size in ((32, 32), (48, 80)):
        photo, instances = torch.rand(2, 3, *size) * 2 - 1, numbered(6, 2, 1, *size)
        given = {"input_0": photo.numpy(), "input_1": instances.numpy()}
        with torch.no_grad():
            wanted = by_loop(encoder.model(photo), instances)
        made = torch.from_numpy(session.run(None, given)[0])
        torch.testing.assert_close(made, wanted, atol=1e-4, rtol=0)
