"""The options of `timm-inject benchmark …`."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import Any

from benchmarks.slow import SLOW_MAPPERS
from timm_inject.errors import TimmInjectError
from timm_inject.mappers import mapper_names

__all__ = ["add_benchmark_command"]

_ZSL = {"cub": "CUB, birds", "sun": "SUN, scenes", "awa2": "AWA2, animals"}
_HEADS = ("tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2")
_PARTS = ("table", "parts", "ablation", "curve")
_HELDOUT_PARTS = ("table", "test", "parts")
_PACKAGES = ("scipy", "h5py", "matplotlib", "psutil")
_SPEED_SECTIONS = ("fit", "inject", "names", "inference", "evaluate")


def add_benchmark_command(commands: Any) -> None:
    """Add `benchmark` and its datasets to the parser's commands; nothing heavy is imported before one runs."""
    text = "measure mappers on a benchmark"
    benchmark = commands.add_parser("benchmark", help=text, description=text)
    datasets = benchmark.add_subparsers(title="datasets", required=True, metavar="DATASET")
    for name, title in _ZSL.items():
        _add_zsl(datasets, name, f"{title}, in the xlsa17 layout")
    _add_heldout(datasets)
    _add_self_score(datasets)
    _add_estimates(datasets)
    _add_speed(datasets)
    for command in datasets.choices.values():
        # So that a table can name the command that made it without repeating every default.
        command.set_defaults(get_default=command.get_default)


def _add_self_score(datasets: Any) -> None:
    text = "how well the self-score foretells the real score, over the results of benchmarks that were run"
    command = datasets.add_parser("self-score", help=text, description=text)
    command.set_defaults(run=_run_self_score)
    command.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="the --output folders of other benchmarks")
    command.add_argument("--output", type=Path, default=Path("out/benchmark/self-score"), metavar="DIR", help="for the plots")
    _add_update_readme(command)
    command.add_argument("--json", action="store_true", help="print one JSON document instead of text")


def _add_heldout(datasets: Any) -> None:
    command = _add(datasets, "imagenet-heldout", "ImageNet heads with a part of their classes hidden and given back by name")
    command.set_defaults(run=_run_heldout, dataset="imagenet-heldout", seeds=[0])
    command.add_argument(
        "--images", type=Path, metavar="DIR", help="one sub-folder a class, or labels.csv (file, label) and images"
    )
    command.add_argument(
        "--heads", nargs="+", default=list(_HEADS), metavar="MODEL", help=f"timm models (default: {' '.join(_HEADS)})"
    )
    command.add_argument(
        "--folds", type=int, default=5, metavar="N", help="the classes are dealt into N folds; each is hidden once"
    )
    command.add_argument(
        "--parts",
        nargs="+",
        choices=_HELDOUT_PARTS,
        default=list(_HELDOUT_PARTS),
        metavar="PART",
        help=f"of {', '.join(_HELDOUT_PARTS)}",
    )
    command.add_argument(
        "--texts",
        nargs="+",
        choices=["lemma", "synset", "words", "name", "described", "wiki2vec", "conceptnet"],
        default=["lemma"],
        help="how hidden classes are told: by the first lemma, whose definition is looked up and may be of another sense (lemma); "
        "with the right definition (synset); as lemma, without the place in WordNet (words); by the lemma without definitions "
        "(name); by --descriptions (described); by the ICIS authors' vectors (wiki2vec, conceptnet). Every method is run for the "
        "first, icis and kernel-ridge for further ones",
    )
    command.add_argument("--vectors", type=Path, metavar="DIR", help="for wiki2vec and conceptnet: the folder that holds theirs")
    command.add_argument("--descriptions", type=Path, metavar="FILE", help="JSON: class name or WordNet id -> text or texts")


def _add_estimates(datasets: Any) -> None:
    text = "are the estimates that `inject` gives for names true? Groups of ImageNet classes, alike or varied, are hidden"
    command = datasets.add_parser("estimates", help=text, description=text)
    command.set_defaults(run=_run_estimates, dataset="estimates")
    command.add_argument("--images", type=Path, metavar="DIR", help="as for imagenet-heldout")
    command.add_argument("--heads", nargs="+", default=list(_HEADS), metavar="MODEL", help="timm models")
    command.add_argument("--size", type=int, default=40, metavar="N", help="classes in a group")
    command.add_argument("--num-random", type=int, default=8, metavar="N", help="random groups; half as many of 200 classes")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--encoder", metavar="ID|FOLDER", help="a sentence-transformers model")
    command.add_argument(
        "--output", type=Path, default=Path("out/benchmark/estimates"), metavar="DIR", help="for results and plots"
    )
    _add_update_readme(command)
    _add_plots(command)
    command.add_argument("--quiet", action="store_true", help="no progress lines")
    command.add_argument("--json", action="store_true", help="print one JSON document instead of text")


def _add_speed(datasets: Any) -> None:
    text = "how fast: fits, inject end to end, many names, inference and evaluate, each against what one would run instead"
    command = datasets.add_parser("speed", help=text, description=text)
    command.set_defaults(run=_run_speed, dataset="speed")
    command.add_argument("--sections", nargs="+", choices=_SPEED_SECTIONS, default=list(_SPEED_SECTIONS), metavar="SECTION")
    command.add_argument(
        "--heads",
        nargs="+",
        default=["73x2049", "1000x1281", "1000x2049", "11821x1025", "21843x1281"],
        metavar="NxM",
        help="for fit: classes x row width (with the bias)",
    )
    command.add_argument(
        "--full-recipe",
        nargs="*",
        default=["73x2049"],
        metavar="NxM",
        help="for fit: the heads that the published recipe is run on to its end; on the others some of its batches are timed",
    )
    command.add_argument("--counts", nargs="+", type=int, default=[1_000, 10_000, 100_000], metavar="N", help="for names")
    command.add_argument("--photos", type=int, default=256, metavar="N", help="for evaluate: how many are made up")
    command.add_argument(
        "--output",
        type=Path,
        default=Path("out/benchmark/speed"),
        metavar="DIR",
        help="for speed.json; other sections there stay",
    )
    _add_update_readme(command)
    command.add_argument("--quiet", action="store_true", help="no progress lines")
    command.add_argument("--json", action="store_true", help="print one JSON document instead of tables")


def _add_zsl(datasets: Any, name: str, text: str) -> None:
    command = _add(datasets, name, text)
    command.set_defaults(run=_run_zsl, dataset=name)
    command.add_argument(
        "--data-root", type=Path, metavar="DIR", help="holds res101.mat and att_splits.mat, or CUB/, SUN/, AWA2/ with them"
    )
    command.add_argument(
        "--synthetic",
        action="store_true",
        help="made-up features of the dataset's real size instead, to see time and memory; icis-paper is stopped after 25 epochs",
    )
    command.add_argument(
        "--descriptors",
        nargs="+",
        choices=["att", "wiki2vec", "conceptnet", "names"],
        default=["att"],
        help="the first for all tables; with more, also a table of what each is worth",
    )
    command.add_argument(
        "--protocol",
        choices=["held-out", "paper", "both"],
        default="held-out",
        help="where the base classifier's epoch is chosen: on held-out training images, or on the seen test images as published",
    )
    command.add_argument("--parts", nargs="+", choices=_PARTS, default=list(_PARTS), metavar="PART", help=f"of {', '.join(_PARTS)}")
    command.add_argument(
        "--transfer",
        choices=["imagenet"],
        help="instead of a classifier trained here, take an ImageNet head and the unseen classes by name; the features in "
        "res101.mat must be that head's own inputs",
    )
    command.add_argument(
        "--head",
        metavar="MODEL",
        help="for --transfer: the model whose features res101.mat holds, or an .npz of weight and bias",
    )
    command.add_argument(
        "--imagenet-images", type=Path, metavar="DIR", help="for --transfer: labelled ImageNet images, to measure s and H, too"
    )
    command.add_argument(
        "--slow-seeds",
        nargs="+",
        type=int,
        metavar="N",
        help=f"of {', '.join(SLOW_MAPPERS)} and the ablation (default: the first)",
    )


def _add(datasets: Any, name: str, text: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = datasets.add_parser(name, help=text, description=text)
    command.add_argument(
        "--methods",
        nargs="+",
        metavar="MAPPER",
        help=f"of {', '.join(mapper_names())}; or 'all', or 'quick', without {', '.join(SLOW_MAPPERS)}",
    )
    command.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="N")
    command.add_argument("--encoder", metavar="ID|FOLDER", help="a sentence-transformers model, where names are encoded")
    command.add_argument(
        "--output",
        type=Path,
        default=Path("out/benchmark") / name,
        metavar="DIR",
        help="for results, tables and plots; a second run goes on there",
    )
    _add_update_readme(command)
    _add_plots(command)
    command.add_argument("--quiet", action="store_true", help="no progress lines")
    command.add_argument("--json", action="store_true", help="print one JSON document instead of tables")
    return command


def _add_update_readme(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--update-readme",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="put tables or their summary between the markers of these files, whichever each of them has",
    )


def _add_plots(command: argparse.ArgumentParser) -> None:
    command.add_argument("--plots", type=Path, metavar="DIR", help="copy the main plots there, and show them below the tables")


def _run_zsl(options: argparse.Namespace) -> None:
    _check_packages()
    from benchmarks.commands import run_zsl

    run_zsl(options)


def _run_heldout(options: argparse.Namespace) -> None:
    _check_packages()
    from benchmarks.commands import run_heldout

    run_heldout(options)


def _run_estimates(options: argparse.Namespace) -> None:
    _check_packages()
    from benchmarks.commands import run_estimates

    run_estimates(options)


def _run_speed(options: argparse.Namespace) -> None:
    _check_packages()
    from benchmarks.speed.run import run_speed

    run_speed(options)


def _run_self_score(options: argparse.Namespace) -> None:
    _check_packages()
    from benchmarks.commands import run_self_score

    run_self_score(options)


def _check_packages() -> None:
    missing = [package for package in _PACKAGES if importlib.util.find_spec(package) is None]
    if missing:
        raise TimmInjectError(f'Benchmarks need {", ".join(missing)}: pip install "timm_inject[benchmark]".')
