"""Reproduce the paper's table on CUB, SUN or AWA2: `python examples/reproduce_paper.py cub DIR`.

DIR holds CUB/, SUN/ or AWA2/ with res101.mat and att_splits.mat, as in the archive xlsa17.zip that docs/benchmarks.md links to.
Further arguments are those of `timm-inject benchmark`, such as `--methods quick` to leave out the slow published recipe.
"""

import sys

from timm_inject.cli import main


def run() -> int:
    if len(sys.argv) < 3:
        print("usage: python examples/reproduce_paper.py cub|sun|awa2 DIR [option ...]", file=sys.stderr)
        return 2
    dataset, data_root, *options = sys.argv[1:]
    return main(["benchmark", dataset, "--data-root", data_root, "--protocol", "both", *options])


if __name__ == "__main__":
    sys.exit(run())
