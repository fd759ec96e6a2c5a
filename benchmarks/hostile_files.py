"""Picture files that a user may meet and a decoder may trip over, each with what must come of it.

`CASES` is read by tests/data/test_hostile.py and by benchmarks/hostile.py.
"""

import os
import struct
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 12, 20
FINE = {"quality": 98, "subsampling": 0}  # a JPEG that can be compared


@dataclass(frozen=True)
class Case:
    """One file.

    Attributes:
        name: what is special.
        file: its name in the folder.
        write: makes it, given its path.
        rgb: the uint8 (H, W, 3) it must be read as, or words of the line that refuses it.
        ids: the class ids (H, W) it must be read as, or words of the line; None: not tried as a label map.
        tolerance: mean difference that a lossy format may have, in levels.
        slow: for the long form only.
    """

    name: str
    file: str
    write: Callable[[Path], object]
    rgb: np.ndarray | str
    ids: np.ndarray | str | None = None
    tolerance: float = 0
    slow: bool = False


def picture(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A slope in each channel: every turn, crop and exchange of channels shows."""
    rows, columns = np.mgrid[0:height, 0:width]
    planes = columns * 200 // max(width - 1, 1), rows * 200 // max(height - 1, 1), 90 + 0 * rows
    return np.stack(planes, -1).astype(np.uint8)


RGB = picture()
GREY = RGB[..., 0]
IDS = (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 12).astype(np.uint8)


def grey(levels: np.ndarray) -> np.ndarray:
    """Grey levels (H, W) as RGB."""
    return np.repeat(np.asarray(levels, np.uint8)[..., None], 3, -1)


def saved(pixels: np.ndarray | Image.Image, format: str, **options) -> Callable[[Path], object]:
    """Write with Pillow; the format is named, so that the suffix may lie."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(np.ascontiguousarray(pixels))
    return lambda path: image.save(path, format=format, **options)


def content(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


def changed(write: Callable[[Path], object], change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    """Write, then change the bytes."""

    def both(path: Path) -> None:
        write(path)
        path.write_bytes(change(path.read_bytes()))

    return both


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG by hand: the depths that Pillow does not write. `colour`: 0 grey, 2 RGB, 6 RGBA."""
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    framed = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def png_rows(rows: Iterable[bytes]) -> bytes:
    return b"".join(b"\0" + row for row in rows)


def tiff(width: int, height: int, bits: int, photometric: int, rows: bytes, *, kind: int = 1) -> bytes:
    """A one-strip TIFF by hand. `photometric`: 0 white is zero, 1 black is zero; `kind`: 1 unsigned, 2 signed."""
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 0}
    tags |= {277: 1, 278: height, 279: len(rows), 339: kind}
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0) + rows


def packed(levels: np.ndarray, bits: int) -> list[bytes]:
    """Rows of levels (H, W), 1 to 8 bits each."""
    spread = np.unpackbits(levels.astype(np.uint8)[..., None], axis=-1)[..., 8 - bits :]
    return [np.packbits(row.reshape(-1)).tobytes() for row in spread]


def stored(upright: np.ndarray, turn: int) -> np.ndarray:
    """What a camera held that way writes, by the EXIF standard's definition of rows and columns."""
    swapped = upright.swapaxes(0, 1)
    return {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: swapped,
        6: swapped[::-1],
        7: swapped[::-1, ::-1],
        8: swapped[:, ::-1],
    }[turn]


def turned(format: str, suffix: str, *, slow: bool, tolerance: float = 0) -> list[Case]:
    """All eight orientations; where ids can be stored, as a label map too."""
    cases = []
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        write = saved(stored(RGB, turn), format, exif=exif)
        cases.append(
            Case(
                f"{format} turned {turn}",
                f"turned{turn}.{suffix}",
                write,
                RGB,
                tolerance=tolerance,
                slow=slow,
            )
        )
        if not tolerance:
            write = saved(stored(IDS, turn), format, exif=exif)
            name, file = f"{format} ids turned {turn}", f"ids-turned{turn}.{suffix}"
            cases.append(Case(name, file, write, grey(IDS), IDS, slow=slow))
    return cases


def _contents() -> list[Case]:
    jpeg = saved(RGB, "JPEG", **FINE)
    half = lambda data: data[: len(data) // 2]  # noqa: E731
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    colour, broken, still = "is a colour picture", "not an image in a known format", "frames or pages"
    return [
        Case("empty", "empty.png", content(b""), "the file is empty", "the file is empty"),
        Case("text named .jpg", "text.jpg", content(b"this is no picture\n" * 9), broken),
        Case("HTML named .png", "html.png", content(b"<!doctype html><p>404"), broken),
        Case("program (EPS) named .jpg", "program.jpg", content(eps), broken),
        Case("SVG named .png", "drawing.png", content(b'<svg xmlns="http://www.w3.org/2000/svg"/>'), broken),
        Case("PNG named .jpg", "liar.jpg", saved(RGB, "PNG"), RGB, colour),
        Case("JPEG named .png", "liar.png", jpeg, RGB, "JPEG blurs", tolerance=4),
        Case("cut JPEG", "cut.jpg", changed(jpeg, half), "cut.jpg"),
        Case("cut PNG", "cut.png", changed(saved(RGB, "PNG"), half), "cut.png"),
        Case("cut GIF", "cut.gif", changed(saved(GREY, "GIF"), half), "cut.gif"),
        Case("cut TIFF", "cut.tif", changed(saved(RGB, "TIFF"), half), "cut.tif"),
        Case("cut BMP", "cut.bmp", changed(saved(RGB, "BMP"), half), "cut.bmp"),
        Case("cut WebP", "cut.webp", changed(saved(RGB, "WEBP"), half), "cut.webp"),
        Case("cut PPM", "cut.ppm", changed(saved(RGB, "PPM"), half), "truncated"),
        Case("PNG, pixels changed", "flipped.png", changed(saved(RGB, "PNG"), _flip_pixel_data), "broken PNG"),
        Case("film (GIF)", "film.gif", _film("GIF"), still, still),
        Case("film (PNG)", "film.png", _film("PNG"), still, still),
        Case("film (WebP)", "film.webp", _film("WEBP"), still),
        Case("book (TIFF)", "book.tif", _film("TIFF"), still, still),
        Case("one frame (GIF)", "still.gif", saved(GREY, "GIF"), grey(GREY), "renumber"),
        Case("second view (MPO)", "views.jpg", _film("MPO", **FINE), RGB, tolerance=4),
        Case("PNG of 0 x 5", "zero.png", content(png(0, 5, 8, 2, b"\0")), broken),
        Case("PNG says 60000 x 60000", "bomb.png", content(png(60000, 60000, 8, 2, b"\0")), "over the limit"),
        Case("PNG says 10000 x 9000", "bomb2.png", content(png(10000, 9000, 8, 2, b"\0")), "over the limit"),
        Case("PNG says 9000 x 9000", "hollow.png", content(png(9000, 9000, 1, 0, b"\0")), "hollow.png"),
        Case("9000 x 9000", "big.png", _big, np.broadcast_to(np.uint8(255), (9000, 9000, 3)), slow=True),
        Case("1 x 1", "dot.png", saved(picture(1, 1), "PNG"), picture(1, 1)),
        Case("1 x 300", "line.png", saved(picture(1, 300), "PNG"), picture(1, 300)),
        Case("300 x 1", "column.png", saved(picture(300, 1), "PNG"), picture(300, 1)),
        Case("1 x 60000", "thread.png", saved(picture(1, 60000), "PNG"), picture(1, 60000), slow=True),
        Case("broken EXIF", "exif.png", saved(RGB, "PNG", exif=b"Exif\0\0no header at all"), RGB),
        Case("EXIF thumbnail", "thumbnail.jpg", _with_thumbnail, RGB, tolerance=4),
        Case("ICC profile, ignored", "profile.png", saved(RGB, "PNG", icc_profile=b"\0" * 200), RGB),
    ]  # fmt: skip


def _film(format: str, **options) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        first, second = Image.fromarray(RGB), Image.fromarray(RGB[::-1].copy())
        first.save(path, format=format, save_all=True, append_images=[second], **options)

    return write


def _big(path: Path) -> None:
    Image.new("1", (9000, 9000), 1).save(path)


def _flip_pixel_data(data: bytes) -> bytes:
    """A changed byte that inflates all the same: only the checksum tells."""
    at = data.index(b"IDAT") + 4
    size = struct.unpack(">I", data[at - 8 : at - 4])[0]
    rows = bytearray(zlib.decompress(data[at : at + size]))
    rows[len(rows) // 2] ^= 1
    body = zlib.compress(bytes(rows))
    return data[: at - 8] + struct.pack(">I", len(body)) + b"IDAT" + body + data[at + size :]


def _with_thumbnail(path: Path) -> None:
    Image.fromarray(RGB).save(path, "JPEG", **FINE)
    small = path.read_bytes()
    ifd0 = struct.pack("<H", 0) + struct.pack("<I", 14)
    ifd1 = struct.pack("<HHHIIHHIII", 2, 513, 4, 1, 44, 514, 4, 1, len(small), 0)
    exif = b"Exif\0\0II*\0" + struct.pack("<I", 8) + ifd0 + ifd1 + small
    path.write_bytes(small[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + small[2:])


def _kinds() -> list[Case]:
    """Every way to store a pixel."""
    deep = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) * 65535 // (HEIGHT * WIDTH - 1)
    shallow = np.round(deep / 257).astype(np.uint8)
    deep16 = deep.astype(np.uint16)
    wide = png(WIDTH, HEIGHT, 16, 2, png_rows(row.tobytes() for row in RGB.astype(">u2") * 257))
    two, four = (png(WIDTH, HEIGHT, bits, 0, png_rows(packed(IDS % 2**bits, bits))) for bits in (2, 4))
    key = png(2, 1, 16, 0, b"\0\0\0\1\x2c", (b"tRNS", b"\1\x2c"))
    pgm = b"P5 %d %d 65535\n" % (WIDTH, HEIGHT) + deep.astype(">u2").tobytes()
    half = np.where(np.arange(WIDTH) < WIDTH // 2, 0, 255).astype(np.uint8)
    alpha = np.broadcast_to(half, (HEIGHT, WIDTH))
    on_white, grey_on_white = (np.where(alpha[..., None] == 0, 255, pixels) for pixels in (RGB, grey(GREY)))
    colours = np.random.default_rng(0).integers(0, 256, 768, np.uint8)
    palette = Image.fromarray(IDS)
    palette.putpalette(colours.tobytes())
    looked_up = colours.reshape(256, 3)[IDS]
    hole, holes = (np.where(gone[..., None], 255, looked_up) for gone in (IDS == 3, IDS < 6))
    ids16 = IDS.astype(np.uint16) * 1000
    big = np.uint16(IDS) + 300
    ink = Image.new("CMYK", (WIDTH, HEIGHT), (0, 255, 255, 0))
    red = np.broadcast_to(np.uint8([255, 0, 0]), RGB.shape)
    plain = "not plain class ids"
    return [
        Case("grey", "grey.png", saved(GREY, "PNG"), grey(GREY), GREY),
        Case("1 bit", "bit.png", saved(Image.fromarray(IDS > 5), "PNG"), grey((IDS > 5) * 255), IDS > 5),
        Case("2-bit grey", "two.png", content(two), grey(IDS % 4 * 85), IDS % 4),
        Case("4-bit grey", "four.png", content(four), grey(IDS * 17), IDS),
        Case("16-bit grey PNG", "deep.png", saved(deep16, "PNG"), grey(shallow), deep16),
        Case("16-bit grey TIFF", "deep.tif", saved(deep16, "TIFF"), grey(shallow), deep16),
        Case("16-bit grey, big-endian", "deep2.tif", saved(deep.astype(">u2"), "TIFF"), grey(shallow), deep16),
        Case("16-bit grey PGM", "deep.pgm", content(pgm), grey(shallow), deep16),
        Case("12-bit grey TIFF", "twelve.tif", content(tiff(2, 1, 12, 1, b"\xff\xf8\x00")), grey([[255, 128]]), plain),
        Case("white is zero", "white.tif", content(tiff(3, 1, 8, 0, b"\0\1\xff")), grey([[255, 254, 0]]), plain),
        Case("white is zero, 16-bit", "white2.tif", content(tiff(2, 1, 16, 0, b"\0\0\xff\xff")), grey([[255, 0]]), plain),
        Case("signed 16-bit", "signed.tif", content(tiff(2, 1, 16, 1, struct.pack("<2h", -5, 9), kind=2)), "from -5 to 9"),
        Case("32-bit integers", "int.tif", saved(deep.astype(np.int32), "TIFF"), grey(shallow), deep16),
        Case("32-bit integers over 16", "int2.tif", saved(deep.astype(np.int32) + 9, "TIFF"), "from 9 to 65544", deep + 9),
        Case("32-bit float", "float.tif", saved(RGB[..., 0].astype(np.float32), "TIFF"), "and white is 1", "floating-point"),
        Case("PGM up to 11", "eleven.pgm", content(b"P5 3 1 11\n\x00\x05\x0b"), grey([[0, 116, 255]]), plain),
        Case("16-bit RGB PNG", "wide.png", content(wide), RGB, "is a colour picture"),
        Case("RGBA", "alpha.png", saved(np.dstack([RGB, alpha]), "PNG"), on_white, "is a colour picture"),
        Case("RGBA WebP", "alpha.webp", saved(np.dstack([RGB, alpha]), "WEBP", lossless=True), on_white),
        Case("grey with alpha", "la.png", saved(np.dstack([GREY, alpha]), "PNG"), grey_on_white, "with alpha"),
        Case("16-bit grey, transparent level", "key.png", content(key), grey([[0, 255]])),
        Case("palette", "palette.png", saved(palette, "PNG"), looked_up, IDS),
        Case("palette, transparent entry", "hole.png", saved(palette, "PNG", transparency=3), hole, IDS),
        Case("palette, alpha per entry", "holes.png", saved(palette, "PNG", transparency=b"\0" * 6), holes, IDS),
        Case("palette BMP", "palette.bmp", saved(palette, "BMP"), looked_up, IDS),
        Case("16-bit ids", "ids16.png", saved(ids16, "PNG"), grey(np.round(ids16 / 257)), ids16),
        Case("ids over 255", "ids300.png", saved(big, "PNG"), grey(np.round(big / 257)), big),
        Case("RGB ids", "rgb-ids.png", saved(np.stack([IDS] * 3, -1), "PNG"), grey(IDS), "is a colour picture"),
        Case("JPEG ids", "ids.jpg", saved(IDS, "JPEG", **FINE), grey(IDS), "JPEG blurs", tolerance=4),
        Case("JPEG in a TIFF", "ids.tif", saved(IDS, "TIFF", compression="jpeg"), grey(IDS), "JPEG blurs", tolerance=4),
        Case("CMYK JPEG (Adobe, inverted)", "ink.jpg", saved(ink, "JPEG", **FINE), red, tolerance=4),
        Case("CMYK TIFF", "ink.tif", saved(ink, "TIFF"), red),
        Case("progressive JPEG", "steps.jpg", saved(RGB, "JPEG", progressive=True, **FINE), RGB, tolerance=4),
    ]  # fmt: skip


def _names() -> list[Case]:
    """A sound picture under names that trip programs over."""
    names = {
        "uppercase suffix": "UPPER.PNG",
        "spaces": "  two  spaces .png",
        "newline": "two\nlines.png",
        "tab and escape": "tab\tred\x1b[31m.png",
        "composed": "caf\u00e9.png",
        "decomposed": "cafe\u0301 2.png",
        "right to left": "\u202egnp.exe.png",
        "emoji": "\U0001f468\u200d\U0001f469\u200d\U0001f467.png",
        "leading dash": "-rf.png",
        "quotes": 'it\'s "quoted" `ls`.png',
        "braces": "{split} {0} {{.png",
        "percent": "100%s %(x)d %.png",
        "dollar and star": "$HOME * ? [a-z] ~.png",
        "backslash": "a\\b.png",
        "two dots": "a..b.tar.png",
        "HTML": "<img src=x onerror=alert(1)>&amp;.png",
        "markup": "[red]bold[blink] #1.png",
        "255 bytes": "x" * 251 + ".png",
        "255 bytes of umlauts": "\u00fc" * 125 + "x.png",
        "no UTF-8": os.fsdecode(b"latin \xfcml\xe4ut.png"),
    }
    return [Case(f"name: {name}", file, saved(RGB, "PNG"), RGB) for name, file in names.items()]


def _nodes() -> list[Case]:
    """What is no file."""
    missing = "a link to a file that is not there"
    return [
        Case("folder named .png", "folder.png", lambda path: path.mkdir(), "it is a folder"),
        Case("broken link", "broken.png", lambda path: path.symlink_to("nowhere.png"), missing, missing),
        Case("link to itself", "loop.png", lambda path: path.symlink_to(path.name), "symbolic link"),
        Case("named pipe", "pipe.png", lambda path: os.mkfifo(path), "it is a pipe", "it is a pipe"),
        Case(
            "link to a device", "zero-device.png", lambda path: path.symlink_to("/dev/zero"), "it is a pipe"
        ),
        Case("link to a picture", "link.png", _link_to_picture, RGB),
        Case("unreadable", "secret.png", _unreadable, "Permission denied", slow=os.geteuid() == 0),
    ]


def _link_to_picture(path: Path) -> None:
    (path.parent / "elsewhere").mkdir()
    saved(RGB, "PNG")(path.parent / "elsewhere" / "target")
    path.symlink_to(Path("elsewhere") / "target")


def _unreadable(path: Path) -> None:
    saved(RGB, "PNG")(path)
    path.chmod(0)


CASES = [
    *_contents(),
    *_kinds(),
    *turned("PNG", "png", slow=False),
    *turned("TIFF", "tif", slow=False),
    *turned("JPEG", "jpg", slow=True, tolerance=4),
    *turned("WEBP", "webp", slow=True, tolerance=6),
    *_names(),
    *_nodes(),
]
