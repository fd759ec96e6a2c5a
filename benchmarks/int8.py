"""Float32 against INT8 in ONNX Runtime and OpenVINO, in one run: `python benchmarks/int8.py [ROUNDS]`.

ResNet-9 of full width with random weights on 256 x 256 images, INT8 by calibration on random smooth ones. Weights do not
change what integers gain; a shared machine does, so only ratios within a round count.
"""

import sys
import tempfile
from collections import Counter
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from ganshrink import nets
from ganshrink.exporters import export_int8, export_onnx
from ganshrink.exporters.runtime import has_openvino, load_optional
from ganshrink.latency import measure_latency
from ganshrink.quant import QuantConfig, calibrate, deploy

SIZE, IMAGES = 256, 4
RUNTIMES = ["onnxruntime", "openvino"] if has_openvino() else ["onnxruntime"]


def main(rounds: int) -> None:
    torch.manual_seed(0)
    network, images = generator(), pictures()
    config = QuantConfig(activations="observed", levels="code", per_channel=True)
    deployed, report = deploy(network, config, calibrate(network, config, images), images)
    with tempfile.TemporaryDirectory() as folder:
        files = {"float32": Path(folder, "float32.onnx"), "int8": Path(folder, "int8.onnx")}
        export_onnx(network, images[0], files["float32"])
        entry = export_int8(deployed, images[0], files["int8"], inputs=images)
        sizes = {name: file.stat().st_size for name, file in files.items()}
        print(f"file: {sizes['float32'] / 1e6:.1f} MB -> {sizes['int8'] / 1e6:.1f} MB")
        print(f"ONNX Runtime runs {computed(files['int8'], Path(folder))}")
        found = measure_latency(
            {"float32": network}, images[0], runtimes=RUNTIMES, rounds=rounds, seconds=600, onnx_files=files
        )
    for row in found["rows"]:
        if row["network"] == "int8":
            times = row["speedup"]
            psnr = entry["runtimes"][row["runtime"]]["psnr_db"]
            print(
                f"{row['runtime']:12} {times['ratio']:.2f} x faster than float32 (quartiles {times['q1']:.2f} to "
                f"{times['q3']:.2f}, {row['runs']} rounds, {row['threads']} threads); {psnr:.1f} dB from torch"
            )
    print(f"INT8 is {report['psnr_db']['deployed']:.1f} dB from float32, with random weights")


def generator() -> nn.Module:
    """Random weights, and blocks that add little to the trunk, as trained ones do: else rounding alone would fill the
    picture with noise, and no two runtimes agree on noise."""
    network = nets.build("resnet9", affine=True).eval()
    for block in network.get_submodule("blocks"):
        nn.init.constant_(block.body[-1].weight, 0.2)
    return network


def pictures() -> list[Tensor]:
    coarse = torch.rand(IMAGES, 1, 3, SIZE // 8, SIZE // 8) * 2 - 1
    return [nn.functional.interpolate(image, size=(SIZE, SIZE), mode="bilinear") for image in coarse]


def computed(file: Path, folder: Path) -> str:
    """The convolutions in the graph that ONNX Runtime makes of a file, by kind."""
    runtime = load_optional("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    kinds = Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)
    return ", ".join(f"{count} {kind}" for kind, count in kinds.items() if "Conv" in kind)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
