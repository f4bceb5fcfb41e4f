"""ImageNet heads with classes hidden: their rows are deleted, and the classes are given back by name."""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.ablation import PARTS_STEPS
from benchmarks.descriptors import imagenet_descriptors
from benchmarks.images import ImageHead, add_head_options, load_heads
from benchmarks.plots import plot_bars, plot_seen_unseen, plot_self_score
from benchmarks.report import glance_table, heldout_tables, parts_table, self_score_points
from benchmarks.results import MAIN_MAPPERS, Result, Setting, data_fingerprint, select
from benchmarks.session import Session, add_method_options, add_plots_option, chosen_methods
from benchmarks.units import CALIBRATION_NAMES, Problem, Unit, calibrated_unit, raw_unit
from timm_inject.errors import ArgumentValueError
from timm_inject.mappers import assign_folds
from timm_inject.text import (
    ClassName,
    ClassText,
    EncoderHandle,
    ProgressCallback,
    encode_descriptors,
    resolve_class_texts,
    resolve_encoder,
)

# How classes are told, shown by `--help` and below the table. All but the last three keep seen and hidden classes alike.
_TEXT_NOTES = {
    "lemma": "the first lemma, as a user would type it; its sense is looked up and may be another",
    "synset": "the right sense",
    "no-kind": "as synset, without the kind",
    "sentence": "as synset, by the lexicon's sentence alone",
    "definition": "as synset, by timm's definition alone",
    "name": "the lemma alone",
    "new-definition": "hidden classes by timm's definition alone, as classes that the lexicon lacks",
    "new-sentence": "hidden classes by a sentence alone, as classes that only the user describes",
    "new-name": "hidden classes by the lemma alone",
    "described": "by --descriptions",
    "wiki2vec": "by the ICIS authors' vectors",
    "conceptnet": "by the ICIS authors' vectors",
}
WORDS = ("synset", "lemma", "no-kind", "sentence", "definition", "name", "new-definition", "new-sentence", "new-name")
_VECTORS = ("wiki2vec", "conceptnet")
_PARTS = ("table", "test", "parts")
_VALIDATION_SEED = 2026


def add_options(command: argparse.ArgumentParser) -> None:
    """The options of `imagenet`."""
    add_method_options(command, seeds=[0])
    add_head_options(command)
    text = "the classes are dealt into N folds; each is hidden once"
    command.add_argument("--folds", type=int, default=5, metavar="N", help=text)
    text = f"of {', '.join(_PARTS)}"
    command.add_argument("--parts", nargs="+", choices=_PARTS, default=list(_PARTS), metavar="PART", help=text)
    notes = " ".join(f"{name}: {note}." for name, note in _TEXT_NOTES.items())
    text = f"how hidden classes are told. {notes} Every method is run for the first, {' and '.join(MAIN_MAPPERS)} for further ones"
    command.add_argument("--texts", nargs="+", choices=list(_TEXT_NOTES), default=["lemma"], help=text)
    text = "for wiki2vec and conceptnet: the folder that holds theirs"
    command.add_argument("--vectors", type=Path, metavar="DIR", help=text)
    command.add_argument("--descriptions", type=Path, metavar="FILE", help="JSON: class name or WordNet id -> text or texts")
    add_plots_option(command)


def run(options: argparse.Namespace) -> None:
    """ImageNet heads with hidden classes."""
    methods = chosen_methods(options.methods, default="quick")
    if options.folds < 2:
        raise ArgumentValueError(f"`--folds` must be at least 2, got {options.folds}.")
    if ("described" in options.texts) != (options.descriptions is not None):
        raise ArgumentValueError("`--texts described` and `--descriptions FILE` go together.")
    kinds = [kind for kind in options.texts if kind in _VECTORS]
    if kinds and options.vectors is None:
        raise ArgumentValueError(f"`--texts {' '.join(kinds)}` needs `--vectors`, the folder that holds the published vectors.")
    descriptions = _read_descriptions(options.descriptions)
    encoder = resolve_encoder(options.encoder)
    session = Session(options)
    benchmarks = []
    for head in load_heads(options, session.progress):
        vectors = {kind: imagenet_descriptors(head.names, kind, options.vectors) for kind in kinds}
        benchmarks.append(HeldOutBenchmark(head, encoder, descriptions, vectors, session.progress))
    plan = (methods, options.texts, options.folds, options.seeds, options.parts)
    session.run(unit for benchmark in benchmarks for unit in benchmark.units(*plan))
    results = [result for benchmark in benchmarks for result in select(session.store, data=benchmark.data)]
    table = select(results, part="table")
    text = options.texts[0]
    hidden = f"the classes, hidden in {options.folds} folds, are given back by name (`{text}`)"
    about = f"ImageNet heads {', '.join(options.heads)}: {hidden}."
    glance = glance_table(select(table, descriptors=text), about)
    shown = [f"bars-{text}.png", f"seen-unseen-{text}.png"]
    session.finish(results, [*heldout_tables(results), parts_table(results)], _plot(table, options.output), glance, shown)


def validation_classes(num_classes: int) -> Tensor:
    """Which classes are for choosing settings of the package, on photos of them: half, drawn once and for all, (num_classes,) bool.

    Photos of the others, the test classes, are for figures alone. Rows and texts of all classes take part on both sides.
    """
    is_validation = torch.zeros(num_classes, dtype=torch.bool)
    order = torch.randperm(num_classes, generator=torch.Generator().manual_seed(_VALIDATION_SEED))
    is_validation[order[: num_classes // 2]] = True
    return is_validation


class HeldOutBenchmark:
    """Units of work on one head.

    Args:
        head: The head, its classes and its images.
        encoder: Of the texts.
        descriptions: For "described": class name or label -> text or texts.
        vectors: For the kinds that are vectors: (num_classes, dim) each, in logit order.
        progress: Called while something slow runs.

    Attributes:
        head: As given.
        data: Fingerprint of head, images and encoder.
    """

    def __init__(
        self,
        head: ImageHead,
        encoder: EncoderHandle,
        descriptions: Mapping[str, str | Sequence[str]] | None = None,
        vectors: Mapping[str, Tensor] | None = None,
        progress: ProgressCallback | None = None,
    ) -> None:
        self.head = head
        self._encoder = encoder
        self._descriptions = descriptions or {}
        self._vectors = vectors or {}
        self._progress = progress
        self._looked_up: dict[str, tuple[Tensor, list[ClassText]]] = {}
        described = sorted(self._descriptions.items())
        self.data = data_fingerprint(head.rows, head.features, head.labels, encoder.encoder_id, described)

    def units(
        self,
        methods: Sequence[str],
        texts: Sequence[str] = ("lemma",),
        num_folds: int = 5,
        seeds: Sequence[int] = (0,),
        parts: Sequence[str] = ("table",),
    ) -> Iterator[Unit]:
        """All that is asked for: each seed deals the classes into folds anew, and each fold is hidden once.

        The parts are "table"; "test", on photos of the test classes alone, with the first of the texts; and "parts", what each part
        of the default adds, likewise. For further texts and for "test" only the main ones of the methods are run.
        """
        main = [method for method in MAIN_MAPPERS if method in methods] or methods
        jobs = [("parts", texts[0], step) for step in PARTS_STEPS]
        jobs += [("test", texts[0], method) for method in main]
        jobs += [("table", kind, method) for kind in texts for method in (methods if kind == texts[0] else main)]
        for part, kind, method in jobs:
            for seed, fold in product(seeds, range(num_folds)) if part in parts else ():
                yield self._unit(part, kind, method, seed, fold, self.fold(seed, fold, num_folds))

    def _unit(self, part: str, texts: str, method: str, seed: int, fold: int, hidden: Sequence[int]) -> Unit:
        head = self.head
        num_seen = len(head.rows) - len(hidden)
        setting = Setting("imagenet", part, "", texts, method, "none", seed, head.name, fold, num_seen, self.data)
        label = f"{head.name}, {part}, {texts}, {method}, seed {seed}, fold {fold}"
        if part == "parts":
            return raw_unit(label, setting, partial(self.hide, texts, hidden), PARTS_STEPS[method])
        is_test = part == "test"

        def problem() -> Problem:
            notes = count_senses(head.names, self._look_up(texts)[1], hidden) if texts in WORDS else {}
            return replace(self.hide(texts, hidden, test_classes_only=is_test), notes=notes)

        return calibrated_unit(label, setting, problem, ["harmonic"] if is_test else CALIBRATION_NAMES, self._progress)

    def fold(self, seed: int, fold: int, num_folds: int) -> list[int]:
        """The classes that are hidden together, as logit indices."""
        folds = assign_folds(len(self.head.rows), num_folds, torch.Generator().manual_seed(seed))
        return (folds == fold).nonzero()[:, 0].tolist()

    def hide(self, texts: str, classes: Sequence[int], *, test_classes_only: bool = False) -> Problem:
        """Hide classes, given as logit indices: their rows are gone, and their images are those of new classes.

        With `test_classes_only` only images of the classes stay that are not `validation_classes`.
        """
        head, hidden = self.head, torch.zeros(len(self.head.rows), dtype=torch.bool)
        hidden[list(classes)] = True
        kept, new = (~hidden).nonzero()[:, 0], hidden.nonzero()[:, 0]
        logit_of_class = torch.cat([kept, new]).argsort()
        shown = ~validation_classes(len(hidden))[head.labels] if test_classes_only else slice(None)
        target = logit_of_class[head.labels[shown]]
        return Problem(head.rows[kept], *self._describe(texts, kept, new), head.features[shown], target)

    def _describe(self, texts: str, kept: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
        """Descriptors of the classes that are kept and of the new ones."""
        if texts in self._vectors:
            return self._vectors[texts][kept], self._vectors[texts][new]
        descriptors, as_new = self._look_up(texts)
        chosen = [as_new[index] for index in new.tolist()]
        return descriptors[kept], encode_descriptors(chosen, self._encoder, self._progress, seen_descriptors=descriptors[kept])

    def _look_up(self, texts: str) -> tuple[Tensor, list[ClassText]]:
        """Descriptors of every class as a seen one, and texts of every class as a new one."""
        if texts not in self._looked_up:
            seen, new = class_texts(self.head.names, texts, self._descriptions)
            self._looked_up[texts] = encode_descriptors(seen, self._encoder, self._progress), new
        return self._looked_up[texts]


def class_texts(
    names: Sequence[ClassName], texts: str, descriptions: Mapping[str, str | Sequence[str]] | None = None
) -> tuple[list[ClassText], list[ClassText]]:
    """Every class's text where it is seen, and where it is new; not for the kinds of `texts` that are vectors."""
    if texts == "described":
        described, _ = resolve_class_texts(names, [], descriptions or {})
        return described, described
    # The name alone, as a user types it: which of its senses it has is for the package to find out.
    seen, typed = resolve_class_texts(names, [ClassName(name.name) for name in names])
    if texts == "lemma":
        return seen, typed
    new = [_only(text, texts.removeprefix("new-")) for text in seen]
    return (seen if texts.startswith("new-") else new), new


def _only(text: ClassText, part: str) -> ClassText:
    """A class's text with a part of what is known."""
    if part == "synset":
        return text
    if part == "no-kind":
        return replace(text, kind=None)
    return ClassText(
        text.name,
        text.lemmas if part == "definition" else (text.name,),
        definition=text.definition if part == "definition" else None,
        sentence=text.sentence if part == "sentence" else None,
        sense=text.sense,
    )


def count_senses(names: Sequence[ClassName], new: Sequence[ClassText], hidden: Sequence[int]) -> dict[str, float]:
    """How many of the hidden names were taken in another sense than the class has, or found no sense."""
    pairs = [(names[index].sense, new[index].sense) for index in hidden]
    other = sum(true is not None and taken is not None and true.key != taken.key for true, taken in pairs)
    lost = sum(taken is None for _, taken in pairs)
    return {"new_names": float(len(hidden)), "other_sense": float(other), "no_definition": float(lost)}


def _read_descriptions(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArgumentValueError(f"The file '{path}' could not be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise ArgumentValueError(f"The file '{path}' must hold one JSON object, class name -> text or list of texts.")
    return content


def _plot(results: Sequence[Result], folder: Path) -> list[str]:
    made = {}
    for texts in dict.fromkeys(result.setting.descriptors for result in results):
        table, told = select(results, descriptors=texts), f"hidden classes told by: {texts}"
        head, bars, curves = table[0].setting.head, f"bars-{texts}.png", f"seen-unseen-{texts}.png"
        made[bars] = plot_bars(table, folder / bars, title=f"ImageNet, {told}")
        made[curves] = plot_seen_unseen(select(table, head=head), folder / curves, title=f"{head}, {told}")
    for score, name in (("harmonic_mean", "H"), ("zsl_accuracy", "T1")):
        file, points = f"self-score-{name}.png", self_score_points(results, score)
        made[file] = plot_self_score(points, folder / file, title="Self-score and truth") is not None
    return [file for file, is_there in made.items() if is_there]
