"""A segmenter that sees at the size the generators are compared at: trained here on CamVid's real photos.

    GANSHRINK_DATA=... GANSHRINK_WEIGHTS=... python benchmarks/judge.py [--size 64] [--folder runs/judge]

At 64 x 64 the published judge (`espnet-camvid`, trained at 480 x 360) is nearly blind: it finds little of what real photos
show. This one is ours, no published network. It is trained on `train` photos shrunk to that size, the epoch with the best
mIoU on `val` is kept, and both judges' mIoU of the real `test` photos, the ceiling of any generator, is measured once, at
the end. FOLDER/camvid64.onnx is for `metrics.segmenter`, FOLDER/camvid64.json says how it came about. One thread, seed 0:
the same numbers each time. Goes on where it was stopped.
"""

import argparse
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganshrink.data import DataConfig, open_dataset
from ganshrink.metrics import MetricsConfig, build
from ganshrink.metrics.iou import MeanIoU, Segmenter, resized_ids
from ganshrink.metrics.value import Pictures, to_uint8
from ganshrink.system.atomic import replacing, write_json

CLASSES, VOID = 11, 11
EVERY = 3  # epochs between two looks at `val`
RAW = 256  # the side of photos and label maps in the files; miou is scored at it


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=64, help="the side of the pictures, a multiple of 16")
    parser.add_argument("--folder", type=Path, default=Path("runs/judge"))
    parser.add_argument("--width", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=45)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--balance", type=float, default=0.5, help="0: every pixel alike, 1: every class")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def conv(inside: int, outside: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution, BatchNorm, ReLU."""
    layer = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outside), nn.ReLU())


class Judge(nn.Module):
    """RGB (N, 3, H, W) in 0..255, sides multiples of 16, to class scores (N, 11, H, W): a U-Net that begins and ends at half
    the size with three halvings, since a convolution costs most at the full size."""

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width, 4 * width]
        self.first = conv(4 * 3, width)
        self.down, self.side, self.up = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for outer, inner in zip(widths, widths[1:], strict=False):
            self.down.append(nn.Sequential(conv(outer, inner, 2), conv(inner, inner)))
            self.side.insert(0, nn.Conv2d(inner, outer, 1))
            self.up.insert(0, conv(outer, outer))
        self.last = nn.Conv2d(width, 4 * CLASSES, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        levels = [self.first(F.pixel_unshuffle(pictures.float() / 127.5 - 1, 2))]
        for down in self.down:
            levels.append(down(levels[-1]))
        x = levels.pop()
        for side, up in zip(self.side, self.up, strict=True):
            x = up(F.interpolate(side(x), scale_factor=2.0) + levels.pop())
        return F.pixel_shuffle(self.last(x), 2)


def split_of(name: str, size: int) -> tuple[Tensor, Tensor]:
    """Photos uint8 (N, 3, size, size), shrunk as the training of a generator shrinks them, and labels (N, 256, 256)."""
    config = DataConfig(
        name="labelled", photos="camvid/{split}", labels="camvid/{split}annot", size=size, label_size=RAW,
        num_classes=CLASSES + 1, void=VOID,
    )  # fmt: skip
    images = open_dataset(config, name)
    samples = [images.sample(index, None) for index in range(len(images))]
    photos = torch.stack([to_uint8(sample["target"]) for sample in samples])
    return photos, torch.stack([sample["labels"] for sample in samples]).to(torch.uint8)


def augmented(photos: Tensor, labels: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Random parts, mirrored or not, of whole photos (N, 3, 256, 256), at `size`, in 0..255; their labels too.

    Half of them are blurred, noisy or of other colours, as generated pictures are: these are to be judged as well.
    """
    made, seen = [], []
    for photo, label in zip(photos.float(), labels, strict=True):
        height, width = (int(RAW * side) for side in 1 - 0.45 * torch.rand(2) ** 1.5)
        top, left = (int(torch.randint(RAW - side + 1, ())) for side in (height, width))
        photo, label = (one[..., top : top + height, left : left + width] for one in (photo, label))
        if torch.rand(()) < 0.5:
            photo, label = photo.flip(-1), label.flip(-1)
        made.append(F.interpolate(photo[None], size=(size, size), mode="bicubic", antialias=True))
        seen.append(F.interpolate(label[None, None].float(), size=(size, size), mode="nearest-exact"))
    x, few = torch.cat(made), (len(photos), 1, 1, 1)
    colour = (
        1 + 0.2 * torch.randn(few) + 0.08 * torch.randn(len(photos), 3, 1, 1)
    )  # contrast, and of each channel
    tinted = (x - 128) * colour.clamp(0.3, 2) + 128 + 20 * torch.randn(few)
    x = torch.where(torch.rand(few) < 0.7, tinted, x)
    sigma = 0.3 + 1.2 * torch.rand(few)
    kernel = torch.exp(-((torch.arange(-3, 4.0) / sigma) ** 2) / 2)
    kernel = kernel / kernel.sum(-1, keepdim=True)  # (N, 1, 1, 7)
    kernel = kernel.repeat_interleave(3, 0)
    flat = F.pad(x, (3, 3, 3, 3), mode="replicate").reshape(1, -1, size + 6, size + 6)
    flat = F.conv2d(F.conv2d(flat, kernel, groups=3 * len(x)), kernel.transpose(2, 3), groups=3 * len(x))
    x = torch.where(torch.rand(few) < 0.4, flat.reshape(x.shape), x)
    noise = 12 * torch.rand(few) * torch.randn(x.shape)
    x = torch.where(torch.rand(few) < 0.4, x + noise, x)
    return x.round().clamp(0, 255), torch.cat(seen)[:, 0].long()


def class_weights(labels: Tensor, balance: float) -> Tensor:
    """(Median frequency / frequency) ** balance of each class (Eigen & Fergus 2015, at 1)."""
    counts = torch.bincount(labels.flatten().long(), minlength=CLASSES + 1)[:CLASSES].double()
    return (counts.median() / counts).pow(balance).float()


def miou(metric: MeanIoU, photos: Tensor, labels: Tensor) -> float:
    """The mIoU of real photos in percent, as a run measures that of generated ones."""
    metric.reset()
    with torch.no_grad():
        for some, ids in zip(photos.split(16), labels.split(16), strict=True):
            metric.update(Pictures(fake=some, labels=ids.long()))
    return metric.compute().value


def judged_by(network: nn.Module, split: str) -> MeanIoU:
    def predict(pictures: Tensor, size: tuple[int, int]) -> Tensor:
        return resized_ids(network(pictures), size)

    return MeanIoU(
        Segmenter("ours", predict, CLASSES + 1, "scores bilinear to the label size", ""), split=split
    )


def train(given: argparse.Namespace, checkpoint: Path) -> dict[str, Any]:
    """The state after the last epoch: "best" has the weights, epoch and mIoU chosen on `val`."""
    torch.manual_seed(given.seed)
    network = Judge(given.width).to(memory_format=torch.channels_last)  # a third faster
    optimizer = torch.optim.AdamW(network.parameters(), given.lr, weight_decay=1e-2)
    (photos, labels), val = split_of("train", RAW), split_of("val", given.size)
    weights, batches = class_weights(labels, given.balance), math.ceil(len(photos) / given.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, given.lr, given.epochs * batches, pct_start=0.1, anneal_strategy="cos"
    )
    settings = {name: value for name, value in vars(given).items() if name != "folder"}
    parts = {"network": network, "optimizer": optimizer, "schedule": schedule}
    state: dict[str, Any] = {"settings": settings, "epoch": 0, "curve": {}, "best": {"miou": -1.0}}
    if checkpoint.is_file() and (found := torch.load(checkpoint))["settings"] == settings:
        state = found
        for name, part in parts.items():
            part.load_state_dict(state[name])
    for epoch in range(state["epoch"], given.epochs):
        torch.manual_seed(1000 * given.seed + epoch)  # so that a stopped training goes on alike
        network.train()
        total = 0.0
        for chosen in torch.randperm(len(photos)).split(given.batch):
            x, ids = augmented(photos[chosen], labels[chosen], given.size)
            x = x.contiguous(memory_format=torch.channels_last)
            loss = F.cross_entropy(network(x), ids, weights, ignore_index=VOID)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() / batches
        said = f"epoch {epoch + 1}/{given.epochs}: loss {total:.3f}"
        if (given.epochs - 1 - epoch) % EVERY == 0:
            value = miou(judged_by(network.eval(), "val"), *val)
            state["curve"][epoch + 1] = round(value, 2)
            said += f", val mIoU {value:.2f}"
            if value > state["best"]["miou"]:
                kept = {name: tensor.clone() for name, tensor in network.state_dict().items()}
                state["best"] = {"miou": value, "epoch": epoch + 1, "weights": kept}
        print(said, flush=True)
        state["epoch"] = epoch + 1
        state |= {name: part.state_dict() for name, part in parts.items()}
        with replacing(checkpoint) as part:
            torch.save(state, part)
    return state


def main() -> None:
    given = arguments()
    torch.set_num_threads(1)
    name = f"camvid{given.size}"
    state = train(given, given.folder / f"{name}.pt")
    network = Judge(given.width).eval()
    network.load_state_dict(state["best"]["weights"])
    file = given.folder / f"{name}.onnx"
    example = torch.zeros(1, 3, given.size, given.size, dtype=torch.uint8)
    with replacing(file) as part:
        torch.onnx.export(network, (example,), part, dynamo=True, external_data=False, verbose=False)
    ceilings = {}
    for split in ("val", "test"):
        photos = split_of(split, given.size)
        for judge in (str(file.absolute()), "espnet-camvid"):
            [metric] = build(MetricsConfig(names=("miou",), segmenter=judge), split=split)
            assert isinstance(metric, MeanIoU)
            value = miou(metric, *photos)
            ceilings[f"{Path(judge).name} {split}"] = round(value, 2)
            print(f"real {split} photos at {given.size} px, by {Path(judge).name}: mIoU {value:.2f}")
    weights = b"".join(tensor.numpy().tobytes() for tensor in state["best"]["weights"].values())
    report = {
        **state["settings"], "torch": torch.__version__, "label_size": RAW, "best_epoch": state["best"]["epoch"],
        "miou_of_real_photos": ceilings, "val_curve": state["curve"],
        "weights_sha256": hashlib.sha256(weights).hexdigest(), "onnx_sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
    }  # fmt: skip
    write_json(file.with_suffix(".json"), report)
    print(json.dumps({key: report[key] for key in ("best_epoch", "weights_sha256")}))


if __name__ == "__main__":
    main()
