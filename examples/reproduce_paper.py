"""Reproduce the paper's table on CUB, SUN or AWA2: `python examples/reproduce_paper.py cub DIR`.

DIR holds CUB/, SUN/ or AWA2/ with res101.mat and att_splits.mat, as in the archive xlsa17.zip that docs/benchmarks.md links to.
Further arguments are those of `python -m benchmarks`, such as `--methods quick` to leave out the slow published recipe.
"""

import runpy
import sys
from pathlib import Path


def main() -> None:
    if len(sys.argv) < 3:
        sys.exit("usage: python examples/reproduce_paper.py cub|sun|awa2 DIR [option ...]")
    dataset, data_root, *options = sys.argv[1:]
    sys.path.insert(0, str(Path(__file__).parent.parent))  # benchmarks are no part of what is installed
    sys.argv[1:] = [dataset, "--data-root", data_root, "--protocol", "both", *options]
    runpy.run_module("benchmarks", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
