"""What each command does: load, call the one function of the API that it stands for, print."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from timm_inject.cache import clear_cache, inspect_cache
from timm_inject.cli.demo import run_demo
from timm_inject.cli.options import check_output, find_device, mapper_arguments, read_names, seen_class_names, text_arguments
from timm_inject.cli.progress import Progress, hub_progress_bars
from timm_inject.cli.report import (
    cache_lines,
    count_classes,
    explanation_lines,
    how_to_write,
    injection_lines,
    look_up_lines,
    prediction_lines,
    price_lines,
    score_lines,
    self_score_lines,
)
from timm_inject.errors import ArgumentValueError, ClassNameError, list_some
from timm_inject.hub import push_folder, save_for_hf, write_card
from timm_inject.images import classify, evaluate
from timm_inject.inject import inject
from timm_inject.injected import find_record, injection_record, remove, rename
from timm_inject.offline import load_model
from timm_inject.text import ClassText
from timm_inject.verbs import explain, look_up, self_score

__all__ = [
    "run_cache",
    "run_card",
    "run_classify",
    "run_demo_command",
    "run_evaluate",
    "run_explain",
    "run_inject",
    "run_look_up",
    "run_push",
    "run_remove",
    "run_rename",
    "run_self_score",
]


def run_inject(options: argparse.Namespace) -> None:
    """Inject classes and save the model."""
    names = read_names(options)
    arguments = mapper_arguments(options)
    check_output(options.output)
    with Progress(options.quiet) as progress:
        model = load_model(options.model)
        previous = find_record(model)
        inject(model, names, **arguments, progress=progress)
    record = injection_record(model)
    known = len(previous.classes) if previous else 0
    lines = [*price_lines(record), "Injected:", *injection_lines(record, since=known)]
    _save(options, model, lines, {"record": record.to_dict()})


def run_look_up(options: argparse.Namespace) -> None:
    """Show what names would be taken to mean."""
    names = read_names(options)
    texts = look_up(load_model(options.model), names, **text_arguments(options))
    _show(options, [_text_document(text) for text in texts], look_up_lines(texts))


def _text_document(text: ClassText) -> dict[str, Any]:
    others = [asdict(sense) | {"write": how_to_write(text, sense)} for sense in text.alternatives]
    return asdict(text) | {"descriptions": text.descriptions, "alternatives": others}


def run_classify(options: argparse.Namespace) -> None:
    """Show the likeliest classes of images."""
    results = classify(load_model(options.model), options.images, top=options.top)
    pairs = list(zip(options.images, results, strict=True))
    document = {str(image): [asdict(entry) for entry in top] for image, top in pairs}
    _show(options, document, [line for image, top in pairs for line in (str(image), *prediction_lines(top))])


def run_evaluate(options: argparse.Namespace) -> None:
    """Score a model on a folder of images."""
    for option, value, least in (("--batch-size", options.batch_size, 1), ("--workers", options.workers, 0)):
        if value < least:
            raise ArgumentValueError(f"{option} must be at least {least}, got {value}.")
    device = find_device(options.device)
    with Progress(options.quiet) as progress:
        model = load_model(options.model).to(device)
        try:
            scores = evaluate(model, options.folder, batch_size=options.batch_size, num_workers=options.workers, progress=progress)
        except torch.cuda.OutOfMemoryError as error:
            raise ArgumentValueError(
                f"{device} has too little memory for {options.batch_size} images at once. Give a smaller --batch-size."
            ) from error
    _show(options, scores.to_dict(), score_lines(scores))


def run_self_score(options: argparse.Namespace) -> None:
    """Estimate without images how good new classes will be."""
    arguments = mapper_arguments(options)
    with Progress(options.quiet) as progress:
        score = self_score(load_model(options.model), num_new=options.num_new, **arguments, progress=progress)
    _show(options, score.to_dict(), self_score_lines(score))


def run_explain(options: argparse.Namespace) -> None:
    """Show what injected rows lean on and whose images they may take."""
    model = load_model(options.model)
    seen = seen_class_names(options.seen_classes)
    names = options.names or [entry.name for entry in injection_record(model).classes]
    explanations = [explain(model, name, seen_class_names=seen, seed=options.seed) for name in names]
    lines = [line for explanation in explanations for line in explanation_lines(explanation)]
    _show(options, [asdict(explanation) for explanation in explanations], lines)


def run_remove(options: argparse.Namespace) -> None:
    """Take injected classes out and save the model."""
    check_output(options.output)
    model = load_model(options.model)
    record = injection_record(model)
    before, num_seen = record.classes, record.num_seen
    remove(model, options.names)
    left = find_record(model)
    gone = [entry.name for entry in before if left is None or entry.name not in {kept.name for kept in left.classes}]
    number = count_classes(len(before) - len(gone), num_seen)
    _save(options, model, [f"Removed: {', '.join(gone)}. The model has {number}."], {"removed": gone, **_record_of(model)})


def run_rename(options: argparse.Namespace) -> None:
    """Call injected classes something else and save the model."""
    names: Sequence[str] = options.names
    if len(names) % 2:
        raise ArgumentValueError(f"`rename` takes pairs, OLD NEW; {names[-1]!r} has no new name.")
    check_output(options.output)
    model = load_model(options.model)
    renamed = dict(zip(names[::2], names[1::2], strict=True))
    twice = [name for name in renamed if names[::2].count(name) > 1]
    if twice:
        raise ClassNameError(f"Classes are renamed twice: {list_some(map(repr, twice))}. Name each once.")
    rename(model, renamed)
    lines = [f"Renamed: {', '.join(f'{old} is now {new}' for old, new in renamed.items())}."]
    _save(options, model, lines, {"renamed": renamed, **_record_of(model)})


def _record_of(model: nn.Module) -> dict[str, Any]:
    record = find_record(model)
    return {"record": record.to_dict() if record else None}


def _save(options: argparse.Namespace, model: nn.Module, lines: Sequence[str], document: dict[str, Any]) -> None:
    save_for_hf(model, options.output)
    saved = f'Saved. Load it with timm.create_model("local-dir:{options.output}", pretrained=True).'
    _report(options, {"directory": str(options.output), **document}, [*lines, saved])


def run_push(options: argparse.Namespace) -> None:
    """Push a saved model to the Hub."""
    with hub_progress_bars(options.quiet or options.json):
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
    document = {"commit_url": commit.commit_url, "oid": commit.oid, "pr_url": commit.pr_url, "is_new": pushed.is_new}
    line = f"Pushed: {commit.pr_url or commit.commit_url}" if pushed.is_new else f"Already there: {commit.commit_url}"
    _report(options, document, [line])


def run_card(options: argparse.Namespace) -> None:
    """Write the model card of a saved model again."""
    path = write_card(options.folder, repo_id=options.repo_id, overwrite=options.overwrite)
    _report(options, {"card": str(path)}, [f"Written: {path}"])


def run_cache(options: argparse.Namespace) -> None:
    """Show or clear the cache."""
    report = clear_cache() if options.clear else inspect_cache()
    document = {**asdict(report), "directory": report.directory and str(report.directory), "cleared": options.clear}
    _report(options, document, cache_lines(report, cleared=options.clear))


def run_demo_command(options: argparse.Namespace) -> None:
    """Show the whole way on packaged weights and photos."""
    check_output(options.output)
    with Progress(options.quiet) as progress:
        for event in run_demo(options.output, progress):
            if isinstance(event, str):
                if not options.json:
                    print(event, flush=True)
            elif options.json:
                _show(options, event, [])


def _show(options: argparse.Namespace, document: object, lines: Sequence[str]) -> None:
    """Print what was asked for."""
    print(json.dumps(document) if options.json else "\n".join(lines))


def _report(options: argparse.Namespace, document: object, lines: Sequence[str]) -> None:
    """Print what was done, unless nobody wants to hear of it."""
    if options.json or not options.quiet:
        _show(options, document, lines)
