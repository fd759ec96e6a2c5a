"""A student at work on pictures of any size, and of any channels."""

import io
import logging

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from onnx.numpy_helper import from_array
from PIL import Image
from torch import nn

from ganshrink import nets
from ganshrink.data import DataConfig, InputSpec, open_dataset, read_image
from ganshrink.exporters.note import FileNote
from ganshrink.exporters.sizes import Sizes
from ganshrink.reports.files import RunFiles
from ganshrink.reports.usage import usage
from ganshrink.system.values import ValueRange, Values, converting
from ganshrink.workflow.piped import predict_piped
from ganshrink.workflow.predict import parse_size, predict
from ganshrink.workflow.saved_networks import NetworkSpec, save_network


def saved(path, network, channels=3, white=None, size=(32, 32)):
    spec = NetworkSpec(
        net=None,
        example=[[1, channels, *size]],
        input=InputSpec(channels=channels, size=size, white=white),
    )
    save_network(path / "student.safetensors", network.eval(), spec)
    return path / "student.safetensors"


def photo(path, height, width):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path / "wide.png")
    return path / "wide.png"


UNIT = ValueRange(range=(0, 1))


class FixedSize(nn.Module):
    """A generator with a weight for each place, as attention with positions has it."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(3, 32, 32))

    def forward(self, x):
        return torch.tanh(x * self.weight)


@pytest.mark.parametrize(
    ("network", "height", "width", "made"),
    [
        (nets.build("resnet6", ngf=4, blocks=1), 108, 192, (192, 108)),
        (nets.build("resnet6", ngf=4, blocks=1), 53, 37, (37, 53)),  # neither side a multiple of 4
        (nets.build("unet128", ngf=2), 100, 150, (150, 100)),  # sides are multiples of 128 inside
        (nn.Sequential(nn.Conv2d(3, 12, 3, 1, 1), nn.PixelShuffle(2), nn.Tanh()), 30, 50, (100, 60)),
        (nn.Sequential(nn.Conv2d(3, 3, 4, 2, 1), nn.Tanh()), 31, 50, (25, 16)),
    ],
    ids=["resnet", "odd", "unet", "twice as large", "half as large"],
)
def test_a_picture_keeps_its_size(tmp_path, network, height, width, made):
    size = (128, 128) if "U" in type(network).__name__ else (32, 32)
    file = saved(tmp_path, network, size=size)
    predict(file, photo(tmp_path, height, width), tmp_path / "out.png", original=network)
    assert read_image(tmp_path / "out.png").size == made


def test_what_is_filled_up_does_not_move_the_picture(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    network = nn.Sequential(nn.Conv2d(3, 3, 1))
    with torch.no_grad():
        network[0].weight.copy_(torch.eye(3)[..., None, None])
        network[0].bias.zero_()

    class Even(nn.Sequential):
        def forward(self, x):
            if x.shape[2] % 16 or x.shape[3] % 16:
                raise ValueError("sides must be multiples of 16")
            return super().forward(x)

    even = Even(*network)
    predict(saved(tmp_path, even), photo(tmp_path, 21, 43), tmp_path / "out.png", original=even)
    assert np.array_equal(
        np.asarray(Image.open(tmp_path / "out.png")), np.asarray(Image.open(tmp_path / "wide.png"))
    )
    assert "filled up at the right and below to multiples of 16 pixels, and cropped again" in caplog.text


def test_a_student_of_one_size_alone_says_so(tmp_path, caplog):
    network = FixedSize()
    predict(saved(tmp_path, network), photo(tmp_path, 108, 192), tmp_path / "out.png", original=network)
    assert read_image(tmp_path / "out.png").size == (32, 32)
    assert "pictures of 192x108 are resized to 32x32, at which the student was trained" in caplog.text


def test_a_size_that_is_asked_for(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    network = nets.build("resnet6", ngf=4, blocks=1)
    file, picture = saved(tmp_path, network), photo(tmp_path, 40, 60)
    for size, made in ((parse_size("16x24"), (24, 16)), (parse_size("trained"), (32, 32)), (None, (60, 40))):
        predict(file, picture, tmp_path / "out.png", original=network, size=size)
        assert read_image(tmp_path / "out.png").size == made
    for text in ("256", "0x8", "ax8", "1x2x3"):
        with pytest.raises(ValueError, match=f"--size {text}: write HEIGHTxWIDTH"):
            parse_size(text)
    assert not caplog.records


@pytest.mark.parametrize(("channels", "out"), [(1, 1), (1, 2), (3, 4), (13, 3)])
def test_pictures_of_other_channels(tmp_path, channels, out):
    network = nn.Sequential(nn.Conv2d(channels, out, 3, 1, 1), nn.Tanh())
    file = saved(tmp_path, network, channels)
    (tmp_path / "in").mkdir()
    values = np.random.default_rng(0).random((20, 24, channels)).astype(np.float32)
    np.save(tmp_path / "in" / "a.npy", values)
    [written] = predict(file, tmp_path / "in", tmp_path / "out", original=network)
    suffix = ".npy" if out == 2 else ".png"
    assert written.name == f"a{suffix}"
    found = np.load(written) if out == 2 else np.asarray(Image.open(written)) / 255
    with torch.no_grad():
        expected = network(torch.from_numpy(values).movedim(-1, 0)[None] * 2 - 1)[0].movedim(0, -1).numpy()
    np.testing.assert_allclose(found.reshape(20, 24, out), expected / 2 + 0.5, atol=1 / 255)
    if out == 2:
        with pytest.raises(ValueError, match="images of its channels are no PNG; name a .npy file"):
            predict(file, tmp_path / "in" / "a.npy", tmp_path / "b.png", original=network)


def test_a_deep_picture_is_read_and_written_as_its_data_were(tmp_path):
    network = nn.Sequential(nn.Conv2d(1, 1, 1))
    with torch.no_grad():
        network[0].weight.fill_(1)
        network[0].bias.zero_()
    levels = np.linspace(0, 4095, 1024).reshape(32, 32).astype(np.uint16)
    Image.fromarray(levels).save(tmp_path / "ct.png")
    data = DataConfig(name="photos", photos=str(tmp_path), size=32, in_channels=1, white=4095)
    assert len(open_dataset(data)) == 1
    file = saved(tmp_path, network, 1, white=4095)
    predict(file, tmp_path / "ct.png", tmp_path / "out.png", original=network)
    assert np.abs(np.asarray(Image.open(tmp_path / "out.png")).astype(int) - levels).max() <= 1


def conv(channels, out, kernel=3, stride=1):
    return nn.Conv2d(channels, out, kernel, stride, kernel // 2)


LOCAL = {
    "convolutions": nn.Sequential(conv(3, 4), nn.ReLU(), nn.ReflectionPad2d(1), nn.Conv2d(4, 3, 3)),
    "strides": nn.Sequential(
        conv(3, 4, stride=2), nn.BatchNorm2d(4), conv(4, 4, stride=2), nn.Upsample(scale_factor=4), conv(4, 3)
    ),
    "twice as large": nn.Sequential(conv(3, 12, 5), nn.PixelShuffle(2)),
    "half as large": nn.Sequential(conv(3, 8), nn.AvgPool2d(2), conv(8, 3)),
}


@pytest.mark.parametrize("network", LOCAL.values(), ids=LOCAL)
def test_tiles_join_to_what_the_whole_makes(tmp_path, network, caplog):
    caplog.set_level(logging.INFO)
    file, picture = saved(tmp_path, network), photo(tmp_path, 90, 151)
    whole, tiled = (
        np.load(predict(file, picture, tmp_path / f"{tile}.npy", original=network, tile=tile)[0])
        for tile in (None, 48)
    )
    np.testing.assert_allclose(tiled, whole, atol=0.05 / 255)
    assert "of 255 levels from the whole" in caplog.text and "tiles of 4" in caplog.text


class Placed(nn.Module):
    """What it makes depends on where a pixel stands."""

    def forward(self, x):
        return x * torch.linspace(0, 1, x.shape[-1])


NOT_LOCAL = {
    "norms over the image": (
        nn.Sequential(conv(3, 4), nn.InstanceNorm2d(4), conv(4, 3)),
        r"by 1 \(InstanceNorm2d\)",
    ),
    "group norm": (nn.Sequential(conv(3, 4), nn.GroupNorm(2, 4), conv(4, 3)), r"by 1 \(GroupNorm\)"),
    "places": (Placed(), "depends on where in the picture it stands"),
    "too far": (nn.Sequential(conv(3, 3, 41)), "--tile 32 is too small: this student looks 20 pixels far"),
    "sides of 64": (nets.build("unet128", ngf=2), "does not run on tiles of 32 pixels"),
}


@pytest.mark.parametrize(("network", "message"), NOT_LOCAL.values(), ids=NOT_LOCAL)
def test_a_student_that_looks_further_than_a_tile_says_so(tmp_path, network, message):
    side = 128 if "sides" in message or "does not" in message else 32
    file = saved(tmp_path, network, size=(side, side))
    with pytest.raises(ValueError, match=message):
        predict(file, photo(tmp_path, 40, 90), tmp_path / "out.png", original=network, tile=32)


def onnx_file(path, nodes, initializers, note, sides):
    """A graph of one input and one output as this package exports them."""
    kind = TensorProto.UINT8 if note.image_io else TensorProto.FLOAT
    ends = [make_tensor_value_info(name, kind, ["batch", 3, *sides]) for name in ("input", "image")]
    graph = make_graph(nodes, "student", ends[:1], ends[1:], initializers)
    model = make_model(graph, ir_version=10, opset_imports=[make_opsetid("", 18)])
    onnx.helper.set_model_props(model, note.about())
    onnx.save(model, path)


@pytest.mark.slow
def test_an_exported_file_is_a_student_of_its_own(tmp_path, caplog, monkeypatch):
    network = nn.Sequential(conv(3, 3), nn.Sigmoid())
    weights = [from_array(t.detach().numpy().copy(), name) for name, t in network[0].named_parameters()]
    network = converting(network, Values(input=UNIT, output=UNIT)).eval()
    file, picture = saved(tmp_path, network), photo(tmp_path, 23, 37)
    [wanted] = predict(file, picture, tmp_path / "torch.npy", original=network)
    nodes = [
        make_node("Conv", ["input", "weight", "bias"], ["made"], pads=[1, 1, 1, 1]),
        make_node("Sigmoid", ["made"], ["image"]),
    ]
    spec, values = InputSpec(channels=3, size=(32, 32)), Values(input=UNIT, output=UNIT)
    note = FileNote(input=spec, values=values, sizes=Sizes(1, 1))
    onnx_file(tmp_path / "student.onnx", nodes, weights, note, ["height", "width"])
    note = FileNote(input=spec, image_io="uint8")
    onnx_file(
        tmp_path / "student-bytes.onnx", [make_node("Identity", ["input"], ["image"])], [], note, [32, 32]
    )
    for runtime in ("onnxruntime", "openvino"):
        for source in (tmp_path, tmp_path / "student.onnx"):
            [found] = predict(source, picture, tmp_path / f"{runtime}.npy", runtime=runtime)
            np.testing.assert_allclose(np.load(found), np.load(wanted), atol=1e-4)
    [found] = predict(tmp_path / "student-bytes.onnx", picture, tmp_path / "bytes.npy")
    assert np.load(found).shape == (32, 32, 3) and "resized to 32x32" in caplog.text
    Image.open(picture).save(tmp_path / "photo.jpg", quality=95)
    monkeypatch.chdir(tmp_path)
    parity = {
        "student.onnx": {"input_values": "[0, 1]", "output_values": "[0, 1]", "size_multiple": 1},
        "student-bytes.onnx": {"input_values": "0..255 uint8", "output_values": "0..255 uint8"},
    }
    run = RunFiles(tmp_path, "run", {"parity.json": parity, "cost.json": {"input": [3, 32, 32]}}, "", [])
    for file in usage(run):  # what the report says of each
        assert file["command"].startswith("ganshrink predict")
        exec(file["code"])
        [found] = predict(file["file"], "photo.jpg", "predicted.png")
        ours, theirs = (np.asarray(Image.open(path), int) for path in ("out.png", found))
        if file["file"] == "student.onnx":  # whoever resizes, resizes otherwise
            assert abs(ours - theirs).max() <= 1
        assert ours.shape == theirs.shape
    for student, runtime, message in (
        ("student.onnx", "torch", "runs in onnxruntime or openvino; torch runs student.safetensors"),
        ("student.safetensors", "openvino", "holds weights, which torch runs"),
        ("student.safetensors", "tensorrt", "--runtime tensorrt: write torch, onnxruntime or openvino"),
        ("wide.png", "onnxruntime", "for another runtime name an exported .onnx file"),
    ):
        with pytest.raises(ValueError, match=message):
            predict(tmp_path / student, picture, tmp_path / "x.png", runtime=runtime)


def test_sources_of_every_kind_and_pictures_of_every_format(tmp_path):
    network = nn.Sequential(conv(3, 3))
    file, picture = saved(tmp_path, network), photo(tmp_path, 20, 30)
    (tmp_path / "more").mkdir()
    for name in ("a.png", "b.png"):
        Image.open(picture).save(tmp_path / "more" / name)
    sources = [picture, str(tmp_path / "m*" / "[ab].png")]
    for format, kind, suffix in (("png", "PNG", "png"), ("jpg", "JPEG", "jpg"), ("webp", "WEBP", "webp")):
        written = predict(
            file, sources, tmp_path / format, original=network, format=format, side_by_side=True
        )
        assert [path.name for path in written] == [f"{name}.{suffix}" for name in ("wide", "a", "b")]
        with Image.open(written[0]) as made:
            assert (made.format, made.size) == (kind, (60, 20))
            left = np.asarray(made.convert("RGB"), int)[:, :30]
        assert format != "png" or np.array_equal(left, np.asarray(Image.open(picture)))
    with pytest.raises(ValueError, match="x.webp: pictures are written as PNG"):
        predict(file, picture, tmp_path / "x.webp", original=network, format="png")
    with pytest.raises(ValueError, match="pictures of 4 channels are written as PNG"):
        four = nn.Sequential(conv(3, 4))
        predict(saved(tmp_path, four), picture, tmp_path, original=four, format="jpg")


@pytest.mark.parametrize(
    ("channels", "sources", "options", "message"),
    [
        (3, "photo.png", {"tile": 0}, "--tile 0: a number of pixels, such as 512"),
        (
            3,
            "photo.png",
            {"count": 3},
            "--count, --seed and --truncation are for students that take latent vectors",
        ),
        (3, [], {}, "there is no picture to run the student on"),
        (3, "photo.png", {"format": "gif"}, "--format gif: write png, jpg"),
        (5, "photo.png", {"side_by_side": True}, "--side-by-side: images of 5 channels are no pictures"),
    ],
)
def test_what_predict_is_not_for_is_refused(tmp_path, channels, sources, options, message):
    network = nn.Sequential(conv(3, channels))
    with pytest.raises(ValueError, match=message):
        predict(saved(tmp_path, network), sources, tmp_path / "out", original=network, **options)


class Hungry(nn.Module):
    def forward(self, x):
        if x.shape[-1] > 32:
            raise RuntimeError("can't allocate memory: you tried to allocate 99999999999 bytes")
        return x


@pytest.mark.parametrize(
    ("network", "size", "message"),
    [
        (
            Hungry(),
            None,
            "there is not enough memory for 40x40 pixels at once: run them in tiles, --tile 1024",
        ),
        (FixedSize(), (40, 40), r"does not run at 40x40 \(.*\): leave --size out, or take --size trained"),
    ],
)
def test_a_size_that_a_student_cannot_take_is_told_with_a_way_out(tmp_path, network, size, message):
    file = saved(tmp_path, network, size=(32, 32))
    with pytest.raises(ValueError, match=message):
        predict(file, photo(tmp_path, 40, 40), tmp_path / "out.png", original=network, size=size)


def test_a_picture_of_four_channels_stands_beside_its_source(tmp_path):
    network = nn.Sequential(nn.Conv2d(3, 4, 1))
    file, source = saved(tmp_path, network), photo(tmp_path, 8, 8)
    [made] = predict(file, source, tmp_path / "out.png", original=network, side_by_side=True)
    with Image.open(made) as picture, Image.open(source) as given:
        left, beside = np.asarray(picture)[:, :8], np.asarray(given.convert("RGB"))
    assert picture.mode == "RGBA" and np.array_equal(left[..., :3], beside) and (left[..., 3] == 255).all()


@pytest.mark.formats
@pytest.mark.parametrize("name", ["out.webm", "out.mp4"])
def test_a_film_is_a_row_of_pictures(tmp_path, name):
    av = pytest.importorskip("av")
    network = nn.Sequential(nn.Conv2d(3, 3, 1))
    with torch.no_grad():
        network[0].weight.copy_(-torch.eye(3)[..., None, None])  # the negative
        network[0].bias.zero_()
    file, levels = saved(tmp_path, network), [40, 120, 200]
    with av.open(str(tmp_path / "in.mkv"), "w") as film:
        stream = film.add_stream("libvpx-vp9", rate=10)
        stream.height, stream.width, stream.pix_fmt = 36, 48, "yuv420p"
        for place, level in enumerate(levels):
            frame = av.VideoFrame.from_ndarray(np.full((36, 48, 3), level, np.uint8), format="rgb24")
            frame.pts = 2 * place  # every other one is missing
            film.mux(stream.encode(frame))
        film.mux(stream.encode())
    for beside, width in ((False, 48), (True, 96)):
        target = tmp_path / f"{beside}-{name}"
        assert predict(file, tmp_path / "in.mkv", target, original=network, side_by_side=beside) == [target]
        with av.open(str(target)) as film:
            frames = list(film.decode(video=0))
        assert [round(float(frame.time), 2) for frame in frames] == [0.0, 0.2, 0.4]
        pictures = [frame.to_ndarray(format="rgb24").astype(int) for frame in frames]
        assert pictures[0].shape == (36, width, 3)
        for picture, level in zip(pictures, levels, strict=True):
            assert abs(picture[:, -40:] - (255 - level)).max() < 8
            assert not beside or abs(picture[:, :40] - level).max() < 8
    with pytest.raises(ValueError, match="films are written as WEBM, MKV, MP4, MOV; name a .webm file"):
        predict(file, tmp_path / "in.mkv", tmp_path / "out.png", original=network)
    (tmp_path / "broken.mp4").write_bytes(b"no film")
    with pytest.raises(ValueError, match=r"cannot use film .*broken\.mp4"):
        predict(file, tmp_path / "broken.mp4", tmp_path / "x.webm", original=network)
    assert not (tmp_path / "x.webm").exists()


@pytest.mark.formats
@pytest.mark.parametrize(
    ("codec", "name", "kept"),
    [
        ("libopus", "out.webm", "opus"),
        ("aac", "out.webm", "opus"),
        ("aac", "out.mp4", "aac"),
        ("pcm_s16le", "out.mp4", "aac"),
        ("pcm_s16le", "out.mkv", "pcm_s16le"),
    ],
)
def test_a_film_keeps_its_sound(tmp_path, codec, name, kept):
    av = pytest.importorskip("av")
    network = nn.Sequential(nn.Conv2d(3, 3, 1))
    file = saved(tmp_path, network)
    with av.open(str(tmp_path / "in.mkv"), "w") as film:
        picture, sound = (
            film.add_stream("libvpx-vp9", rate=10),
            film.add_stream(codec, rate=48000, layout="stereo"),
        )
        picture.height, picture.width, picture.pix_fmt = 36, 48, "yuv420p"
        wave = (np.sin(np.arange(48000) * 2 * np.pi * 440 / 48000) * 12000).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(np.repeat(wave, 2)[None], format="s16", layout="stereo")
        frame.rate, frame.pts = 48000, 0
        resampler = av.AudioResampler(
            format=sound.format,
            layout="stereo",
            rate=48000,
            frame_size=sound.codec_context.frame_size or 1024,
        )
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            film.mux(sound.encode(part))
        film.mux(sound.encode())
        for place in range(10):
            still = av.VideoFrame.from_ndarray(np.full((36, 48, 3), 90, np.uint8), format="rgb24")
            still.pts = place
            film.mux(picture.encode(still))
        film.mux(picture.encode())
    predict(file, tmp_path / "in.mkv", tmp_path / name, original=network)
    with av.open(str(tmp_path / name)) as film:
        assert film.streams.audio[0].codec_context.name == kept
        heard = np.concatenate([part.to_ndarray().reshape(-1) for part in film.decode(audio=0)])
    assert 0.9 * 96000 < len(heard) < 1.1 * 96000
    with av.open(str(tmp_path / name)) as film:
        assert len(list(film.decode(video=0))) == 10


def test_one_picture_goes_through_a_pipe(tmp_path):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 3, 1))
    file, picture = saved(tmp_path, network), photo(tmp_path, 20, 30)
    given, out = io.BytesIO(picture.read_bytes()), io.BytesIO()
    assert predict_piped(file, ["-"], "-", given=given, out=out, original=network, format="webp") == []
    with Image.open(io.BytesIO(out.getvalue())) as made:
        assert (made.format, made.size) == ("WEBP", (30, 20))
    [written] = predict_piped(
        file, ["-"], tmp_path / "out.png", given=io.BytesIO(picture.read_bytes()), out=out, original=network
    )
    predict(file, picture, tmp_path / "same.png", original=network)
    assert written.read_bytes() == (tmp_path / "same.png").read_bytes()
    with pytest.raises(ValueError, match="cannot use image -: "):
        predict_piped(file, ["-"], "-", given=io.BytesIO(), out=out, original=network)
    with pytest.raises(ValueError, match="- stands for one picture: name one"):
        predict_piped(file, [str(picture), "-"], "-", given=given, out=out, original=network)
    with pytest.raises(ValueError, match="- stands for one picture, and .* is a folder"):
        predict_piped(file, [str(tmp_path)], "-", given=given, out=out, original=network)
