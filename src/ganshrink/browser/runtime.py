"""onnxruntime-web, one version of it, from npm into a cache: it is large, and not ours to ship."""

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from ganshrink.system.atomic import replacing
from ganshrink.system.spelling import LONGEST

VERSION = "1.30.0"
PACKAGE = f"onnxruntime-web@{VERSION}"
ARCHIVE = f"onnxruntime-web-{VERSION}.tgz"
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
WASM = ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
WEBGPU = (
    "ort.webgpu.min.js",
    "ort-wasm-simd-threaded.asyncify.mjs",
    "ort-wasm-simd-threaded.asyncify.wasm",
)


def cache_folder() -> Path:
    """`GANSHRINK_CACHE`, or the user's own cache."""
    if named := os.environ.get("GANSHRINK_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ganshrink"


def runtime_files() -> dict[str, Path]:
    """The files of onnxruntime-web that a page needs, by name; fetched once by npm.

    Raises:
        FileNotFoundError: npm is not installed.
        ConnectionError: npm does not get the package.
        ValueError: another package came.
    """
    folder = cache_folder() / f"onnxruntime-web-{VERSION}"
    files = {name: folder / name for name in (*WASM, *WEBGPU)}
    if all(file.is_file() for file in files.values()):
        return files
    with tempfile.TemporaryDirectory() as temporary:
        archive = _fetched(Path(temporary))
        if base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode() != SHA512:
            raise ValueError(
                f"npm gave another {PACKAGE} than the one that was tried here: nothing of it is kept"
            )
        with tarfile.open(archive) as package:
            for name, file in files.items():
                content = package.extractfile(f"package/dist/{name}")
                assert content is not None
                with replacing(file) as part, part.open("wb") as written:
                    shutil.copyfileobj(content, written)
    return files


def _fetched(folder: Path) -> Path:
    npm = shutil.which("npm")
    way_out = f"or unpack the files of its dist/ into {cache_folder() / f'onnxruntime-web-{VERSION}'}"
    if npm is None:
        raise FileNotFoundError(f"the page needs {PACKAGE}, which npm fetches: install npm, {way_out}")
    command = [npm, "pack", PACKAGE, "--pack-destination", str(folder), "--loglevel", "error"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    if done.returncode or not (folder / ARCHIVE).is_file():
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["it gave no file"]
        raise ConnectionError(
            f"npm cannot fetch {PACKAGE} ({lines[0][:LONGEST]}): try again with a network, {way_out}"
        )
    return folder / ARCHIVE
