"""The calls that train or look without changing a model: each poses the problem and asks one room."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from torch import nn

from timm_inject.calibration import (
    Activation,
    Explanation,
    SelfScore,
    check_calibration,
    explain_row,
    score_hidden_classes,
    settle_calibration,
)
from timm_inject.errors import ArgumentTypeError, ArgumentValueError, list_some
from timm_inject.head import find_head, read_rows, unwrap_model
from timm_inject.hub import TrainedMapper, find_trained_mapper, keep_mapper
from timm_inject.injected import base_of, injection_record, known_classes, text_of
from timm_inject.mappers import create_mapper
from timm_inject.problem import pose_problem
from timm_inject.text import (
    ClassText,
    Descriptions,
    EncoderSource,
    PrecomputedEncoder,
    ProgressCallback,
    match_key,
    resolve_seen_class_names,
    sentences_of,
)

__all__ = ["explain", "fit_mapper", "look_up", "self_score", "texts_to_encode"]

# Nothing is encoded, so that no model is looked for.
_NO_ENCODER = PrecomputedEncoder([""], [[1.0]])


def fit_mapper(
    model: nn.Module,
    *,
    seen_class_names: Sequence[str] | str | None = None,
    descriptions: Descriptions = "auto",
    encoder: EncoderSource | None = None,
    mapper: str = "icis",
    activation: Activation | None = None,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> TrainedMapper:
    """Train a mapper once for a model and an encoder, with no new names; `inject(..., mapper=it)` uses it any number of times.

    The rows are those that `inject` writes with the mapper's name, bit for bit; "icis-paper" alone differs, as it also looks at
    the texts of the new classes when `inject` trains it.

    Args:
        model: A timm classifier with trained weights; classes that were injected into it are left out of account. It is not
            changed.
        seen_class_names: As in `inject`.
        descriptions: As in `inject`, for the seen classes.
        encoder: As in `inject`.
        mapper: A name from the registry.
        activation: As in `inject`; a trained mapper serves any.
        seed: Everything random follows from it.
        progress: Called as `progress(step, done, total)`.

    Raises:
        TimmInjectError: One of its subclasses, as in `inject`.
    """
    if not isinstance(mapper, str):
        raise ArgumentTypeError(f"`mapper` must be a name from the registry, got {type(mapper).__name__}.")
    create_mapper(mapper)
    problem = pose_problem(
        model,
        seen_class_names=seen_class_names,
        descriptions=descriptions,
        encoder=encoder,
        activation=activation,
        seed=seed,
        may_be_none=True,
    )
    fitted = problem.fit(mapper, problem.encode_seen(progress), progress=progress)
    config = getattr(problem.model, "pretrained_cfg", None)
    architecture = config.get("architecture") if isinstance(config, Mapping) else None
    base_model = problem.record.base_model or base_of(problem.model)[0]
    return keep_mapper(
        fitted,
        name=mapper,
        head=problem.head,
        texts=problem.seen_texts,
        encoder_id=problem.encoder.encoder_id,
        model=str(base_model or architecture or type(problem.model).__name__),
    )


def self_score(
    model: nn.Module,
    *,
    num_new: int | None = None,
    seen_class_names: Sequence[str] | str | None = None,
    descriptions: Descriptions = "auto",
    encoder: EncoderSource | None = None,
    mapper: str | Path | TrainedMapper = "icis",
    calibration: str | float | None = "balanced",
    activation: Activation | None = None,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> SelfScore:
    """Hide seen classes in folds, predict their rows from their names and compare with the truth. No image is read.

    It speaks for names as varied as the seen ones. Names that resemble each other (thirty birds) do worse; what `inject` writes
    into the record as `confidence` is made for the names at hand. In a head of several layers it is the first that is scored.

    Args:
        model: A timm classifier; it is not changed, and injected classes are left out of account.
        num_new: How many classes play new at a time; None takes a fifth of the seen ones, at most 200.
        seen_class_names: As in `inject`.
        descriptions: As in `inject`, for the seen classes.
        encoder: As in `inject`.
        mapper: As in `inject`.
        calibration: As in `inject`.
        activation: As in `inject`.
        seed: Seeds the folds, the mapper and the pseudo-features.
        progress: As in `inject`.

    Raises:
        TimmInjectError: One of its subclasses, as in `inject`; `MapperError` where the head has fewer than 3 seen classes.
    """
    check_calibration(calibration)
    trained = find_trained_mapper(mapper)
    name = trained.facts.mapper if trained else mapper
    if not isinstance(name, str):
        raise ArgumentTypeError(f"`mapper` must be a name from the registry, got {type(mapper).__name__}.")
    calibration = settle_calibration(calibration, create_mapper(name))
    problem = pose_problem(
        model,
        seen_class_names=seen_class_names,
        descriptions=descriptions,
        encoder=encoder,
        activation=activation,
        seed=seed,
        may_be_none=True,
    )
    fitted = problem.take_trained(trained) if trained else problem.fit(name, problem.encode_seen(progress), progress=progress)
    names = [text.name for text in problem.seen_texts]
    return score_hidden_classes(fitted[0], names, calibration, num_new=num_new, mapper=name, encoder=problem.encoder.encoder_id)


def explain(model: nn.Module, name: str, *, seen_class_names: Sequence[str] | str | None = None, seed: int = 0) -> Explanation:
    """Say which seen classes an injected row leans on, and which ones it may take images from. No image is read.

    In a head of several layers it is the first that is explained.

    Args:
        model: A model with injected classes, also a reloaded one.
        name: One of them.
        seen_class_names: As in `inject`; None takes them from the model.
        seed: Seeds the pseudo-features.

    Raises:
        ArgumentTypeError: `name` is no string.
        ArgumentValueError: The model has no injected class of that name, or none at all.
        UnknownSeenClassesError: The model's config does not name its classes, and `seen_class_names` does not either.
    """
    if not isinstance(name, str):
        raise ArgumentTypeError(f"`name` must be the name of one injected class, got {type(name).__name__}.")
    record = injection_record(model)
    entry = next((entry for entry in record.classes if match_key(entry.name) == match_key(name)), None)
    if entry is None:
        known = list_some(repr(entry.name) for entry in record.classes)
        raise ArgumentValueError(f"No class {name!r} was injected into this model. Injected: {known}.")
    head = find_head(model)
    leaf = head.leaves[0]
    plain = unwrap_model(model)
    if seen_class_names is None:
        classes = known_classes(plain, record, head.num_classes)
    else:
        classes = resolve_seen_class_names(plain, record.num_seen, seen_class_names)
    names = [seen.name for seen in classes[: record.num_seen]]
    return explain_row(read_rows(leaf), entry, names, feature_dim=leaf.feature_dim, seed=seed)


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
    problem = pose_problem(
        model,
        unseen_class_names,
        seen_class_names=seen_class_names,
        descriptions=descriptions,
        encoder=_NO_ENCODER,
        may_be_none=True,
    )
    earlier = [text_of(entry) for entry in problem.record.classes if entry.lemmas]
    texts = [*problem.seen_texts, *earlier, *problem.unseen_texts]
    return list(dict.fromkeys(sentence for text in texts for sentence in sentences_of(text)))


def look_up(
    model: nn.Module,
    names: Iterable[str] | Mapping[str, str | None],
    *,
    seen_class_names: Sequence[str] | str | None = None,
    descriptions: Descriptions = "auto",
) -> list[ClassText]:
    """Say what `inject` would take each name to mean. Nothing is trained or changed.

    Args:
        model: As in `inject`.
        names: As `unseen_class_names` of `inject`.
        seen_class_names: As in `inject`.
        descriptions: As in `inject`.

    Returns:
        One entry a name: the sense that is taken, its texts and kind, where they come from (`source`), and the other senses of the
        name (`alternatives`), each of which its WordNet id or a hint in brackets picks.

    Raises:
        TimmInjectError: One of its subclasses, as in `inject`.
    """
    problem = pose_problem(
        model,
        names,
        seen_class_names=seen_class_names,
        descriptions=descriptions,
        encoder=_NO_ENCODER,
    )
    return list(problem.unseen_texts)
