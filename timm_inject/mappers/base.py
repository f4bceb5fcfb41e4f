"""What every row predictor has in common."""

from __future__ import annotations

import contextlib
import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor

from timm_inject.errors import MapperError
from timm_inject.text import ProgressCallback

__all__ = ["Mapper", "isolated_float32", "normalize"]


class Mapper(ABC):
    """Predicts classifier rows from class descriptors, after `fit` on the seen classes.

    A subclass implements `_fit`, which returns everything that was learned as named tensors, and `_predict`, which reads
    `self.tensors`. So every mapper is saved, cached and compared in the same way.

    Attributes:
        name: The name in the registry.
        uses_unseen_descriptors: Whether training looks at the descriptors of the new classes (never at anything else of
            them). The rows of such a mapper depend on which names are injected together.
        num_folds: Into how many folds the seen classes are dealt for calibration.
        crossfits: For how many of these the mapper is fitted again: all of them, but for mappers that are slow to fit.
        knows_length: Whether predicted rows are about as long as rows of the head, and not only point where they do.
        is_calibrated: Whether calibration "balanced" gives its rows a length and an offset; else they stay as they are predicted.
        choices: Which of the learned tensors are settings that `_fit` chose for the head.
        tensors: What was learned; empty before `fit`.
        given: Choices of another mapper, which `_fit` takes over; empty where it has to choose.
    """

    name: ClassVar[str]
    uses_unseen_descriptors: ClassVar[bool] = False
    num_folds: ClassVar[int] = 5
    crossfits: ClassVar[int] = 5
    knows_length: ClassVar[bool] = True
    is_calibrated: ClassVar[bool] = True
    choices: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.given: dict[str, Tensor] = {}

    def unfitted(self) -> Mapper:
        """An unfitted mapper of this kind that takes over what this one chose: quick, and the nearest to it on other classes."""
        other = copy.copy(self)
        other.tensors = {}
        other.given = {choice: self.tensors[choice] for choice in self.choices}
        return other

    def fit(
        self,
        descriptors: Tensor,
        rows: Tensor,
        *,
        seed: int = 0,
        unseen_descriptors: Tensor | None = None,
        progress: ProgressCallback | None = None,
    ) -> Mapper:
        """Learn from the seen classes.

        Args:
            descriptors: (num_seen, descriptor_dim), float32, L2-normalised.
            rows: (num_seen, row_dim), float32: weight and, where the head has one, bias as the last column.
            seed: Seeds a generator of the mapper's own; the global random state is neither read nor changed.
            unseen_descriptors: (num_unseen, descriptor_dim), for mappers with `uses_unseen_descriptors`.
            progress: Called with the step's name, how much is done and how much there is.

        Returns:
            The mapper itself.

        Raises:
            MapperError: Shapes that do not fit each other, values that are not finite, or fewer than 2 classes.
        """
        _check_training_set(descriptors, rows)
        if unseen_descriptors is not None:
            _check_descriptors(unseen_descriptors, descriptors.shape[1])
        with isolated_float32():
            # Clones: a tensor made under inference_mode cannot take part in training.
            tensors = self._fit(
                descriptors.float().clone(),
                rows.float().clone(),
                torch.Generator().manual_seed(seed),
                None if unseen_descriptors is None else unseen_descriptors.float().clone(),
                progress,
            )
        # In the layout that a saved mapper has: another one can change the last bits of a product.
        self.tensors = {key: tensor.contiguous() for key, tensor in tensors.items()}
        return self

    def predict_rows(self, descriptors: Tensor) -> Tensor:
        """Predict one row a descriptor.

        Args:
            descriptors: (num_classes, descriptor_dim), made like those that the mapper was fitted on.

        Returns:
            (num_classes, row_dim), float32, on the scale of the rows that the mapper was fitted on.

        Raises:
            MapperError: The mapper is not fitted, or the descriptors have another width than those it was fitted on.
        """
        if not self.tensors:
            raise MapperError(f"The mapper {self.name!r} is not fitted. Call `fit`, or `timm_inject.fit_mapper(model)`.")
        _check_descriptors(descriptors, int(self.tensors["descriptor_dim"]))
        with isolated_float32(), torch.no_grad():
            return self._predict(descriptors.float().clone())

    @abstractmethod
    def _fit(
        self,
        descriptors: Tensor,
        rows: Tensor,
        generator: torch.Generator,
        unseen_descriptors: Tensor | None,
        progress: ProgressCallback | None,
    ) -> dict[str, Tensor]:
        """Return what was learned; the key "descriptor_dim" is required."""

    @abstractmethod
    def _predict(self, descriptors: Tensor) -> Tensor:
        """Return (num_classes, row_dim)."""


@contextlib.contextmanager
def isolated_float32() -> Iterator[None]:
    """Compute in float32 with gradients available, whatever the caller has switched on around us."""
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast("cpu", enabled=False), torch.device("cpu"):
        yield


def normalize(vectors: Tensor) -> Tensor:
    """Scale each row of (n, dim) to length 1; a zero row stays zero."""
    return torch.nn.functional.normalize(vectors, dim=1)


def _check_training_set(descriptors: Tensor, rows: Tensor) -> None:
    if rows.ndim != 2 or descriptors.ndim != 2 or len(rows) != len(descriptors):
        raise MapperError(
            f"A mapper needs one descriptor a row: got descriptors {tuple(descriptors.shape)} and rows {tuple(rows.shape)}, "
            f"expected (num_seen, descriptor_dim) and (num_seen, row_dim)."
        )
    if len(rows) < 2:
        raise MapperError(f"A mapper needs at least 2 seen classes to learn from, got {len(rows)}.")
    _check_descriptors(descriptors, descriptors.shape[1])
    if not torch.isfinite(rows).all():
        raise MapperError("The rows to learn from hold NaN or infinite values.")


def _check_descriptors(descriptors: Tensor, descriptor_dim: int) -> None:
    if descriptors.ndim != 2 or descriptors.shape[1] != descriptor_dim:
        raise MapperError(
            f"The mapper was fitted on descriptors of width {descriptor_dim}, got shape {tuple(descriptors.shape)}. Use the "
            f"encoder and the descriptions that it was fitted with."
        )
    if not torch.isfinite(descriptors).all():
        raise MapperError("The descriptors hold NaN or infinite values.")
