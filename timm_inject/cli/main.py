"""The command `timm-inject`: its options, and how it ends."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from timm_inject.calibration import ACTIVATIONS
from timm_inject.cli import commands as run
from timm_inject.cli.options import read_calibration, read_folder
from timm_inject.errors import InjectionWarning, TimmInjectError
from timm_inject.mappers import mapper_names
from timm_inject.version import __version__

__all__ = ["main"]

_BAD_INPUT = 2
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0, or 2 after a mistake of the user's, told in one paragraph on the error stream; 130 after Ctrl-C.

    Raises:
        SystemExit: The arguments do not parse (2), or help was asked for (0).
    """
    with _any_letter():
        options = _parser().parse_args(arguments)
        try:
            return _run(options)
        except BrokenPipeError:  # whoever read the output has had enough, `| head` for one
            with contextlib.suppress(OSError, io.UnsupportedOperation, AttributeError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0


def _run(options: argparse.Namespace) -> int:
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        warnings.simplefilter("ignore" if options.quiet else "always", InjectionWarning)
        try:
            options.run(options)
            sys.stdout.flush()
        except TimmInjectError as error:
            print(f"timm-inject: {' '.join(str(error).split())}", file=sys.stderr)
            return _BAD_INPUT
        except BrokenPipeError:
            raise
        except OSError as error:  # the machine says no, to a full disk or a path that is too long
            what = f"'{str(error.filename)[:200]}': " if error.filename else ""
            print(f"timm-inject: {what}{error.strerror or error}.", file=sys.stderr)
            return _BAD_INPUT
        except KeyboardInterrupt:
            print(f"timm-inject: stopped; {options.when_stopped}", file=sys.stderr)
            return _INTERRUPTED
    return 0


class _Parser(argparse.ArgumentParser):
    """Tells a mistake in one paragraph, and lets options stand anywhere among the names."""

    _is_inside = False

    def error(self, message: str) -> NoReturn:
        self.exit(_BAD_INPUT, f"timm-inject: {message}. See `{self.prog} --help`.\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self._subparsers is not None or self._is_inside:
            return super().parse_known_args(args, namespace)
        self._is_inside = True  # the call below comes back here
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._is_inside = False


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="timm-inject", description="Give a timm classifier new classes from their names, without images.")
    parser.add_argument("--version", action="version", version=f"timm_inject {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    command = _add(commands, "inject", run.run_inject, "inject classes into a model and save it")
    command.add_argument("model", metavar="MODEL", help="what timm.create_model takes, 'local-dir:FOLDER' included")
    _add_names(command)
    _add_output(command)
    _add_mapper_options(command)

    command = _add(commands, "look-up", run.run_look_up, "show what names would be taken to mean; nothing is trained")
    command.add_argument("model", metavar="MODEL")
    _add_names(command)
    _add_text_options(command)

    command = _add(commands, "classify", run.run_classify, "show the likeliest classes of images")
    command.add_argument("model", metavar="MODEL")
    command.add_argument("images", metavar="IMAGE", nargs="+", type=Path)
    command.add_argument("--top", type=int, default=5, metavar="N")

    command = _add(commands, "self-score", run.run_self_score, "estimate how good new classes will be on a model, without images")
    command.add_argument("model", metavar="MODEL")
    command.add_argument(
        "--num-new", type=int, metavar="N", help="how many classes play new at a time (default: a fifth, at most 200)"
    )
    _add_mapper_options(command)

    command = _add(commands, "evaluate", run.run_evaluate, "score a model on a folder with one sub-folder a class")
    command.add_argument("model", metavar="MODEL")
    command.add_argument("folder", metavar="FOLDER", type=Path)
    command.add_argument("--batch-size", type=int, default=64)
    command.add_argument("--workers", type=int, default=0, help="loader processes")
    command.add_argument("--device", help="such as cuda:1 (default: a GPU where there is one)")

    command = _add(commands, "explain", run.run_explain, "show what new classes are made of, and whose images they may take")
    command.add_argument("model", metavar="MODEL")
    command.add_argument("names", metavar="NAME", nargs="*", help="an injected class (default: all of them)")
    command.add_argument("--seen-classes", metavar="SET|FILE", help="as in `inject`")
    command.add_argument("--seed", type=int, default=0)

    command = _add(commands, "remove", run.run_remove, "take injected classes out of a model and save it")
    command.add_argument("model", metavar="MODEL")
    command.add_argument("names", metavar="NAME", nargs="+", help="an injected class")
    _add_output(command)

    command = _add(commands, "rename", run.run_rename, "call injected classes something else and save the model")
    command.add_argument("model", metavar="MODEL")
    command.add_argument("names", metavar="OLD NEW", nargs="+", help="an injected class, and what it is to be called")
    _add_output(command)

    command = _add(commands, "push", run.run_push, "push a saved model to the Hugging Face Hub; `hf auth login` first")
    command.add_argument("folder", metavar="DIR", type=read_folder, help="where `timm-inject inject --output` saved it")
    command.add_argument("repo_id", metavar="REPO_ID", help="user/name; created if it does not exist")
    command.add_argument("--private", action="store_true", help="make a new repository private")
    command.add_argument("--revision", metavar="BRANCH", help="push to this branch, which must exist")
    command.add_argument("--create-pr", action="store_true", help="open a pull request instead of writing to the branch")
    command.add_argument("--commit-message", default="Add model", metavar="TEXT")
    command.add_argument("--overwrite", action="store_true", help="replace another model, and a README.md that somebody wrote")
    command.set_defaults(when_stopped="the repository is as it was, unless the commit had arrived. Pushing again is safe.")

    command = _add(commands, "card", run.run_card, "write the model card of a saved model again")
    command.add_argument("folder", metavar="DIR", type=read_folder)
    command.add_argument("--repo-id", metavar="REPO_ID", help="the place to load the model from that the card names")
    command.add_argument("--overwrite", action="store_true", help="replace a README.md that somebody wrote or changed")

    command = _add(commands, "cache", run.run_cache, "show what is cached: text embeddings, fitted mappers and pseudo-features")
    command.add_argument("--clear", action="store_true", help="delete it")

    command = _add(commands, "demo", run.run_demo_command, "the whole way on packaged weights and photos, without a network")
    command.add_argument("--output", type=read_folder, default=Path("out/demo"), metavar="DIR")

    return parser


def _add(commands: Any, name: str, action: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    command.set_defaults(run=action, when_stopped="nothing was written.")
    command.add_argument("--quiet", action="store_true", help="no progress bars and no notes")
    command.add_argument("--json", action="store_true", help="print one JSON document instead of text")
    return command


def _add_names(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "names", metavar="NAME", nargs="*", help=r"a new class; 'name: description' describes it; '\:' is a colon of the name"
    )
    command.add_argument(
        "--names-file",
        metavar="FILE",
        help="more names: one a line, 'name: description', 'name<tab>description', or JSON (a list or a mapping)",
    )


def _add_output(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--output",
        type=read_folder,
        required=True,
        metavar="DIR",
        help="where the changed model is saved; one that is there is replaced",
    )


def _add_text_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--seen-classes",
        metavar="SET|FILE",
        help="a label set such as imagenet-1k, or a file of labels in logit order: lines, or JSON (a list or a mapping)",
    )
    command.add_argument("--no-descriptions", action="store_true", help="use names alone, look up no definitions")
    command.add_argument(
        "--describe-with",
        metavar="URL|PROVIDER",
        help="have a language model describe what the lexicon lacks: an OpenAI-compatible server, or a provider of the Hub",
    )
    command.add_argument("--describe-model", metavar="NAME", help="which model of the server or provider")


def _add_mapper_options(command: argparse.ArgumentParser) -> None:
    _add_text_options(command)
    command.add_argument("--encoder", metavar="ID|FOLDER|FILE", help="a sentence-transformers model, or precomputed embeddings")
    command.add_argument(
        "--mapper", default="icis", help=f"one of {', '.join(mapper_names())} (default: icis), or a trained one: FOLDER|ID"
    )
    command.add_argument(
        "--calibration",
        type=read_calibration,
        default="balanced",
        help="balanced (default), harmonic, keep-seen, a share such as 0.02, or none",
    )
    command.add_argument(
        "--activation", choices=ACTIVATIONS, help="how the head was trained and is read (default: looked up in its config and tag)"
    )
    command.add_argument("--seed", type=int, default=0)


@contextlib.contextmanager
def _any_letter() -> Iterator[None]:
    """Names are in any script, and a terminal may know Latin letters only: it gets escapes instead of an error."""
    changed = [stream for stream in (sys.stdout, sys.stderr) if isinstance(stream, io.TextIOWrapper)]
    before = [stream.errors for stream in changed]
    for stream in changed:
        stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        for stream, errors in zip(changed, before, strict=True):
            stream.reconfigure(errors=errors)


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"note: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
