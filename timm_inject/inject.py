"""The one-line call: read it aloud, it is the method."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from timm_inject.calibration import (
    Activation,
    CalibratedRows,
    calibrate_rows,
    check_calibration,
    estimate_names,
    leans_on,
    rows_at_once,
    settle_calibration,
)
from timm_inject.errors import ArgumentTypeError, InjectionWarning, WeakClassWarning, join_problems, list_some
from timm_inject.head import resize_head
from timm_inject.hub import TrainedMapper, find_obstacles, find_trained_mapper
from timm_inject.injected import (
    EarlierRows,
    InjectedClass,
    InjectionRecord,
    Settings,
    hash_rounded_rows,
    hash_rows,
    hash_seen_rows,
    identify_settings,
    ids_of_seen,
    label_config,
    plan_earlier_rows,
    with_note,
    written_rows,
)
from timm_inject.mappers import MIN_CLASSES, FittedMapper, create_mapper
from timm_inject.problem import Problem, pose_problem
from timm_inject.text import Descriptions, EncoderSource, ProgressCallback, encode_descriptors, match_key
from timm_inject.version import installed_versions

__all__ = ["inject"]

_LEANS_SHOWN = 5
# Below this many seen classes `inject` warns: in the paper's curve T1 on CUB falls from 60.9 (150) to 29.5 (25) and 14.3 (12).
FEW_SEEN = 25


def inject(
    model: nn.Module,
    unseen_class_names: Iterable[str] | Mapping[str, str | None],
    *,
    seen_class_names: Sequence[str] | str | None = None,
    descriptions: Descriptions = "auto",
    encoder: EncoderSource | None = None,
    mapper: str | Path | TrainedMapper = "icis",
    calibration: Literal["balanced", "harmonic", "keep-seen"] | float | None = "balanced",
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
        descriptions: "auto" looks each name up in the project's lexicon, then in timm's synsets. A mapping adds texts of your own,
            by name, for new or seen classes, beside what is looked up: a text or several; the WordNet id of the sense to take; or
            `[id, text]`. A callable `names -> texts`, such as `LanguageModel`, writes texts for the classes that the lexicon
            lacks. None uses names alone.
        encoder: A sentence-transformers model (its id, its folder, or loaded; with a prompt, a `SentenceEncoder`), or
            an object with `encode(list[str]) -> array (n, dim)`. None takes `sentence-transformers/all-MiniLM-L6-v2`. Embeddings
            that were computed before do too: a mapping text -> vector, a `PrecomputedEncoder` or its file; see `texts_to_encode`.
        mapper: A name from the registry, `timm_inject.mapper_names()`; or a mapper that `fit_mapper` trained for this model, its
            folder, or its id on the Hub.
        calibration: How new rows compete with the seen ones, chosen without images. "balanced": the offset with the best harmonic
            mean of seen and new accuracy that moves at most max(1%, 2 k / (n + k)) of the seen classes' images to the k new
            classes (n seen). "harmonic": the best harmonic mean, whatever it costs. "keep-seen": at most 1% moves. A float: at
            most that share moves. None: the raw prediction, which mostly loses to seen rows; heads of two classes get it,
            and with "balanced" so does "icis-paper", whose rows an offset ruins.
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
        WeakClassWarning: Names are unlikely to work, with the reason in words, for classes injected before where that is new (from
            ten names on the record holds the share of its images that each may win as `confidence`; of fewer such figures mean
            nothing); or nothing but their name is known, where the seen classes have descriptions; or the head knows fewer than 25
            classes, or is unlike a trained one.
        InjectionWarning: A name has two likely senses; or the patched model can't be saved as it is.

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
    mapper = _check_mapper(trained.facts.mapper if trained else mapper)
    check_calibration(calibration)
    problem = pose_problem(
        model,
        unseen_class_names,
        seen_class_names=seen_class_names,
        descriptions=descriptions,
        encoder=encoder,
        activation=activation,
        seed=seed,
    )
    _warn_of_unsaveable(problem)
    # Of fewer classes none can be hidden; `_warn_of_weak` says so.
    settled = settle_calibration(calibration, create_mapper(mapper)) if problem.num_seen >= MIN_CLASSES else None
    fitted = problem.take_trained(trained) if trained else []
    seen_descriptors = trained.descriptors if trained else problem.encode_seen(progress)
    made = {
        "encoder": problem.encoder.encoder_id,
        "mapper": mapper,
        "calibration": settled,
        "activation": problem.activation,
        "seed": seed,
    }
    settings = identify_settings(
        problem.record, made, seen_texts=problem.seen_texts, seen_descriptors=seen_descriptors, seen_rows=problem.seen_rows
    )
    earlier = plan_earlier_rows(problem.record, problem.rows, settings)
    unseen_descriptors = encode_descriptors(
        [*earlier.texts, *problem.unseen_texts], problem.encoder, progress, seen_descriptors=seen_descriptors
    )
    fitted = fitted or problem.fit(mapper, seen_descriptors, unseen_descriptors=unseen_descriptors, progress=progress)
    predicted = [_predict(layer, unseen_descriptors, settled) for layer in fitted]
    new_rows = [part.rows for part in predicted]
    written = written_rows(problem.head, new_rows)
    hashes = [
        {"row_hash": digest, "rounded_hashes": rounded}
        for digest, rounded in zip(hash_rows(written), hash_rounded_rows(written), strict=True)
    ]
    described = [bool(text.descriptions) for text in (*earlier.texts, *problem.unseen_texts)]
    outlooks = _look_ahead(problem, fitted[0], unseen_descriptors, new_rows[0], settled, described)
    record = _make_record(problem, made, predicted[0].self_score, settings, earlier, hashes, outlooks)
    _warn_of_weak(record, problem)
    if descriptions is not None:
        _warn_of_texts(problem)
    kept, appended = earlier.merge(problem.head, new_rows)
    num_known = len(problem.names) - len(problem.unseen_texts)
    labels = label_config(problem.model, problem.names[:num_known], problem.names[num_known:])
    config = labels | with_note(problem.model, record)
    return resize_head(model, problem.head, appended, kept=kept, config=config, record=record.to_dict())


def _check_mapper(mapper: object) -> str:
    if not isinstance(mapper, str):
        raise ArgumentTypeError(
            f"`mapper` must be a name from the registry, got {type(mapper).__name__}. A mapper of `fit_mapper`, its folder or its "
            "Hub id will do too."
        )
    create_mapper(mapper)
    return mapper


def _predict(fitted: FittedMapper, unseen_descriptors: Tensor, calibration: str | float | None) -> CalibratedRows:
    """Rows of one layer for the new classes, in the given order, learned from its rows for the seen ones alone."""
    new_rows = torch.empty(len(unseen_descriptors), fitted.rows.shape[1], dtype=torch.float32, device="cpu")
    size = rows_at_once(len(fitted.rows))
    for rows, part in zip(new_rows.split(size), unseen_descriptors.split(size), strict=True):
        rows.copy_(fitted.mapper.predict_rows(part))
    return calibrate_rows(fitted, new_rows, calibration)


@dataclass(frozen=True, slots=True)
class _Outlook:
    """What the record says about one predicted row."""

    leans_on: tuple[tuple[str, float], ...]
    confidence: float | None = None
    warning: str | None = None


def _look_ahead(
    problem: Problem,
    fitted: FittedMapper,
    unseen_descriptors: Tensor,
    new_rows: Tensor,
    calibration: str | float | None,
    described: Sequence[bool],
) -> list[_Outlook]:
    """Estimate how the rows of the first layer will do, and what they are made of."""
    names = [entry.name for entry in problem.names[: problem.num_seen]]
    leans = leans_on(fitted.rows, new_rows, names, feature_dim=fitted.feature_dim, max_shown=_LEANS_SHOWN)
    if problem.num_seen < MIN_CLASSES:
        return [_Outlook(shares) for shares in leans]
    estimates = estimate_names(fitted, unseen_descriptors, new_rows, seen_names=names, has_text=described)
    told = [
        None if value != value or not estimates.ranks else round(value, 4)  # NaN outside the sample
        for value in estimates.accuracy.tolist()
    ]
    doubts = [None] * len(leans) if calibration is None else estimates.doubts()  # raw rows were not made to win anything yet
    return [_Outlook(*parts) for parts in zip(leans, told, doubts, strict=True)]


def _warn_of_unsaveable(problem: Problem) -> None:
    obstacles = find_obstacles(problem.model)
    if obstacles:
        warnings.warn(
            f"timm can't save this model as it is: {join_problems(obstacles)}. It works without that, but for `save_for_hf` and "
            "`push_to_hf_hub`.",
            InjectionWarning,
            stacklevel=3,
        )


def _warn_of_texts(problem: Problem) -> None:
    """Say which names may not mean what the user means, or are not described."""
    texts = problem.unseen_texts
    bare = [text.name for text in texts if not text.descriptions]
    if bare and 2 * sum(bool(text.descriptions) for text in problem.seen_texts) >= problem.num_seen:
        warnings.warn(
            f"No description was found for {len(bare)} of {len(texts)} new classes: {list_some(map(repr, bare))}. Names alone do "
            "much worse. Try another word for it, or describe what can be seen of them (`descriptions=`).",
            WeakClassWarning,
            stacklevel=3,
        )
    # A hint has told which one is meant.
    ambiguous = [
        (text, other)
        for text in texts
        for other in text.alternatives[:1]
        if other.sentence and match_key(text.name) in map(match_key, other.names)
    ]
    if ambiguous:
        shown = list_some(f"{text.name!r} is taken as {text.kind}, not as {other.names[0]!r}" for text, other in ambiguous)
        warnings.warn(
            f"{len(ambiguous)} of {len(texts)} names have two likely senses: {shown}. If the other one is meant, use its name, or "
            "a hint in brackets such as 'crane (machine)'; `look_up` shows all senses.",
            InjectionWarning,
            stacklevel=3,
        )
    twins: dict[str, list[str]] = {}
    for text in texts:
        if text.sense and not text.user_texts:
            twins.setdefault(text.sense.key, []).append(text.name)
    same = [names for names in twins.values() if len(names) > 1]
    if same:
        shown = list_some(" and ".join(map(repr, names)) for names in same)
        warnings.warn(
            f"New classes mean the same and will share their images: {shown}. Keep one of them, or describe what tells them apart.",
            InjectionWarning,
            stacklevel=3,
        )


def _warn_of_weak(record: InjectionRecord, problem: Problem) -> None:
    num_new = len(problem.unseen_texts)
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
    before = zip(record.classes[:-num_new], problem.record.classes, strict=True)
    for which, entries in (
        (f"{num_new} new classes", [entry for entry in record.classes[-num_new:] if entry.warning]),
        ("the classes injected before", [entry for entry, old in before if entry.warning and not old.warning]),
    ):
        if entries:
            entries.sort(key=lambda entry: 0.0 if entry.confidence is None else entry.confidence)
            shown = list_some(f"{entry.name!r} ({entry.warning})" for entry in entries)
            warnings.warn(
                f"{len(entries)} of {which} are unlikely to work, estimated without images: {shown}. The head or the text hardly "
                "tells them from other classes. Describe what can be seen of them (`descriptions=`), or test with `evaluate` on "
                "photos before you rely on them.",
                WeakClassWarning,
                stacklevel=3,
            )


def _make_record(
    problem: Problem,
    made: dict[str, Any],
    self_score: dict[str, float],
    settings: Settings,
    earlier: EarlierRows,
    hashes: Sequence[dict[str, Any]],
    outlooks: Sequence[_Outlook],
) -> InjectionRecord:
    """The record with the new classes, `made` with these settings; of rows predicted again, hash and outlook change."""
    num_again = len(earlier.again)
    known = list(problem.record.classes)
    for position, fields_of_row, ahead in zip(earlier.again, hashes, outlooks, strict=False):
        known[position] = replace(known[position], **fields_of_row, **_fields_of(ahead))
    first = problem.num_seen + len(known)
    new = [
        InjectedClass(
            name=text.name,
            index=first + position,
            descriptions=text.seen_in_photos,
            description_source=text.source,
            synset=text.wnid,
            definition=text.definition,
            sentence=text.sentence,
            kind=text.kind,
            sense=text.sense.key if text.sense else None,
            lemmas=text.lemmas,
            settings=settings.key,
            **hashes[num_again + position],
            **made,
            **_fields_of(outlooks[num_again + position]),
        )
        for position, text in enumerate(problem.unseen_texts)
    ]
    return replace(
        problem.record,
        classes=(*known, *new),
        versions=installed_versions("timm", "torch", "sentence-transformers"),
        self_score=self_score,
        probes=problem.record.probes | {settings.key: settings.probe},
        seen_labels=ids_of_seen(problem.names[: problem.num_seen]),
        seen_hash=hash_seen_rows(problem.seen_rows),
    )


def _fields_of(outlook: _Outlook) -> dict[str, Any]:
    return {"leans_on": outlook.leans_on, "confidence": outlook.confidence, "warning": outlook.warning}
