"""What every call has to find out first: the head, its classes, their texts, and how to encode them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass

from torch import Tensor, nn

from timm_inject.calibration import Activation, resolve_activation
from timm_inject.errors import ArgumentTypeError, ArgumentValueError
from timm_inject.head import Head, check_not_projection, find_head, read_rows, unwrap_model
from timm_inject.hub import TrainedMapper
from timm_inject.injected import InjectionRecord, find_record, injected_classes, known_classes, start_record
from timm_inject.mappers import FittedMapper, fit_and_crossfit
from timm_inject.text import (
    ClassName,
    ClassText,
    Descriptions,
    EncoderHandle,
    EncoderSource,
    ProgressCallback,
    encode_descriptors,
    resolve_class_texts,
    resolve_encoder,
    resolve_seen_class_names,
    resolve_unseen_class_names,
)

__all__ = ["Problem", "check_seed", "pose_problem"]


@dataclass(frozen=True, slots=True)
class Problem:
    """A head, what it knows, and what it is to learn.

    Attributes:
        model: Without wrappers.
        head: Its classifier.
        rows: One tensor a layer of the head, (num_classes, row_dim), rows of injected classes included.
        record: Of what was injected before, or of nothing. Such rows are predictions, so nothing is learned from them.
        names: Every class in logit order: seen, injected before, new.
        seen_texts: What the mapper learns from.
        unseen_texts: Of the new classes.
        encoder: Not loaded yet.
        activation: How the head is read: "softmax", "sigmoid" or "sigmoid-top1".
        seed: Everything random follows from it.
    """

    model: nn.Module
    head: Head
    rows: tuple[Tensor, ...]
    record: InjectionRecord
    names: tuple[ClassName, ...]
    seen_texts: tuple[ClassText, ...]
    unseen_texts: tuple[ClassText, ...]
    encoder: EncoderHandle
    activation: Activation
    seed: int

    @property
    def num_seen(self) -> int:
        """How many classes the model was trained on."""
        return self.record.num_seen

    @property
    def seen_rows(self) -> tuple[Tensor, ...]:
        """The trained rows, (num_seen, row_dim) a layer."""
        return tuple(part[: self.num_seen] for part in self.rows)

    def encode_seen(self, progress: ProgressCallback | None = None) -> Tensor:
        """Descriptors of the seen classes, (num_seen, descriptor_dim)."""
        return encode_descriptors(self.seen_texts, self.encoder, progress)

    def fit(
        self,
        mapper: str,
        descriptors: Tensor,
        *,
        unseen_descriptors: Tensor | None = None,
        progress: ProgressCallback | None = None,
    ) -> list[FittedMapper]:
        """Fit a mapper for each layer of the head, as each layer reads features of its own.

        Args:
            mapper: Registry name.
            descriptors: (num_seen, descriptor_dim).
            unseen_descriptors: For mappers that look at them.
            progress: As in `Mapper.fit`.
        """
        return [
            fit_and_crossfit(
                mapper,
                descriptors,
                rows,
                feature_dim=leaf.feature_dim,
                activation=self.activation,
                seed=self.seed,
                unseen_descriptors=unseen_descriptors,
                progress=progress,
            )
            for leaf, rows in zip(self.head.leaves, self.seen_rows, strict=True)
        ]

    def take_trained(self, trained: TrainedMapper) -> list[FittedMapper]:
        """The same from a mapper that was trained before.

        Raises:
            MapperError: It was trained for another model, other texts, another encoder or another seed.
        """
        trained.check_fits(self.head, self.seen_rows, self.seen_texts, self.encoder, self.seed)
        return [
            trained.fitted(layer, rows, feature_dim=leaf.feature_dim, activation=self.activation)
            for layer, (leaf, rows) in enumerate(zip(self.head.leaves, self.seen_rows, strict=True))
        ]


def pose_problem(
    model: nn.Module,
    unseen_class_names: Iterable[str] | Mapping[str, str | None] = (),
    *,
    seen_class_names: Sequence[str] | str | None = None,
    descriptions: Descriptions = "auto",
    encoder: EncoderSource | None = None,
    activation: Activation | None = None,
    seed: int = 0,
    may_be_none: bool = False,
) -> Problem:
    """Find everything out without training or changing anything.

    Args:
        model: As in `inject`, like all that follow.
        unseen_class_names: The new classes.
        seen_class_names: The classes that the model knows.
        descriptions: Texts beside the names.
        encoder: The text encoder.
        activation: How the head is read.
        seed: Everything random follows from it.
        may_be_none: Whether there may be no new class.

    Raises:
        TimmInjectError: One of its subclasses, as in `inject`.
    """
    check_seed(seed)
    head = find_head(model)
    rows = tuple(read_rows(leaf) for leaf in head.leaves)
    plain = unwrap_model(model)
    record = find_record(plain) or start_record(plain, head.num_classes)
    num_seen = record.num_seen
    if seen_class_names is None:
        check_not_projection(model, head)
        known = known_classes(plain, record, head.num_classes)
    else:
        known = [*resolve_seen_class_names(plain, num_seen, seen_class_names), *injected_classes(plain, record)]
    no_names = may_be_none and isinstance(unseen_class_names, Sized) and len(unseen_class_names) == 0
    unseen = [] if no_names else resolve_unseen_class_names(unseen_class_names, known, num_seen=num_seen)
    seen_texts, unseen_texts = resolve_class_texts(known[:num_seen], unseen, descriptions)
    return Problem(
        model=plain,
        head=head,
        rows=rows,
        record=record,
        names=(*known, *unseen),
        seen_texts=tuple(seen_texts),
        unseen_texts=tuple(unseen_texts),
        activation=resolve_activation(plain, activation, record, num_seen),
        encoder=resolve_encoder(encoder),
        seed=seed,
    )


def check_seed(seed: object) -> None:
    """Refuse what torch's generators do not take.

    Raises:
        ArgumentTypeError, ArgumentValueError: It is no int, or out of range.
    """
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise ArgumentTypeError(f"`seed` must be an int, got {type(seed).__name__}.")
    if not 0 <= seed < 2**63:
        raise ArgumentValueError(f"`seed` must be between 0 and 2**63 - 1, got {seed}.")
