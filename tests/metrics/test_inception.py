"""The Inception network of fid and kid: released structure, pools, preprocessing, weights files, both distances."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ganshrink.metrics import MetricsConfig, build, evaluate
from ganshrink.metrics.features import FeatureNetwork
from ganshrink.metrics.inception import (
    RELEASE,
    RELEASED_NAME,
    SHA256,
    BlockA,
    BlockB,
    BlockC,
    BlockD,
    BlockE,
    Inception,
    load_inception,
)
from ganshrink.metrics.weights import short_hash


def spread(shape: tuple[int, ...], salt: int) -> Tensor:
    """Numbers in [-1, 1) that look random and are the same on every machine and version: a hash of the index."""
    h = (torch.arange(torch.Size(shape).numel()) + salt * 7919) * 2654435761 % 2**32
    h = (h ^ (h >> 15)) * 2246822519 % 2**32
    h = (h ^ (h >> 13)) * 3266489917 % 2**32
    return (h.double() / 2**31 - 1).float().view(shape)


def pictures(n: int, height: int, width: int, *, salt: int = 99) -> Tensor:
    return ((spread((n, 3, height, width), salt) + 1) * 128).to(torch.uint8)


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """Weights under which activations neither vanish nor explode, and every norm does something."""
    found = Inception().state_dict()
    for salt, name in enumerate(sorted(found)):
        value = found[name]
        if name.endswith("conv.weight"):
            found[name] = spread(value.shape, salt) * (6 / value[0].numel()) ** 0.5
        elif name.endswith(("bn.weight", "running_var")):
            found[name] = 1 + spread(value.shape, salt) / 2
        elif not name.endswith("num_batches_tracked"):
            found[name] = spread(value.shape, salt) / 4
    return found


@pytest.fixture(scope="module")
def file(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A .pth in the container of the release, which is older than the zip files of today's torch.save."""
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(state, path, _use_new_zipfile_serialization=False)
    yield path
    path.unlink()  # 96 MB


@pytest.fixture(scope="module")
def network(file: Path) -> FeatureNetwork:
    return load_inception(file)


@pytest.mark.slow
def test_the_state_dict_is_the_released_one() -> None:
    """Structure of the release, taken from torch-fidelity 0.4.0, which loads it strictly."""
    state = Inception().state_dict()
    assert len(state) == 566
    assert sum(name.endswith("num_batches_tracked") for name in state) == 94
    assert sum(p.numel() for p in Inception().parameters()) == 23_850_960
    expected = {
        "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
        "Conv2d_4a_3x3.bn.running_var": (192,),
        "Mixed_5b.branch5x5_2.conv.weight": (64, 48, 5, 5),
        "Mixed_5d.branch_pool.conv.weight": (64, 288, 1, 1),
        "Mixed_6a.branch3x3.conv.weight": (384, 288, 3, 3),
        "Mixed_6b.branch7x7_2.conv.weight": (128, 128, 1, 7),
        "Mixed_6d.branch7x7dbl_2.conv.weight": (160, 160, 7, 1),
        "Mixed_6e.branch7x7dbl_5.bn.weight": (192,),
        "Mixed_7a.branch7x7x3_4.conv.weight": (192, 192, 3, 3),
        "Mixed_7b.branch3x3_2a.conv.weight": (384, 384, 1, 3),
        "Mixed_7c.branch3x3dbl_3b.conv.weight": (384, 384, 3, 1),
        "Mixed_7c.branch1x1.conv.weight": (320, 2048, 1, 1),
        "fc.weight": (1008, 2048),
        "fc.bias": (1008,),
    }
    assert {name: tuple(state[name].shape) for name in expected} == expected
    assert {m.eps for m in Inception().modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}


@pytest.mark.exhaustive
@pytest.mark.slow
def test_features_are_those_of_torch_fidelity(network: FeatureNetwork) -> None:
    """Pinned: what torch-fidelity 0.4.0's network gives for these weights and pytorch-fid's preprocessing.

    The first and the last channel of each of the six branches that end the network.
    """
    ends = [0, 319, 320, 703, 704, 1087, 1088, 1471, 1472, 1855, 1856, 2047]
    expected = [0.5389652, 0.0061603, 17.5852947, 0.0173232, 0.0, 0.1352815]
    expected += [7.2432022, 1.1836256, 1.0321127, 2.4192100, 0.0130332, 3.5824165]
    features = network.module(pictures(2, 40, 56))
    assert features.shape == (2, network.dim)
    torch.testing.assert_close(features[0, ends], torch.tensor(expected), atol=1e-3, rtol=1e-3)


def bilinear(size: int, out: int) -> Tensor:
    """(out, size) weights of resizing a line: each output looks at its two nearest inputs, no matter how many."""
    weights = torch.zeros(out, size, dtype=torch.float64)
    for i in range(out):
        at = max((i + 0.5) * size / out - 0.5, 0.0)
        low = int(at)
        weights[i, low] += 1 - (at - low)
        weights[i, min(low + 1, size - 1)] += at - low
    return weights


@pytest.mark.parametrize("size", [(5, 7), (640, 400)])
def test_preprocessing(size: tuple[int, int]) -> None:
    images = pictures(1, *size)
    rows, columns = (bilinear(side, 299) for side in size)
    expected = 2 * (rows @ (images.double() / 255) @ columns.T) - 1
    seen = Inception().preprocess(images).double()
    torch.testing.assert_close(seen, expected, atol=1e-3, rtol=0)  # torch's coordinates are float32


def windows(x: Tensor, row: int, column: int) -> Tensor:
    """What of x (C, H, W) a 3x3 window around a place covers, (C, n): less at the border."""
    rows, columns = slice(max(row - 1, 0), row + 2), slice(max(column - 1, 0), column + 2)
    return x[:, rows, columns].flatten(1)


@pytest.mark.parametrize(
    ("block", "inputs", "most"),
    [
        (BlockA(192, 32), 192, False),
        (BlockC(768, 128), 768, False),
        (Inception().Mixed_7b, 1280, False),
        (Inception().Mixed_7c, 2048, True),
    ],
    ids=["A", "C", "7b", "7c"],
)
def test_pool_branches_do_not_see_their_padding(
    block: BlockA | BlockC | BlockE, inputs: int, most: bool
) -> None:
    """Averages are over what is inside; the last block alone takes the maximum."""
    block.branch_pool = nn.Identity()  # type: ignore[assignment]
    x = spread((inputs, 4, 3), 1) - 2  # negative, so that a padding of zeros would be the maximum
    with torch.no_grad():
        pooled = block.eval()(x[None])[0, -inputs:]
    for row, column in itertools.product(range(4), range(3)):
        seen = windows(x, row, column)
        expected = seen.amax(dim=1) if most else seen.mean(dim=1)
        torch.testing.assert_close(pooled[:, row, column], expected)


@pytest.mark.parametrize(("block", "inputs"), [(BlockB(288), 288), (BlockD(768), 768)], ids=["B", "D"])
def test_shrinking_blocks_pass_the_maximum_on(block: BlockB | BlockD, inputs: int) -> None:
    x = spread((inputs, 7, 6), 2) - 2
    with torch.no_grad():
        passed = block.eval()(x[None])[0, -inputs:]
    assert passed.shape == (inputs, 3, 2)
    for row, column in itertools.product(range(3), range(2)):
        expected = windows(x, 2 * row + 1, 2 * column + 1).amax(dim=1)
        torch.testing.assert_close(passed[:, row, column], expected)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_both_kinds_of_files_give_the_same_network(
    network: FeatureNetwork, state: dict[str, Tensor], file: Path, tmp_path: Path
) -> None:
    other = tmp_path / "inception.safetensors"
    save_file({name: value for name, value in state.items() if "num_batches" not in name}, other)
    converted = load_inception(other)
    other_hash = short_hash(other)
    other.unlink()  # 96 MB
    assert (network.sha256, converted.sha256) == (short_hash(file), other_hash)
    for name, value in converted.module.state_dict().items():
        assert torch.equal(value, network.module.state_dict()[name]), name
    assert not network.module.training
    assert not any(p.requires_grad for p in network.module.parameters())


def test_weights_that_are_not_the_release_are_called_so(network: FeatureNetwork) -> None:
    assert "not the released file" in str(network.protocol()["network"])


def test_the_released_file() -> None:
    """Where somebody has it: it is what this module says it is, and it fits."""
    root = os.environ.get("GANSHRINK_WEIGHTS")
    if root is None or not (Path(root) / RELEASED_NAME).is_file():
        pytest.skip(f"there is no {RELEASED_NAME} in GANSHRINK_WEIGHTS")
    released = load_inception()
    assert (released.name, released.sha256) == ("inception-2015-12-05 pool3", SHA256[:12])


def hollow(**changed: tuple[int, ...]) -> dict[str, Tensor]:
    """Tensors of the right names and shapes that take no room in a file."""
    shapes = {name: tuple(value.shape) for name, value in Inception().state_dict().items()} | changed
    return {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}


@pytest.mark.exhaustive
@pytest.mark.slow
def test_torchvisions_network_is_refused_and_the_reason_given(tmp_path: Path) -> None:
    path = tmp_path / "inception_v3_google.pth"
    theirs = {"fc.weight": (1000, 2048), "fc.bias": (1000,), "AuxLogits.fc.weight": (1000, 768)}
    torch.save(hollow(**theirs), path)
    with pytest.raises(
        ValueError, match=r"first is AuxLogits.fc.weight\. fid and kid .*torchvision's"
    ) as caught:
        load_inception(path)
    assert "\n" not in str(caught.value)
    del theirs["AuxLogits.fc.weight"]
    torch.save(hollow(**theirs), path)
    with pytest.raises(
        ValueError, match=r"fc.weight is \(1000, 2048\), expected \(1008, 2048\)\. fid and kid .*torchvision"
    ):
        load_inception(path)


@pytest.mark.exhaustive
def test_files_that_are_no_state_dict_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(ValueError, match="damaged or holds more than tensors"):
        load_inception(path)
    torch.save(nn.Linear(2, 2), path)  # a pickled module is code
    with pytest.raises(ValueError, match="damaged or holds more than tensors"):
        load_inception(path)
    torch.save({"model": nn.Linear(2, 2).state_dict()}, path)
    with pytest.raises(ValueError, match="does not hold a state dict"):
        load_inception(path)
    torch.save(nn.Linear(2, 2).state_dict(), path)
    with pytest.raises(ValueError, match="472 tensors are missing"):
        load_inception(path)


@pytest.mark.parametrize("name", ["fid", "kid"])
def test_a_missing_file_says_where_it_comes_from(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GANSHRINK_WEIGHTS", str(tmp_path))
    with pytest.raises(FileNotFoundError) as caught:
        build(MetricsConfig(names=(name,)))
    message = str(caught.value)
    assert "\n" not in message
    for said in (str(tmp_path / RELEASED_NAME), RELEASE, SHA256, "ganshrink fetch inception"):
        assert said in message
    assert not list(tmp_path.iterdir())  # nothing is downloaded unasked


class Darker(nn.Module):
    """A generator that darkens."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 0.5


def naive_frechet(x: Tensor, y: Tensor) -> float:
    """|m - n|^2 + tr C + tr D - 2 tr (C D)^(1/2), the last as the sum of the singular values of x y^T, centred."""
    a, b = x - x.mean(dim=0), y - y.mean(dim=0)
    n = len(x) - 1
    cross = torch.linalg.svdvals(a @ b.T).sum() / n
    means = (x.mean(dim=0) - y.mean(dim=0)).square().sum()
    return (means + a.square().sum() / n + b.square().sum() / n - 2 * cross).item()


def naive_kid(x: Tensor, y: Tensor) -> float:
    """MMD^2 with the kernel of degree 3, gamma 1 / 2048, coefficient 1; matching pairs left out."""

    def kernel(p: Tensor, q: Tensor) -> float:
        return float((p @ q / 2048 + 1) ** 3)

    pairs = list(itertools.permutations(range(len(x)), 2))
    terms = (
        kernel(x[i], x[j]) + kernel(y[i], y[j]) - kernel(x[i], y[j]) - kernel(y[i], x[j]) for i, j in pairs
    )
    return sum(terms) / len(pairs)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_fid_and_kid_of_two_small_sets(file: Path) -> None:
    targets = pictures(3, 24, 32)
    images = targets.float() / 127.5 - 1
    metrics = build(MetricsConfig(names=("fid", "kid"), inception=file))
    passed: list[tuple[Tensor, Tensor]] = []
    metrics[0].network.module.register_forward_hook(  # type: ignore[attr-defined]
        lambda _, inputs, output: passed.append((inputs[0], output))
    )
    values = evaluate(Darker(), [{"input": part, "target": part} for part in images.split(2)], metrics)

    assert len(passed) == 4  # two batches, fakes and targets, each once for both metrics
    seen, features = (torch.cat(parts) for parts in zip(*passed, strict=True))
    darkened = ((images * 0.5 + 1) * 127.5).round().to(torch.uint8)
    assert torch.equal(seen, torch.cat([darkened[:2], targets[:2], darkened[2:], targets[2:]]))
    x, y = features[[0, 1, 4]].double(), features[[2, 3, 5]].double()
    assert values["fid"].value == pytest.approx(naive_frechet(x, y), rel=1e-6)
    assert values["kid"].value == pytest.approx(naive_kid(x, y), rel=1e-6)
    for name in ("fid", "kid"):
        protocol = values[name].protocol
        assert (protocol["images"], protocol["dimension"]) == (3, 2048)
        assert str(protocol["network"]).startswith("inception-2015-12-05 pool3")
        assert protocol["weights_sha256"] == short_hash(file)
        assert protocol["resize"] == "bilinear, not antialiased, to 299x299"
        assert values[name].better == "lower"
    assert values["fid"].protocol["rank"] == "rank-deficient"
    assert "100 subsets" in str(values["kid"].protocol["usual_kid"])
