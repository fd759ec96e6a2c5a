"""How long the command line takes to begin, beside what it cannot do without: Python and `import torch`.

Run: `python benchmarks/start_up.py`. The first step of `compress` is all up to the recipe resolved (`--explain`). To see
what is imported: `python -X importtime -m ganshrink --help`.
"""

import subprocess
import sys
from functools import partial
from pathlib import Path

from interleaved import interleaved

RECIPE = Path(__file__).parent.parent / "recipes/cat/demo.toml"
COMMANDS = {
    "import torch": ["-c", "import torch"],
    "python": ["-c", "pass"],
    "import ganshrink": ["-c", "import ganshrink"],
    "ganshrink --version": ["-m", "ganshrink", "--version"],
    "ganshrink --help": ["-m", "ganshrink", "--help"],
    "ganshrink compress --explain": ["-m", "ganshrink", "compress", str(RECIPE), "--explain"],
}

if __name__ == "__main__":
    runs = {
        name: partial(subprocess.run, [sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
        for name, words in COMMANDS.items()
    }
    interleaved(runs, rounds=int(sys.argv[1]) if len(sys.argv) > 1 else 7)
