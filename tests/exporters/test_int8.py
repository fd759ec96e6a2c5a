"""Files in integers: that they are, that runtimes compute in integers, and that they compute what torch does."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from ganshrink import nets
from ganshrink.exporters import export_int8, open_session
from ganshrink.exporters.graph import capture, prepare, write
from ganshrink.exporters.int8 import check_integers, suit_runtimes
from ganshrink.exporters.integers import dequantize, quantize
from ganshrink.exporters.network import OnnxGenerator
from ganshrink.exporters.runtime import has_openvino, open_openvino
from ganshrink.quant import QuantConfig, calibrate, deploy

pytestmark = pytest.mark.slow

CALIBRATED = QuantConfig(activations="observed", levels="code", per_channel=True)


def pictures(count: int, size: int = 32) -> list[Tensor]:
    torch.manual_seed(1)
    coarse = torch.rand(count, 1, 3, size // 8, size // 8) * 2 - 1
    return [nn.functional.interpolate(image, size=(size, size), mode="bilinear") for image in coarse]


def deployed(net: nn.Module, config: QuantConfig = CALIBRATED) -> nn.Module:
    images = pictures(4)
    return deploy(net.eval(), config, calibrate(net, config, images), images)[0]


def small() -> nn.Module:
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 8, 3, 2, 1),
        nn.ReLU(),
        nn.ReflectionPad2d(1),
        nn.Conv2d(8, 8, 3),
        nn.InstanceNorm2d(8),
    ]
    return nn.Sequential(*layers, nn.ReLU(), nn.ConvTranspose2d(8, 3, 4, 2, 1), nn.Tanh())


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return deployed(nets.build("resnet9", ngf=8, blocks=1))


@pytest.fixture(scope="module")
def written(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file, not compared with torch: what it is made of is the same on every machine."""
    path = tmp_path_factory.mktemp("written") / "net.onnx"
    graph, encode, given = prepare(network, pictures(1)[0], None, False)
    write(capture(graph, encode, given, True, False)[0], path, rewrite=suit_runtimes)
    return path


@pytest.fixture(scope="module")
def exported(
    network: nn.Module, exact_integers: None, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict]:
    path = tmp_path_factory.mktemp("int8") / "net.onnx"
    return path, export_int8(network, pictures(1)[0], path, inputs=pictures(34))


def test_weights_are_bytes_in_the_file(network: nn.Module, written: Path) -> None:
    model = onnx.load(written)
    kinds = {i.name: i.data_type for i in model.graph.initializer}
    int8 = [i for i in model.graph.initializer if i.data_type == onnx.TensorProto.INT8 and len(i.dims) == 4]
    convs = [m for m in network.modules() if hasattr(m, "round_output")]
    assert len(int8) == len(convs) == 8
    assert kinds["down.4.bias.values"] == onnx.TensorProto.INT32
    assert all(len(i.dims) < 4 for i in model.graph.initializer if i.data_type == onnx.TensorProto.FLOAT)
    used = Counter(node.op_type for node in model.graph.node)
    assert used["QuantizeLinear"] == 7 + 5  # of every input but the stem's, of every output but three


def test_onnx_runtime_computes_in_integers(written: Path, tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(written), options, providers=["CPUExecutionProvider"])
    used = Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)
    assert used["QLinearConv"] == 5
    assert (
        used["Conv"] == 1 and used["ConvTranspose"] == 2
    )  # the stem, and what it has no integer operator for


def test_mirrored_padding_moves_bytes(written: Path) -> None:
    graph = onnx.load(written).graph
    makers = {name: node.op_type for node in graph.node for name in node.output}
    pads = [makers.get(node.input[0]) for node in graph.node if node.op_type == "Pad"]
    assert sorted(map(str, pads)) == ["None"] + 3 * ["QuantizeLinear"]  # the picture's own is in float


BETWEEN: dict[str, Callable[[Tensor], Tensor]] = {
    "Relu": nn.functional.relu,
    "LeakyRelu": nn.functional.leaky_relu,
    "Sigmoid": torch.sigmoid,
    "Softmax": lambda x: x.softmax(1),
    "Add": lambda x: x + x.flip(1),
    "Mul": lambda x: x * x.flip(1),
    "Concat": lambda x: torch.cat([x[:, :4], x[:, :4]], 1),
    "Where": lambda x: torch.where(x > 0, x, 0.1 * x),
    "AveragePool": lambda x: nn.functional.avg_pool2d(x, 2),
    "MaxPool": lambda x: nn.functional.max_pool2d(x, 2),
    "GlobalAveragePool": lambda x: nn.functional.adaptive_avg_pool2d(x, 1).expand_as(x),
    "MatMul": lambda x: x @ x.transpose(2, 3) / 8,
    "Transpose": lambda x: x.transpose(2, 3),
    "Transpose, LeakyRelu": lambda x: nn.functional.leaky_relu(x.transpose(2, 3)),
    "Sigmoid, Transpose": lambda x: torch.sigmoid(x).transpose(2, 3),
    "LeakyRelu, MaxPool": lambda x: nn.functional.max_pool2d(nn.functional.leaky_relu(x), 2),
    "Transpose, Concat, Slice": lambda x: torch.cat([x, x.transpose(2, 3)], 1)[:, 4:12],
}


@pytest.mark.parametrize("name", BETWEEN)
def test_runtimes_take_what_stands_between_two_integer_convolutions(name: str, tmp_path: Path) -> None:
    """ONNX Runtime fuses some of these into integer operators, which have one scale for all channels."""

    class Between(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.third = (nn.Conv2d(n, 8, 3, padding=1) for n in (3, 8, 8))
            self.last = nn.Conv2d(8, 3, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            x = BETWEEN[name](self.second(self.first(x)))
            return self.last(self.third(x))

    torch.manual_seed(0)
    # seven bits, so that no processor's sums overflow
    network = deployed(Between(), CALIBRATED.model_copy(update={"weight_bits": 7}))
    entry = export_int8(network, pictures(1)[0], tmp_path / "net.onnx", inputs=pictures(4))
    assert entry["psnr_db"] > 90


def test_the_entry_says_what_was_compared(exported: tuple[Path, dict]) -> None:
    path, entry = exported
    assert entry["bytes"] == path.stat().st_size
    assert entry["images"] == 34 and entry["psnr_db"] >= 40 and entry["worst_psnr_db"] <= entry["psnr_db"]
    assert entry["runtimes"]["onnxruntime"]["version"] == onnxruntime.__version__
    assert ("openvino" in entry["runtimes"]) == has_openvino()


def test_rounding_is_that_of_onnx_runtime_to_the_last_bit(tmp_path: Path) -> None:
    class Rounded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("scale", torch.tensor(0.037))
            self.register_buffer("scales", torch.rand(3) + 0.01)
            self.register_buffer("zero", torch.tensor(91, dtype=torch.uint8))
            self.register_buffer("zeros", torch.tensor([0, 128, 255], dtype=torch.uint8))

        def forward(self, x: Tensor) -> Tensor:
            levels = quantize(x * 9, self.scale, self.zero)
            of_channel = dequantize(levels, self.scales, self.zeros, axis=1)
            return dequantize(levels, self.scale, self.zero) + of_channel

    torch.manual_seed(0)
    network = Rounded().eval()
    x = torch.cat(
        [
            torch.rand(1, 3, 64, 64) * 2 - 1,
            (torch.arange(3 * 64 * 64) % 512 - 256).reshape(1, 3, 64, 64) / 18 * 0.037,
        ]
    )
    graph, encode, given = prepare(network, x[:1], None, False)
    write(capture(graph, encode, given, True, False)[0], tmp_path / "rounded.onnx")
    [found] = open_session(tmp_path / "rounded.onnx").run(None, {"input": x.numpy()})
    assert torch.equal(torch.from_numpy(found), network(x))
    assert len(network(x).unique()) > 256


def psnr(a: Tensor, b: Tensor) -> float:
    return float(10 * torch.log10(4 / (a - b).square().mean()))


def test_any_batch_in_every_runtime(network: nn.Module, exported: tuple[Path, dict]) -> None:
    path, _ = exported
    batch = torch.cat(pictures(3))
    with torch.no_grad():
        wanted = network(batch)
    [made] = open_session(path, threads=1).run(None, {"input": batch.numpy()})
    assert psnr(torch.from_numpy(made), wanted) > 40
    if has_openvino():
        [made] = open_openvino(path, threads=1).infer({0: batch.numpy()}).values()
        assert psnr(torch.tensor(made), wanted) > 35


@pytest.mark.exhaustive
@pytest.mark.parametrize("image_io", [pytest.param(None, marks=pytest.mark.exhaustive), "uint8"])
def test_the_file_as_a_network(image_io: str | None, tmp_path: Path) -> None:
    network, path = deployed(small()), tmp_path / "net.onnx"
    example = pictures(1)[0]
    entry = export_int8(network, example, path, inputs=pictures(2), image_io=image_io, dynamic_size=True)
    assert entry["image_io"] == image_io and entry["images"] == 2
    oblong = torch.cat([example, example.flip(3)], 3)
    with torch.no_grad():
        assert psnr(OnnxGenerator(path, image_io=image_io)(oblong), network(oblong)) > 38


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "config",
    [
        QuantConfig(),
        pytest.param(
            QuantConfig(activations="observed", weight_bits=4, activation_bits=5),
            marks=pytest.mark.exhaustive,
        ),
    ],
    ids=["paper", "few bits"],
)
def test_other_grids(config: QuantConfig, tmp_path: Path) -> None:
    entry = export_int8(deployed(small(), config), pictures(1)[0], tmp_path / "net.onnx", inputs=pictures(4))
    assert entry["psnr_db"] >= 40


@pytest.mark.exhaustive
def test_a_network_in_float_is_no_int8_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing in the network is in integers"):
        export_int8(small(), pictures(1)[0], tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


def test_a_file_without_its_roundings_is_refused(network: nn.Module, written: Path, tmp_path: Path) -> None:
    graph, encode, given = prepare(network, pictures(1)[0], None, False)
    program = capture(graph, encode, given, True, False)[0]
    check_integers(program, written)
    model = onnx.load(written)
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            node.op_type = "Identity"
    onnx.save(model, tmp_path / "float.onnx")
    with pytest.raises(
        ValueError, match="the file is not in integers: it has no QuantizeLinear, and 12 belong there"
    ):
        check_integers(program, tmp_path / "float.onnx")


class TwoReaders(nn.Module):
    """Two convolutions of one tensor, and one that is called twice: their roundings and constants are merged."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = (nn.Conv2d(n, 8, 3, padding=1) for n in (3, 8, 8))
        self.twice, self.out = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = self.a(x) + self.b(x)
        return self.out(self.twice(torch.relu(self.twice(x))))


@pytest.mark.parametrize("kind", ["two readers", "incres9", "gaugan", "stem alone"])
def test_equal_roundings_are_merged_and_a_stem_alone_is_a_file(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    built: dict[str, Callable[[], nn.Module]] = {
        "two readers": TwoReaders,
        "incres9": lambda: nets.build("incres9", ngf=8, blocks=1),
        "gaugan": lambda: nets.build(
            "gaugan", in_channels=3, ngf=4, hidden=8, doublings=5, height=32, width=32, spectral=False
        ),
        "stem alone": lambda: nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Tanh()),
    }
    network = deployed(built[kind](), CALIBRATED.model_copy(update={"weight_bits": 7}))
    graph, encode, given = prepare(network, pictures(1)[0], None, False)
    program = capture(graph, encode, given, True, False)[0]
    write(program, tmp_path / "net.onnx", rewrite=suit_runtimes)
    check_integers(program, tmp_path / "net.onnx")
    open_session(tmp_path / "net.onnx")


def test_without_images_random_ones_are_compared(tmp_path: Path) -> None:
    entry = export_int8(deployed(small()), pictures(1)[0], tmp_path / "net.onnx")
    assert entry["images"] == 0 and entry["psnr_db"] >= 40


class Shifted(nn.Module):
    """Runs one way when exported and another when called."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) + (0.1 if torch.compiler.is_compiling() else 0.0)


def test_a_file_that_computes_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"differs from torch in ONNX Runtime: 2\d\.\d dB on 2 images"
    ) as caught:
        export_int8(Shifted(deployed(small())), pictures(1)[0], tmp_path / "net.onnx", inputs=pictures(2))
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == []
