"""What a finished run costs that is run again with nothing changed, beside `import torch`.

Run: `python benchmarks/rerun.py [RECIPE] [KEY=VALUE ...]`; the run is made in a temporary folder first.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from interleaved import interleaved

DEMO = Path(__file__).parent.parent / "recipes/cat/demo.toml"
SHORT = ("teacher.max_steps=4", "student.max_steps=4")  # how long it was trained plays no part


def main(recipe: str = str(DEMO), *overrides: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        words = ["-m", "ganshrink", "compress", recipe, *SHORT, *overrides, f"run={folder}/run", "--quiet"]

        def again() -> None:
            subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)

        def torch() -> None:
            subprocess.run([sys.executable, "-c", "import torch"], check=True)

        again()
        made = {path: path.stat().st_mtime_ns for path in Path(folder, "run").glob("*.onnx")}
        interleaved({"import torch": torch, "the same run again": again}, rounds=5, warmup=1)
        assert made == {path: path.stat().st_mtime_ns for path in made}  # nothing was made again


if __name__ == "__main__":
    main(*sys.argv[1:])
