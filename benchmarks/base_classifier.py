"""The classifier that is given new classes: linear softmax on image features of the seen classes."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.scores import linear_logits
from timm_inject.images import accuracy_by_class, mean_accuracy
from timm_inject.text import ProgressCallback

# "held-out": epochs and settings are chosen on a part of the training images. "paper": the epoch is the one that is best on
# the seen test images, as in the published code; its seen accuracy is flattered.
Protocol = Literal["held-out", "paper"]

# Source: the published code of Christensen et al., ICCV 2023 (initial weights, Adam, batches of 16, 100 epochs, features as
# they are).
_INIT_STD = 0.02
_BATCH_SIZE = 16
_EPOCHS = 100
_LEARNING_RATE = 1e-4
# For "held-out", initial weights and weight decay are a choice too (the published code has no decay), and training stops when so
# many epochs have brought nothing.
_TRIED = ((_INIT_STD, 0.0), (_INIT_STD, 1.0), (0.0, 0.0), (0.0, 1.0))
_PATIENCE = 10
_HELD_OUT_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class BaseClassifier:
    """A trained head, (num_seen, feature_dim + 1) with the bias as last column, and how it was trained.

    Its selection accuracy is the mean per-class accuracy on the images that epochs and settings were chosen on.
    """

    rows: Tensor
    epochs: int
    weight_decay: float
    init_std: float
    selection_accuracy: float


def train_base_classifier(
    features: Tensor,
    labels: Tensor,
    *,
    seed: int,
    selection: tuple[Tensor, Tensor] | None = None,
    epochs: int = _EPOCHS,
    progress: ProgressCallback | None = None,
) -> BaseClassifier:
    """Train the head on the seen classes.

    Args:
        features: (num_images, feature_dim), of training images.
        labels: (num_images,) in [0, num_seen).
        seed: Initial weights, order of the images and which of them are held out.
        selection: Features and labels to choose the epoch on, as the paper does with the seen test images. None holds a
            fifth of each class's training images out, chooses epochs, initial weights and weight decay there, and trains again
            on all.
        epochs: At most so many.
        progress: Called after each epoch.
    """
    train = partial(_train, seed=seed, progress=progress)
    if selection is not None:
        return train(features, labels, selection, epochs)
    held_out = _hold_out(labels, torch.Generator().manual_seed(seed))
    kept, validation = ((features[part], labels[part]) for part in (~held_out, held_out))
    tried = [train(*kept, validation, epochs, init_std, decay, _PATIENCE) for init_std, decay in _TRIED]
    best = max(tried, key=lambda classifier: classifier.selection_accuracy)
    again = train(features, labels, None, best.epochs, best.init_std, best.weight_decay)
    return replace(again, selection_accuracy=best.selection_accuracy)


def _train(
    features: Tensor,
    labels: Tensor,
    selection: tuple[Tensor, Tensor] | None,
    epochs: int,
    init_std: float = _INIT_STD,
    weight_decay: float = 0.0,
    patience: int | None = None,
    *,
    seed: int,
    progress: ProgressCallback | None,
) -> BaseClassifier:
    """The classifier of the epoch that is best on the selection, or of the last one without a selection."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.empty(int(labels.max()) + 1, features.shape[1], dtype=torch.float32).normal_(0.0, init_std, generator=generator)
    bias = torch.zeros(len(weight), dtype=torch.float32)
    parameters = [weight.requires_grad_(), bias.requires_grad_()]
    optimizer = torch.optim.AdamW(parameters, lr=_LEARNING_RATE, weight_decay=weight_decay, fused=True)
    best = BaseClassifier(torch.empty(0), 0, weight_decay, init_std, -1.0)
    for epoch in range(1, epochs + 1):
        for batch in torch.randperm(len(features), generator=generator).split(_BATCH_SIZE):
            loss = cross_entropy(features[batch] @ weight.T + bias, labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if progress is not None:
            progress("Train the base classifier", epoch, epochs)
        rows, accuracy = torch.cat([weight.detach(), bias.detach()[:, None]], dim=1), 0.0
        if selection is not None:
            predicted = linear_logits(selection[0], rows).argmax(1)
            accuracy = mean_accuracy(accuracy_by_class(predicted, selection[1])) or 0.0
        if selection is None or accuracy > best.selection_accuracy:
            best = replace(best, rows=rows, epochs=epoch, selection_accuracy=accuracy)
        elif patience is not None and epoch - best.epochs >= patience:
            break
    return best


def _hold_out(labels: Tensor, generator: torch.Generator) -> Tensor:
    """A fifth of each class's images, at least one of a class with two: (num_images,) bool."""
    held_out = torch.zeros(len(labels), dtype=torch.bool)
    for index in labels.unique():
        images = (labels == index).nonzero()[:, 0]
        count = min(max(1, round(_HELD_OUT_SHARE * len(images))), len(images) - 1)
        held_out[images[torch.randperm(len(images), generator=generator)[:count]]] = True
    return held_out
