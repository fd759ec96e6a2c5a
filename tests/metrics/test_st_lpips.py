"""ST-LPIPS: the release's own numbers where its weights are, a network of random weights elsewhere; and its files."""

import os
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ganshrink.metrics import MetricsConfig, build, evaluate
from ganshrink.metrics.st_lpips import ST_LPIPS_FILE, find_st_lpips, load_st_lpips


def waves(phase: float, side: int = 32) -> Tensor:
    """A picture (1, 3, side, side) in [-1, 1] that needs no random numbers."""
    y, x = torch.meshgrid(torch.arange(side) + 0.0, torch.arange(side) + 0.0, indexing="ij")
    return torch.stack([torch.sin(x * 0.7 + phase), torch.cos(y * 0.4 * phase), torch.sin((x + y) * 0.2)])[
        None
    ]


def test_it_is_a_mean_over_images_with_an_interval_and_small_pictures_are_refused(weights: Path) -> None:
    config = MetricsConfig(names=("st_lpips", "st_lpips_teacher"))
    images = torch.cat([waves(phase) for phase in (0.5, 1.0, 1.5)])
    batch = {"input": images, "target": images.flip(0)}
    found = evaluate(torch.nn.Identity(), [batch], build(config), teacher=torch.nn.Identity())
    network, sha256 = load_st_lpips(Path(ST_LPIPS_FILE))
    each = network(*(x.add(1).mul(127.5).round().div(127.5).sub(1) for x in (images, images.flip(0))))
    assert each[0] == pytest.approx(each[2].item(), rel=1e-5) and each[1] == 0 and each[0] > 1e-4
    assert found["st_lpips"].value == pytest.approx(each.mean().item(), rel=1e-5)
    assert found["st_lpips_teacher"].value == 0
    assert (found["st_lpips"].protocol["weights_sha256"], found["st_lpips"].better) == (sha256, "lower")
    with pytest.raises(ValueError, match=r"ST-LPIPS needs pictures of at least 24x24, got 32x16$"):
        network(images[..., :16, :], images[..., :16, :])
    assert network(images[..., :24, :24], images[..., 8:, 8:]).shape == (3,)


def test_the_installed_package_s_file_is_found_without_importing_it(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_st_lpips(Path(ST_LPIPS_FILE)) == weights / ST_LPIPS_FILE
    monkeypatch.setenv("GANSHRINK_WEIGHTS", str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError, match=re.escape('pip install "ganshrink[perceptual]"')):
        find_st_lpips(Path(ST_LPIPS_FILE))
    inside = tmp_path / "site/stlpips_pytorch/weights/alex_shift_tolerant.pth"
    inside.parent.mkdir(parents=True)
    inside.touch()
    (tmp_path / "site/stlpips_pytorch/__init__.py").write_text("raise RuntimeError('it was imported')")
    told = tmp_path / "site/stlpips_pytorch-0.0.2.dist-info"
    told.mkdir()
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: stlpips-pytorch\nVersion: 0.0.2\n")
    (told / "RECORD").write_text("stlpips_pytorch/weights/alex_shift_tolerant.pth,,\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert find_st_lpips(Path(ST_LPIPS_FILE)) == inside
    with pytest.raises(FileNotFoundError, match="no weights file .*mine.pth"):
        find_st_lpips(Path("mine.pth"))


@pytest.mark.skipif(
    not (Path(os.environ.get("GANSHRINK_WEIGHTS", "none")) / ST_LPIPS_FILE).is_file(),
    reason="needs the release's weights: set GANSHRINK_WEIGHTS",
)
def test_the_released_weights_give_the_release_s_numbers() -> None:
    """Pinned to what the release's own code says of these pictures."""
    network, _ = load_st_lpips(Path(ST_LPIPS_FILE))
    found = network(
        torch.cat([waves(0.5), waves(1.0), waves(0.5)]), torch.cat([waves(1.5), waves(1.1), waves(0.5)])
    )
    assert found.tolist() == pytest.approx([0.384224, 0.017286, 0], abs=1e-5)
    big = waves(0.5, side=65)
    shift, other = network(big[..., :-1, :-1], big[..., :-1, 1:]), network(big, waves(1.5, side=65))
    assert shift < 0.1 * other
