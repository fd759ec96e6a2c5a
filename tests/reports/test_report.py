"""The page about a made-up run: self-contained, complete, safe, and there even when files are not."""

import ast
import base64
import io
import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ganshrink.reports
from ganshrink.metrics import METRICS as OFFERED
from ganshrink.reports import numbers, write_report
from ganshrink.reports.curves import smoothed
from ganshrink.reports.differences import difference
from ganshrink.reports.files import read_run
from ganshrink.reports.words import METRICS, explained, figure, in_a_sentence, in_words

Build = Callable[..., Path]
VOID = {"meta", "img", "link", "br", "hr", "input", "path", "use", "rect", "col"}


class Page(HTMLParser):
    """Tags with their attributes, the text, and whether every element is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self.open[-1:] == ["title"]:
            self.title = data

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


@pytest.fixture(scope="module")
def run(build_run: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_run(tmp_path_factory.mktemp("runs") / "first <run>")


@pytest.fixture(scope="module")
def source(run: Path) -> str:
    path = write_report(run)
    assert path == run / "report.html"
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(source: str) -> Page:
    return Page(source)


@pytest.mark.slow
def test_nothing_comes_from_outside(source: str, page: Page) -> None:
    assert page.open == []
    assert not re.search(r"https?://|//[a-z]|@import|url\((?!#)", re.sub(r"base64,[\w+/=]+", "", source))
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "base")
        assert tag != "script" or not attributes
        assert attributes.get("src", "data:").startswith(
            "data:image/png;base64,"[: len(attributes.get("src", "data:"))]
        )
        assert attributes.get("href", "#").startswith("#") and attributes.get("xlink:href", "#").startswith(
            "#"
        )


def test_the_verdict_and_the_numbers(page: Page) -> None:
    text = page.text
    verdict = (
        "10.1× fewer MACs, 9.9× fewer parameters, 4.1× faster in ONNX Runtime, and as good as its teacher"
    )
    assert verdict in page.title and "good: 10.1× fewer" in text
    assert "The budget macs=10% (3.62 G exact MACs) is met: 3.60 G." in text
    for number in (
        "36.24 G 36,242,644,992 3.60 G 3,601,227,008 10.1× fewer 3.60 G 3,601,227,008",  # exact, all three networks
        "43.49 G 43,490,402,304 4.26 G 4,255,108,096",
        "8.15 M 8,154,255 823 k 823,117",
        "3.30 MB",
        "p95 90.4 ms",
        "41.37 % 40.02 % −1.35 % worse 36.55 % 4.100 % 2.600 %",
        "17.42 dB 17.51 dB +0.09 dB better 17.10 dB 13.02 dB 9.800 dB",
        "61.77",
        "134.7 dB",
        "sha256 b8a52dc0",
        "3,000 steps, 3,000 images, 31 min 13 s",
        "the network's output up.7 (3)",
        'method = "cat"',
        "optim.betas [0.5, 0.999]",
    ):
        assert number in text, number


@pytest.mark.slow
def test_a_missed_budget_is_said(build_run: Build, tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run", rows=1)
    cost = json.loads((folder / "cost.json").read_text())
    cost["budget"]["resolved"]["macs"] = 3_601_227_007
    (folder / "cost.json").write_text(json.dumps(cost))
    assert "is not met: 3.60 G" in Page(write_report(folder).read_text()).text


def test_metrics_are_in_plain_words_with_their_names_on_hover(page: Page) -> None:
    hovers = {attributes["title"] for tag, attributes in page.tags if tag == "abbr"}
    assert {"psnr", "ssim", "fd_squeezenet", "miou"} <= hovers
    assert "psnr" not in page.text.split("How it was measured")[0] and in_words("my_own") == "my_own"
    assert "Likeness to the target, in structure" in page.text and "11.8 fps, p95 90.4 ms" in page.text
    assert figure("psnr", 14.7) == "14.70 dB" and figure("my_own", 0.5) == "0.500"
    assert (
        explained(f"<1> {in_a_sentence('ssim')} 0.5, my_own")
        == '&lt;1&gt; <abbr title="ssim">likeness in structure</abbr> 0.5, my_own'
    )


def test_every_metric_has_words_of_its_own() -> None:
    labels = [words.label for words in METRICS.values()]
    assert len(set(labels)) == len(labels) and not any("," in words.phrase for words in METRICS.values())
    assert set(METRICS) >= set(OFFERED)


def test_the_parts_of_the_page_are_in_order_and_the_navigation_leads_to_all(page: Page) -> None:
    order = [tag for tag, _ in page.tags if tag in ("h1", "nav", "main", "script")]
    assert order == ["h1", "nav", "main", "script"]
    links = {attributes["href"][1:] for tag, attributes in page.tags if tag == "a"}
    assert {attributes["id"] for tag, attributes in page.tags if tag == "h2"} <= links
    hero = [attributes.get("data-column") for tag, attributes in page.tags if tag == "img"][:3]
    assert hero == ["input", "student", "teacher"]
    cells = [attributes.get("data-column") for tag, attributes in page.tags if tag == "td"]
    assert {"input", "teacher", "student", "difference"} <= set(cells)  # what the window of a picture offers
    ranges = [attributes for tag, attributes in page.tags if tag == "input"]
    assert [one["type"] for one in ranges] == ["range"] and ranges[0]["aria-label"]


def test_a_difference_is_of_the_worst_channel_four_times_as_bright() -> None:
    def uri(*pixels: tuple[int, ...]) -> str:
        file = io.BytesIO()
        Image.fromarray(np.array([pixels], np.uint8)).save(file, format="PNG")
        return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"

    found = difference(uri((9, 9, 9), (0, 50, 0)), uri((9, 19, 4), (0, 200, 9)))
    assert found is not None
    assert np.asarray(Image.open(io.BytesIO(base64.b64decode(found.split(",")[1])))).tolist() == [[40, 255]]
    one = uri((9, 9, 9))
    assert difference(one, uri((9, 9, 9), (0, 0, 0))) is None and difference(one, None) is None


def test_names_are_escaped(source: str, page: Page) -> None:
    assert "street <front> & yard" in page.text and "street <front>" not in source
    assert "first <run>" in page.text and "<run>" not in source
    assert "'data.root=a & b'" in page.text


def test_pictures_have_words_and_tables_heads(page: Page) -> None:
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 3 + 4 * 5 and all(image["alt"] for image in images)
    assert sum(tag == "table" for tag, _ in page.tags) == sum(tag == "thead" for tag, _ in page.tags)
    assert all("scope" in attributes for tag, attributes in page.tags if tag == "th")


def test_ids_are_unique_and_point_somewhere(source: str, page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'(?:href="#|url\(#|aria-labelledby=")([\w-]+)', source))
    assert used and used <= set(ids)


def test_every_group_and_every_term_is_drawn(run: Path, page: Page) -> None:
    plan = json.loads((run / "plan.json").read_text())
    titles = [attributes.get("title") for tag, attributes in page.tags if tag == "th"]
    assert {group["name"] for group in plan["groups"]} <= set(titles)
    removed = sum(group["kept"] == 0 for group in plan["groups"])
    assert removed > 0 and f"{removed} branches are removed whole" in page.text
    assert sum(tag == "svg" for tag, _ in page.tags) == 8
    labels = [attributes["aria-label"] for _, attributes in page.tags if attributes.get("role") == "img"]
    assert len(labels) == 8 and labels[0].startswith("G_gan over 3,000 steps: from ")


@pytest.mark.slow
def test_a_missing_file_is_named_with_its_command(build_run: Build, tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run", rows=1)
    names = ("cost.json", "plan.json", "metrics.json", "latency.json", "parity.json", "env.json")
    for gone in names:
        (folder / gone).unlink()
    text = Page(write_report(folder).read_text()).text
    for gone in names:
        assert re.search(rf"{gone} is missing\. Make it with ganshrink \w+ (RECIPE run=)?DIR", text)


def test_one_file_is_enough(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text('method = "cat"')
    text = Page(write_report(tmp_path).read_text()).text
    assert text.count("is missing") >= 8 and 'method = "cat"' in text
    assert "the run is not finished" in text


@pytest.mark.parametrize(
    "content", ["{", "[]", "null", '{"rows": 3, "teacher": 4}', '{"student": {"miou": 3}}']
)
def test_broken_files_do_not_break_the_page(content: str, build_run: Build, tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run", rows=1)
    for path in list(folder.rglob("*.json*")):
        path.write_text(content)
    assert "Provenance" in Page(write_report(folder).read_text()).text


def stage_names(folder: Path) -> list[str]:
    """The stages that the page draws or lists, in its order."""
    return [stage.name for stage in read_run(folder).stages]


@pytest.mark.exhaustive
@pytest.mark.slow
def test_only_the_stages_of_the_result_are_shown(build_run: Build, tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run", rows=1)
    old, new = folder / "stages/distill", folder / "stages/narrow"
    shutil.copytree(old, new)
    assert stage_names(folder) == ["teacher", "search", "distill", "narrow"]  # all, where nothing says which
    made_of = [{"name": name, "path": f"stages/{name}", "key": "0"} for name in ("teacher", "narrow")]
    (folder / "stages.json").write_text(json.dumps(made_of))
    text = Page(write_report(folder).read_text()).text
    assert stage_names(folder) == ["teacher", "narrow"] and "narrow" in text and "distill" not in text


def test_a_stage_is_found_in_the_folder_above_and_where_it_was_put_aside(
    build_run: Build, tmp_path: Path
) -> None:
    folder = build_run(tmp_path / "run" / "AtoB", rows=1)
    key = "0123456789abcdef"
    (tmp_path / "run/stages").mkdir()
    (folder / "stages/teacher").rename(tmp_path / "run/stages/teacher")
    made_of = [
        {"name": "teacher", "path": "../stages/teacher", "key": key},
        {"name": "distill", "path": "stages/distill", "key": "fedcba9876543210"},
        {"name": "scratch", "path": "stages/scratch", "key": "fedcba9876543210"},  # deleted since
    ]
    (folder / "stages.json").write_text(json.dumps(made_of))
    assert stage_names(folder) == ["teacher", "distill"]
    assert read_run(folder).stages[0].events[0]["step"] == 10
    (tmp_path / "run/stages/teacher").rename(tmp_path / f"run/stages/teacher.{key[:8]}")
    (tmp_path / "run/stages/teacher").mkdir()  # another command's
    assert read_run(folder).stages[0].events[0]["step"] == 10


@pytest.mark.slow
def test_pictures_outside_samples_stay_outside(build_run: Build, tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run", rows=1)
    (tmp_path / "secret.png").write_bytes((folder / "samples" / "000_input.png").read_bytes())
    rows = {"rows": [{"name": "x", "student": "../../secret.png", "teacher": "no.png"}]}
    (folder / "samples" / "samples.json").write_text(json.dumps(rows))
    page = Page(write_report(folder).read_text())
    assert not any(tag == "img" for tag, _ in page.tags) and page.text.count("no picture") == 2


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "holiday.png").write_bytes(b"")
    with pytest.raises(ValueError, match="is no run directory"):
        write_report(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        write_report(tmp_path / "nowhere")
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.png"]


def test_the_room_imports_no_torch() -> None:
    for path in Path(ganshrink.reports.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] in ("torch", "onnx", "onnxruntime") for name in names), path


def test_smoothing_keeps_a_constant_and_follows_a_step() -> None:
    np.testing.assert_allclose(smoothed(np.full(100, 3.0)), 3.0)
    step = smoothed(np.repeat([0.0, 1.0], 200))
    assert step[199] == 0 and step[200] == pytest.approx(1 / 20, rel=1e-3) and step[-1] > 0.999


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [
        (numbers.quantity, 49_551_507_456, "49.55 G"),
        (numbers.quantity, 999_999_999, "1.00 G"),
        (numbers.quantity, 823_117, "823 k"),
        (numbers.quantity, 12, "12"),
        (numbers.times, 9.96, "10.0×"),
        (numbers.times, 120.2, "120×"),
        (numbers.times, 1.02, "1.02×"),
        (numbers.milliseconds, 253.4, "253 ms"),
        (numbers.milliseconds, 0.512, "0.51 ms"),
        (numbers.duration, 3599.7, "1 h"),
        (numbers.duration, 1873.4, "31 min 13 s"),
        (numbers.file_size, 3_410_000, "3.41 MB"),
        (numbers.score, -0.02131, "−0.0213"),
        (numbers.score, 12345.6, "12,346"),
    ],
)
def test_numbers_as_a_person_reads_them(function, value: float, text: str) -> None:
    assert function(value) == text
