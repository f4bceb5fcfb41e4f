"""The command `timm-inject`: the only part of the package that prints."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from tqdm import tqdm

from timm_inject.cache import clear_cache, inspect_cache
from timm_inject.calibration import ACTIVATIONS
from timm_inject.cli.demo import run_demo
from timm_inject.cli.report import cache_lines, injection_lines, prediction_lines, score_lines, self_score_lines
from timm_inject.errors import ArgumentValueError, InjectionWarning, TimmInjectError
from timm_inject.hub import push_folder, save_for_hf, write_card
from timm_inject.images import classify, evaluate
from timm_inject.inject import inject
from timm_inject.injected import find_record, injection_record
from timm_inject.mappers import mapper_names
from timm_inject.offline import load_model
from timm_inject.verbs import self_score
from timm_inject.version import __version__

__all__ = ["main"]

_BAD_INPUT = 2
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0, or 2 after a mistake of the user's, told in one paragraph on the error stream; 130 after Ctrl-C.
    """
    options = _parser().parse_args(arguments)
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        warnings.simplefilter("ignore" if getattr(options, "quiet", False) else "always", InjectionWarning)
        try:
            options.run(options)
        except TimmInjectError as error:
            print(f"timm-inject: {error}", file=sys.stderr)
            return _BAD_INPUT
        except KeyboardInterrupt:
            print(f"timm-inject: stopped; {options.when_stopped}", file=sys.stderr)
            return _INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="timm-inject", description="Give a timm classifier new classes from their names, without images."
    )
    parser.add_argument("--version", action="version", version=f"timm_inject {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    command = _add(commands, "inject", _run_inject, "inject classes into a model and save it")
    command.add_argument("model", metavar="MODEL", help="what timm.create_model takes, 'local-dir:FOLDER' included")
    command.add_argument("names", metavar="NAME", nargs="*", help="a new class; 'name: description' gives it a description")
    command.add_argument("--names-file", type=Path, metavar="FILE", help="more names, one a line, 'name: description' allowed")
    command.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="where the patched model is saved; one that is there is replaced"
    )
    _add_mapper_options(command)

    command = _add(commands, "classify", _run_classify, "show the likeliest classes of images")
    command.add_argument("model", metavar="MODEL")
    command.add_argument("images", metavar="IMAGE", nargs="+", type=Path)
    command.add_argument("--top", type=int, default=5, metavar="N")

    command = _add(commands, "evaluate", _run_evaluate, "score a model on a folder with one sub-folder a class")
    command.add_argument("model", metavar="MODEL")
    command.add_argument("folder", metavar="FOLDER", type=Path)
    command.add_argument("--batch-size", type=int, default=64)
    command.add_argument("--workers", type=int, default=0, help="loader processes")
    command.add_argument("--device", type=_device, help="such as cuda:1 (default: a GPU where there is one)")

    command = _add(commands, "self-score", _run_self_score, "estimate how good new classes will be on a model, without images")
    command.add_argument("model", metavar="MODEL")
    command.add_argument(
        "--num-new", type=int, metavar="N", help="how many classes play new at a time (default: a fifth, at most 200)"
    )
    _add_mapper_options(command)

    command = _add(commands, "push", _run_push, "push a saved model to the Hugging Face Hub; `hf auth login` first")
    command.add_argument("folder", metavar="DIR", type=Path, help="where `timm-inject inject --output` saved it")
    command.add_argument("repo_id", metavar="REPO_ID", help="user/name; created if it does not exist")
    command.add_argument("--private", action="store_true", help="make a new repository private")
    command.add_argument("--revision", metavar="BRANCH", help="push to this branch, which must exist")
    command.add_argument("--create-pr", action="store_true", help="open a pull request instead of writing to the branch")
    command.add_argument("--commit-message", default="Add model", metavar="TEXT")
    command.add_argument("--overwrite", action="store_true", help="replace another model, and a README.md that somebody wrote")
    command.set_defaults(when_stopped="the repository is as it was, unless the commit had arrived. Pushing again is safe.")

    command = _add(commands, "card", _run_card, "write the model card of a saved model again")
    command.add_argument("folder", metavar="DIR", type=Path)
    command.add_argument("--repo-id", metavar="REPO_ID", help="the place to load the model from that the card names")
    command.add_argument("--overwrite", action="store_true", help="replace a README.md that somebody wrote or changed")

    command = _add(commands, "cache", _run_cache, "show what is cached: text embeddings, fitted mappers and pseudo-features")
    command.add_argument("--clear", action="store_true", help="delete it")

    command = _add(commands, "demo", _run_demo, "the whole way on packaged weights and photos, without a network")
    command.add_argument("--output", type=Path, default=Path("out/demo"), metavar="DIR")

    return parser


def _add(commands: Any, name: str, run: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    command.set_defaults(run=run, when_stopped="nothing was written.")
    command.add_argument("--quiet", action="store_true", help="no progress bars and no notes")
    command.add_argument("--json", action="store_true", help="print one JSON document instead of text")
    return command


def _add_mapper_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--seen-classes", metavar="SET|FILE", help="a label set such as imagenet-1k, or a file of names")
    command.add_argument("--encoder", metavar="ID|FOLDER|FILE", help="a sentence-transformers model, or precomputed embeddings")
    command.add_argument(
        "--mapper", default="icis", help=f"one of {', '.join(mapper_names())} (default: icis), or a trained one: FOLDER|ID"
    )
    command.add_argument(
        "--calibration",
        type=_calibration,
        default="balanced",
        help="balanced (default), harmonic, keep-seen, a share such as 0.02, or none",
    )
    command.add_argument(
        "--activation", choices=ACTIVATIONS, help="how the head was trained and is read (default: looked up in its config and tag)"
    )
    command.add_argument("--no-descriptions", action="store_true", help="use names alone, look up no definitions")
    command.add_argument("--seed", type=int, default=0)


def _mapper_options(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "seen_class_names": _seen_class_names(options.seen_classes),
        "descriptions": None if options.no_descriptions else "auto",
        "encoder": options.encoder,
        "mapper": options.mapper,
        "calibration": options.calibration,
        "activation": options.activation,
        "seed": options.seed,
    }


def _run_inject(options: argparse.Namespace) -> None:
    names = dict(_split_name(text) for text in options.names)
    if options.names_file is not None:
        names |= _read_names(options.names_file)
    with _Progress(options.quiet) as progress:
        model = load_model(options.model)
        previous = find_record(model)
        inject(
            model,
            names,
            **_mapper_options(options),
            progress=progress,
        )
    save_for_hf(model, options.output)
    record = injection_record(model)
    new = len(previous.classes) if previous else 0
    if options.json:
        print(json.dumps({"directory": str(options.output), "record": record.to_dict()}))
    elif not options.quiet:
        print("\n".join(["Injected:", *injection_lines(record, since=new)]))
        print(f'Saved. Load it with timm.create_model("local-dir:{options.output}", pretrained=True).')


def _run_classify(options: argparse.Namespace) -> None:
    results = classify(load_model(options.model), options.images, top=options.top)
    if options.json:
        print(
            json.dumps({str(image): [asdict(entry) for entry in top] for image, top in zip(options.images, results, strict=True)})
        )
        return
    for image, predictions in zip(options.images, results, strict=True):
        print("\n".join([str(image), *prediction_lines(predictions)]))


def _run_evaluate(options: argparse.Namespace) -> None:
    device = options.device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with _Progress(options.quiet) as progress:
        scores = evaluate(
            load_model(options.model).to(device),
            options.folder,
            batch_size=options.batch_size,
            num_workers=options.workers,
            progress=progress,
        )
    print(json.dumps(scores.to_dict()) if options.json else "\n".join(score_lines(scores)))


def _run_self_score(options: argparse.Namespace) -> None:
    with _Progress(options.quiet) as progress:
        score = self_score(
            load_model(options.model),
            num_new=options.num_new,
            **_mapper_options(options),
            progress=progress,
        )
    print(json.dumps(score.to_dict()) if options.json else "\n".join(self_score_lines(score)))


def _run_push(options: argparse.Namespace) -> None:
    with _hub_progress_bars(options.quiet or options.json):
        pushed = push_folder(
            options.folder,
            options.repo_id,
            options.commit_message,
            revision=options.revision,
            private=options.private,
            create_pr=options.create_pr,
            overwrite=options.overwrite,
        )
    commit = pushed.commit
    if options.json:
        print(json.dumps({"commit_url": commit.commit_url, "oid": commit.oid, "pr_url": commit.pr_url, "is_new": pushed.is_new}))
    elif not options.quiet:
        print(f"Pushed: {commit.pr_url or commit.commit_url}" if pushed.is_new else f"Already there: {commit.commit_url}")


def _run_card(options: argparse.Namespace) -> None:
    path = write_card(options.folder, repo_id=options.repo_id, overwrite=options.overwrite)
    if options.json:
        print(json.dumps({"card": str(path)}))
    elif not options.quiet:
        print(f"Written: {path}")


def _run_cache(options: argparse.Namespace) -> None:
    report = clear_cache() if options.clear else inspect_cache()
    if options.json:
        print(json.dumps({**asdict(report), "directory": report.directory and str(report.directory), "cleared": options.clear}))
    elif not options.quiet:
        print("\n".join(cache_lines(report, cleared=options.clear)))


@contextlib.contextmanager
def _hub_progress_bars(disabled: bool) -> Iterator[None]:
    were_disabled = are_progress_bars_disabled()
    if disabled:
        disable_progress_bars()
    try:
        yield
    finally:
        if disabled and not were_disabled:
            enable_progress_bars()


def _run_demo(options: argparse.Namespace) -> None:
    with _Progress(options.quiet) as progress:
        for event in run_demo(options.output, progress):
            if isinstance(event, str):
                if not options.json:
                    print(event, flush=True)
            elif options.json:
                print(json.dumps(event))


def _calibration(text: str) -> str | float | None:
    if text == "none":
        return None
    with contextlib.suppress(ValueError):
        return float(text)
    return text


def _device(text: str) -> torch.device:
    try:
        return torch.device(text)
    except RuntimeError:
        raise argparse.ArgumentTypeError(f"torch knows no device {text!r}; write cpu, cuda or cuda:1") from None


def _split_name(text: str) -> tuple[str, str | None]:
    name, separator, description = text.partition(":")
    return (name.strip(), description.strip() or None) if separator else (text.strip(), None)


def _read_names(path: Path) -> dict[str, str | None]:
    return dict(_split_name(line) for line in _read_lines(path))


def _read_lines(path: Path) -> list[str]:
    """The file's lines without blank ones and comments."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise ArgumentValueError(f"The file '{path}' could not be read: {error.strerror or error}. Check the path.") from error
    except UnicodeDecodeError as error:
        raise ArgumentValueError(f"The file '{path}' is not UTF-8 text: {error}. Save it as UTF-8.") from error
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def _seen_class_names(text: str | None) -> str | list[str] | None:
    if text is None or not Path(text).is_file():
        return text
    return [line.strip() for line in _read_lines(Path(text))]


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"note: {message}", file=sys.stderr)


class _Progress:
    """Draws one tqdm bar a step on the error stream; steps that end at once leave no trace."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._step = ""
        self._bar: tqdm[Any] | None = None

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def __call__(self, step: str, done: int, total: int) -> None:
        if self._quiet:
            return
        if step != self._step:
            self._close()
            self._step = step
            # tqdm shows nothing in the first second, so that quick steps do not flicker.
            self._bar = tqdm(total=total, desc=step, delay=1.0, leave=False)
        if self._bar is not None:
            self._bar.total = total
            self._bar.update(done - self._bar.n)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar, self._step = None, ""


if __name__ == "__main__":
    sys.exit(main())
