"""The one-line call: read it aloud, it is the method."""

from __future__ import annotations

import importlib.metadata
import warnings
from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from timm_inject.activation import Activation, resolve_activation
from timm_inject.calibration import CALIBRATIONS, CalibratedRows, calibrate_rows
from timm_inject.class_names import (
    ClassName,
    label_names_for_config,
    resolve_seen_class_names,
    resolve_unseen_class_names,
)
from timm_inject.class_texts import ClassText, resolve_class_texts
from timm_inject.confidence import MAX_NAMES, estimate_names
from timm_inject.descriptors import encode_descriptors, sentences_of
from timm_inject.encoder import EncoderSource, resolve_encoder
from timm_inject.errors import ArgumentTypeError, ArgumentValueError, WeakClassWarning, list_some
from timm_inject.explanation import leans_on, rows_at_once
from timm_inject.fitting import FittedMapper, fit_and_crossfit
from timm_inject.head import Head, Leaf, check_not_projection, find_head, read_rows, resize_head, unwrap_model
from timm_inject.incremental import EarlierRows, Settings, hash_rows, identify_settings, plan_earlier_rows, text_of, written_rows
from timm_inject.mappers import ProgressCallback, create_mapper
from timm_inject.mappers.crossfit import MIN_CLASSES
from timm_inject.record import InjectedClass, InjectionRecord, find_record, start_record
from timm_inject.selection import AUTO, choose_mapper
from timm_inject.trained_mapper import TrainedMapper, find_trained_mapper
from timm_inject.version import __version__

__all__ = ["CALIBRATIONS", "inject", "texts_to_encode"]

# Below this estimate `inject` warns. Real photos of names so estimated: docs/benchmarks.md.
WEAK = 0.25
_LEANS_SHOWN = 5
# Below this many seen classes `inject` warns: in the paper's curve T1 on CUB falls from 60.9 (150) to 29.5 (25) and 14.3 (12).
FEW_SEEN = 25

Descriptions = Mapping[str, str | Sequence[str]] | Literal["auto"] | None


def inject(
    model: nn.Module,
    unseen_class_names: Iterable[str] | Mapping[str, str | None],
    *,
    seen_class_names: Sequence[str] | str | None = None,
    descriptions: Descriptions = "auto",
    encoder: EncoderSource | None = None,
    mapper: str | Path | TrainedMapper = "icis",
    calibration: Literal["harmonic", "keep-seen"] | None = "harmonic",
    activation: Activation | None = None,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> nn.Module:
    """Give a trained timm classifier new classes from their names, without an image.

    The model is patched in place, all or nothing: every check and all training come before the first write. Its seen rows
    keep their bits; the new ones are appended in the given order. A classifier of several layers gets rows in each of them. The
    head's parameters are new objects, so an optimizer made before needs `refresh_optimizer`.

    Args:
        model: A timm classifier with trained weights; wrappers (`torch.compile`, DataParallel, averaged copies) are looked
            through.
        unseen_class_names: Names, or a mapping name -> description (None to have it looked up).
        seen_class_names: Names in logit order, or a label set that timm ships, such as "imagenet-1k". None takes them from
            the model's own config.
        descriptions: "auto" looks up short definitions in what timm ships; a mapping gives descriptions of your own, by name,
            for new or seen classes: a text, several texts, which are averaged, or the WordNet id of the meaning to take; None
            uses names alone.
        encoder: A sentence-transformers model id or folder, or an object with `encode(list[str]) -> array (n, dim)`. None
            takes `sentence-transformers/all-MiniLM-L6-v2`. Embeddings that were computed before do too: a mapping
            text -> vector, a `PrecomputedEncoder` or its file; see `texts_to_encode`.
        mapper: A name from the registry, `timm_inject.mapper_names()`; or a mapper that `fit_mapper` trained for this model, its
            folder, or its id on the Hub. "auto" tries the quick ones on hidden seen classes and takes the best.
        calibration: How new rows compete with the seen ones, chosen without images: "harmonic" balances seen and unseen
            accuracy, "keep-seen" aims to let 1% of the seen predictions move (on photos it can be more than twice that), None
            keeps the raw prediction, which mostly loses to seen rows and is what heads of two classes get whatever is given.
        activation: How the head was trained and is read: "softmax"; "sigmoid", each class by itself, so that new classes must
            pass a probability of one half; or "sigmoid-top1", with binary cross-entropy, but the largest logit decides. None
            takes what earlier injections took, what the model's config states (`problem_type`), or what its tag implies
            ("a1_in1k" is "sigmoid-top1"), else "softmax".
        seed: Everything random follows from it; the global random state is neither read nor changed.
        progress: Called as `progress(step, done, total)`, a text and two numbers, while something slow runs.

    Returns:
        The widened head, the object that `model.get_classifier()` returns. Where timm makes that a tuple, it is a new one each
        time, of the same layers.

    Warns:
        WeakClassWarning: Names are unlikely to work, with the share of their images that each may win (the record holds the
            figure of every name as `confidence`), for classes injected before where that is new; or nothing but their name is
            known, where the seen classes have descriptions; or the head knows fewer than 25 classes.

    Raises:
        TimmInjectError: One of its subclasses, with what came, what was expected and how to fix it; the model is then
            exactly as it was.

    Examples:
        >>> import timm, timm_inject
        >>> model = timm.create_model("resnet50.a1_in1k", pretrained=True)
        >>> head = timm_inject.inject(model, ["okapi", "electric scooter"])
        >>> head.out_features
        1002
    """
    trained = find_trained_mapper(mapper)
    mapper = trained.facts.mapper if trained else mapper
    mapper = _check_settings(mapper, calibration, seed)
    head = find_head(model)
    rows = [read_rows(leaf) for leaf in head.leaves]
    classes = _resolve_classes(model, head, unseen_class_names, seen_class_names, descriptions)
    if classes.num_seen < MIN_CLASSES:  # none can be hidden; `_warn_of_weak` says so
        calibration = None
    activation = resolve_activation(unwrap_model(model), activation, classes.record, classes.num_seen)
    loaded = resolve_encoder(encoder)
    seen_rows = [part[: classes.num_seen] for part in rows]
    if trained:
        trained.check_fits(head, seen_rows, classes.seen_texts, loaded, seed)
    seen_descriptors = trained.descriptors if trained else encode_descriptors(classes.seen_texts, loaded, progress)
    if mapper == AUTO:
        feature_dim = head.leaves[0].feature_dim
        mapper = choose_mapper(
            seen_descriptors,
            seen_rows[0],
            feature_dim=feature_dim,
            calibration=calibration,
            activation=activation,
            seed=seed,
            progress=progress,
        )
    settings = identify_settings(
        classes.record,
        mapper=mapper,
        calibration=calibration,
        activation=activation,
        seed=seed,
        encoder_id=loaded.encoder_id,
        seen_texts=classes.seen_texts,
        seen_descriptors=seen_descriptors,
        seen_rows=seen_rows,
    )
    earlier = plan_earlier_rows(classes.record, rows, settings)
    unseen_descriptors = encode_descriptors([*earlier.texts, *classes.unseen_texts], loaded, progress)
    fitted = [  # each layer of the head has its own features, so a mapper of its own
        trained.fitted(layer, part)
        if trained
        else fit_and_crossfit(mapper, seen_descriptors, part, seed=seed, unseen_descriptors=unseen_descriptors, progress=progress)
        for layer, part in enumerate(seen_rows)
    ]
    predicted = [
        _predict(*part, unseen_descriptors, calibration, activation, seed) for part in zip(fitted, head.leaves, strict=True)
    ]
    new_rows = [part.rows for part in predicted]
    hashes = hash_rows(written_rows(head, new_rows))
    outlooks = _look_ahead(classes, fitted[0], unseen_descriptors, new_rows[0], head.leaves[0], calibration, activation, seed)
    made = {"encoder": loaded.encoder_id, "mapper": mapper, "calibration": calibration, "activation": activation, "seed": seed}
    record = _make_record(classes, made, predicted[0].self_score, settings, earlier, hashes, outlooks)
    _warn_of_weak(record, classes)
    if descriptions is not None:
        _warn_of_undescribed(classes)
    kept, appended = earlier.merge(head, new_rows)
    return resize_head(model, head, appended, kept=kept, config=_label_config(classes), record=record.to_dict())


def texts_to_encode(
    model: nn.Module,
    unseen_class_names: Iterable[str] | Mapping[str, str | None] = (),
    *,
    seen_class_names: Sequence[str] | str | None = None,
    descriptions: Descriptions = "auto",
) -> list[str]:
    """List the texts that `inject` would give to the encoder, to have them embedded elsewhere; see `PrecomputedEncoder`.

    Args:
        model: As in `inject`; it is not changed.
        unseen_class_names: As in `inject`; none for `fit_mapper` and `self_score`.
        seen_class_names: As in `inject`.
        descriptions: As in `inject`.

    Returns:
        Each text once: of the seen classes, of those that were injected before, then of the new ones.

    Raises:
        TimmInjectError: One of its subclasses, as in `inject`.
    """
    if not isinstance(unseen_class_names, str | Mapping) and isinstance(unseen_class_names, Iterable):
        unseen_class_names = list(unseen_class_names)
    classes = _resolve_classes(model, find_head(model), unseen_class_names, seen_class_names, descriptions, may_be_none=True)
    texts = [*classes.seen_texts, *(text_of(entry) for entry in classes.record.classes if entry.lemmas), *classes.unseen_texts]
    return list(dict.fromkeys(sentence for text in texts for sentence in sentences_of(text)))


@dataclass(frozen=True, slots=True)
class _Classes:
    """Every class of the patched model, in logit order.

    Attributes:
        names: Seen, earlier injected and new classes.
        num_seen: How many the model was trained on.
        seen_texts: Of these.
        unseen_texts: Of the new classes.
        record: Of what was injected before, or of nothing; such rows are predictions themselves, so nothing is learned from
            them.
    """

    names: list[ClassName]
    num_seen: int
    seen_texts: list[ClassText]
    unseen_texts: list[ClassText]
    record: InjectionRecord


def _check_settings(mapper: object, calibration: object, seed: object) -> str:
    if not isinstance(mapper, str):
        raise ArgumentTypeError(
            f"`mapper` must be a name from the registry, got {type(mapper).__name__}. A mapper of `fit_mapper`, its folder or its "
            "Hub id will do too."
        )
    if mapper != AUTO:
        create_mapper(mapper)
    if calibration not in CALIBRATIONS:
        known = ", ".join(repr(name) for name in CALIBRATIONS)
        raise ArgumentValueError(f"`calibration` must be one of {known}, got {calibration!r}.")
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise ArgumentTypeError(f"`seed` must be an int, got {type(seed).__name__}.")
    if not 0 <= seed < 2**63:
        raise ArgumentValueError(f"`seed` must be between 0 and 2**63 - 1, got {seed}.")
    return mapper


def _resolve_classes(
    model: nn.Module,
    head: Head,
    unseen_class_names: Iterable[str] | Mapping[str, str | None],
    seen_class_names: Sequence[str] | str | None,
    descriptions: Descriptions,
    *,
    may_be_none: bool = False,
) -> _Classes:
    record = find_record(unwrap_model(model)) or start_record(unwrap_model(model), head.num_classes)
    num_seen = record.num_seen
    if seen_class_names is None:
        check_not_projection(model, head)
        known = resolve_seen_class_names(unwrap_model(model), head.num_classes)
    else:
        known = resolve_seen_class_names(unwrap_model(model), num_seen, seen_class_names)
        known += [ClassName(entry.name) for entry in record.classes]
    known[num_seen:] = [_with_meaning(entry, old) for entry, old in zip(known[num_seen:], record.classes, strict=True)]
    no_names = may_be_none and isinstance(unseen_class_names, Sized) and len(unseen_class_names) == 0
    unseen = [] if no_names else resolve_unseen_class_names(unseen_class_names, known, num_seen=num_seen)
    seen_texts, unseen_texts = resolve_class_texts(known[:num_seen], unseen, descriptions)
    return _Classes([*known, *unseen], num_seen, seen_texts, unseen_texts, record)


def _with_meaning(entry: ClassName, injected: InjectedClass) -> ClassName:
    """An injected class with the meaning that the record says was taken, so that another sense of its name can be added."""
    text = text_of(injected)
    return replace(entry, synset=text.synset, description=text.description)


def _predict(
    fitted: FittedMapper, leaf: Leaf, unseen_descriptors: Tensor, calibration: str | None, activation: str, seed: int
) -> CalibratedRows:
    """Rows of one layer for the new classes, in the given order, learned from its rows for the seen ones alone."""
    new_rows = torch.empty(len(unseen_descriptors), fitted.rows.shape[1], dtype=torch.float32, device="cpu")
    size = rows_at_once(len(fitted.rows))
    for rows, part in zip(new_rows.split(size), unseen_descriptors.split(size), strict=True):
        rows.copy_(fitted.mapper.predict_rows(part))
    return calibrate_rows(fitted, new_rows, calibration, feature_dim=leaf.feature_dim, seed=seed, activation=activation)


@dataclass(frozen=True, slots=True)
class _Outlook:
    """What the record says about one predicted row."""

    leans_on: tuple[tuple[str, float], ...]
    confidence: float | None = None
    warning: str | None = None


def _look_ahead(
    classes: _Classes,
    fitted: FittedMapper,
    unseen_descriptors: Tensor,
    new_rows: Tensor,
    leaf: Leaf,
    calibration: str | None,
    activation: str,
    seed: int,
) -> list[_Outlook]:
    """Estimate how the rows of the first layer will do, and what they are made of."""
    names = [entry.name for entry in classes.names[: classes.num_seen]]
    leans = leans_on(fitted.rows, new_rows, names, feature_dim=leaf.feature_dim, max_shown=_LEANS_SHOWN)
    if classes.num_seen < MIN_CLASSES or len(new_rows) > MAX_NAMES:
        return [_Outlook(shares) for shares in leans]
    estimates = estimate_names(
        fitted.descriptors,
        fitted.rows,
        unseen_descriptors,
        new_rows,
        feature_dim=leaf.feature_dim,
        seed=seed,
        activation=activation,
    )
    weak = 0.0 if calibration is None else WEAK  # raw rows were not made to win anything yet
    return [
        _Outlook(shares, round(value, 4), _describe_weakness(value, among_new) if value < weak else None)
        for shares, value, among_new in zip(leans, estimates.accuracy.tolist(), estimates.zsl_accuracy.tolist(), strict=True)
    ]


def _describe_weakness(accuracy: float, among_new: float) -> str:
    return f"estimated to win {accuracy:.0%} of its own images over all classes, and {among_new:.0%} among the new classes alone"


def _warn_of_undescribed(classes: _Classes) -> None:
    bare = [text.name for text in classes.unseen_texts if not text.descriptions]
    described = sum(bool(text.descriptions) for text in classes.seen_texts)
    if bare and 2 * described >= len(classes.seen_texts):
        warnings.warn(
            f"No description was found for {len(bare)} of {len(classes.unseen_texts)} new classes: "
            f"{list_some(repr(name) for name in bare)}. Names alone do much worse. Look for a spelling that timm's definitions "
            "have, or describe what can be seen of them (`descriptions=`).",
            WeakClassWarning,
            stacklevel=3,
        )


def _warn_of_weak(record: InjectionRecord, classes: _Classes) -> None:
    num_new = len(classes.unseen_texts)
    if record.num_seen < FEW_SEEN:
        harmonic = record.self_score.get("harmonic_mean")
        figure = "" if harmonic is None else f" Hidden in turn, they reach a harmonic mean of {harmonic:.0%} (self-score)."
        if record.num_seen < MIN_CLASSES:
            figure = " None of so few can be hidden, so the new rows are not calibrated and there is no self-score."
        warnings.warn(
            f"The head knows {record.num_seen} classes, and a mapper learns little from fewer than {FEW_SEEN}.{figure} Inject into "
            "a model with more classes, or test with `evaluate` on photos before you rely on the new ones.",
            WeakClassWarning,
            stacklevel=3,
        )
    before = zip(record.classes[:-num_new], classes.record.classes, strict=True)
    for which, entries in (
        (f"{num_new} new classes", [entry for entry in record.classes[-num_new:] if entry.warning]),
        ("the classes injected before", [entry for entry, old in before if entry.warning and not old.warning]),
    ):
        if entries:
            entries.sort(key=lambda entry: entry.confidence or 0.0)
            shown = list_some(f"{entry.name!r} ({entry.confidence:.0%} of its own images)" for entry in entries)
            warnings.warn(
                f"{len(entries)} of {which} are unlikely to work, estimated without images: {shown}. The head or the text hardly "
                "tells them from other classes. Describe what can be seen of them (`descriptions=`), or test with `evaluate` on "
                "photos before you rely on them.",
                WeakClassWarning,
                stacklevel=3,
            )


def _label_config(classes: _Classes) -> dict[str, Any]:
    """The labels for timm's config; timm shows the descriptions, transformers the labels."""
    labels = label_names_for_config(classes.names)
    shown = {label: ", ".join((entry.name, *entry.synonyms)) for label, entry in zip(labels, classes.names, strict=True)}
    return {"label_names": labels, "label_descriptions": shown}


def _make_record(
    classes: _Classes,
    made: dict[str, Any],
    self_score: dict[str, float],
    settings: Settings,
    earlier: EarlierRows,
    hashes: Sequence[str],
    outlooks: Sequence[_Outlook],
) -> InjectionRecord:
    """The record with the new classes, `made` with these settings; of rows predicted again, hash and outlook change."""
    num_again = len(earlier.again)
    known = list(classes.record.classes)
    for position, digest, ahead in zip(earlier.again, hashes, outlooks, strict=False):
        known[position] = replace(known[position], row_hash=digest, **_fields_of(ahead))
    first = classes.num_seen + len(known)
    new = [
        InjectedClass(
            name=text.name,
            index=first + position,
            descriptions=text.descriptions,
            description_source=text.source,
            synset=text.synset.wnid if text.synset else None,
            lemmas=text.lemmas,
            settings=settings.key,
            row_hash=hashes[num_again + position],
            **made,
            **_fields_of(outlooks[num_again + position]),
        )
        for position, text in enumerate(classes.unseen_texts)
    ]
    packages = ("timm", "torch", "sentence-transformers")
    versions = {"timm_inject": __version__} | {package: importlib.metadata.version(package) for package in packages}
    return replace(
        classes.record,
        classes=(*known, *new),
        versions=versions,
        self_score=self_score,
        probes=classes.record.probes | {settings.key: settings.probe},
    )


def _fields_of(outlook: _Outlook) -> dict[str, Any]:
    return {"leans_on": outlook.leans_on, "confidence": outlook.confidence, "warning": outlook.warning}
