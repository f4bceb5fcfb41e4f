"""The command `python -m benchmarks NAME`."""

import argparse
import importlib.util
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from benchmarks import estimates, heldout, price, self_score, synthetic, transfer, words, zsl
from benchmarks.speed import run as speed
from timm_inject.errors import InjectionWarning, TimmInjectError

# A new benchmark is a module with the functions `add_options(parser)` and `run(options)`, and a line here.
_COMMANDS: dict[str, tuple[ModuleType, str]] = {
    "cub": (zsl, "CUB, birds, in the xlsa17 layout"),
    "sun": (zsl, "SUN, scenes, in the xlsa17 layout"),
    "awa2": (zsl, "AWA2, animals, in the xlsa17 layout"),
    "imagenet": (heldout, "ImageNet heads with a part of their classes hidden and given back by name"),
    "words": (words, "what each part of a class's text is worth: definition, sentence, kind, name"),
    "price": (price, "what new classes win and what old ones pay, by how many names are added at once"),
    "estimates": (estimates, "are the estimates for names true? Groups of ImageNet classes, alike or varied, are hidden"),
    "self-score": (self_score, "how well the self-score foretells the real score, over the results of benchmarks that were run"),
    "transfer": (transfer, "an ImageNet head is given the unseen classes of CUB, SUN or AWA2 by name"),
    "synthetic": (synthetic, "made-up features of the real size of CUB, SUN or AWA2, to see time and memory"),
    "speed": (speed, "how fast: fits, inject end to end, inference and evaluate, each against what one would run instead"),
}
_PACKAGES = ("scipy", "matplotlib", "psutil")
_BAD_INPUT = 2
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a benchmark.

    Returns:
        0, or 2 after a mistake or a failed run, told in one paragraph on the error stream; 130 after Ctrl-C.
    """
    options = _parser().parse_args(arguments)
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        warnings.simplefilter("ignore" if options.quiet else "always", InjectionWarning)
        try:
            _check_packages()
            options.run(options)
        except TimmInjectError as error:
            print(f"benchmarks: {error}", file=sys.stderr)
            return _BAD_INPUT
        except KeyboardInterrupt:
            print(f"benchmarks: stopped. What is done is in '{options.output}'; the same command goes on.", file=sys.stderr)
            return _INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure timm_inject.")
    commands = parser.add_subparsers(title="benchmarks", required=True, metavar="NAME")
    output = "for results, tables and plots; a second run goes on there"
    pages = "put tables or their summary between the markers of these files, whichever each of them has"
    for name, (benchmark, text) in _COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        # So that a table can name the command that made it without repeating every default.
        command.set_defaults(run=benchmark.run, command=name, get_default=command.get_default)
        benchmark.add_options(command)
        command.add_argument("--output", type=Path, default=Path("out/benchmark", name), metavar="DIR", help=output)
        command.add_argument("--update-readme", type=Path, nargs="+", default=[], metavar="FILE", help=pages)
        command.add_argument("--quiet", action="store_true", help="no progress lines")
        command.add_argument("--json", action="store_true", help="print one JSON document instead of tables")
    return parser


def _check_packages() -> None:
    missing = [package for package in _PACKAGES if importlib.util.find_spec(package) is None]
    if missing:
        raise TimmInjectError(f'Benchmarks need {", ".join(missing)}: pip install "timm_inject[benchmark]".')


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"note: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
