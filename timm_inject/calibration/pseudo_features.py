"""Stand-ins for image features, drawn from the head's weights alone, on which calibration can be tried without images.

A feature of class y is its place in feature space, traces of the classes most like it (an image of a wolf has something of a
dog), and noise:

    feature = scale * even(place_y + trace * sum_j strength_j * max(cos(y, j), 0) * place_j + noise)

Plain Gaussian noise would be wrong: on real photos the strongest rival of the true class is nearly always one of its
nearest classes. `even` brings the logits of every feature to one spread, as a network keeps its features at about one size: what
makes an image look like other classes makes it look less like its own. `trace` is set so that the head classifies a stated share
of the features right, then `scale` so that its mean confidence on them is the stated one. On photos of the validation classes
(see `benchmark.heldout`; EfficientNet-Lite heads without a fifth of the classes) the largest logit is 8.8 +- 1.4 for seen classes
and 5.8 +- 1.7 for hidden ones; on features that are made even 9.0 +- 1.5 and 5.8 +- 2.2, on others 9.9 +- 3.8 and 7.0 +- 4.5.

For a softmax head that is all, as it ignores what the logits of an image have in common. A sigmoid head does not: the mean row,
which is taken off the weights here, and the biases put all logits of an image at some level, and which one depends on images
that are not at hand. So `level`, taken to be the same for all images, is set so that the right class passes a probability of one
half on a stated share of the features, then `scale` so that their binary cross-entropy is least, as training does. A stated
mean confidence would not do: with one level for all, it may be out of reach at any scale. Features of a sigmoid head are not made
even: their own logits would then be too much alike to pass or not to pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from timm_inject.cache import content_key, load_or_compute
from timm_inject.mappers import RowSpan, normalize
from timm_inject.version import ROWS_VERSION

__all__ = ["FeatureModel", "PseudoFeatures", "draw_pseudo_features", "fit_feature_model", "relative_biases"]

# Set so that margins and rivals of pseudo-features look like those of 1,300 ImageNet photos under an EfficientNet-Lite0
# head that knows all their classes; scores of hidden classes on the same photos were in view.
_RELATED = 16  # classes that can leave a trace
_TRACE_SHARE = 0.5  # share of them that does
# Noise of a logit, beside 1 for the class's own; for heads trained to the end, then for heads that were stopped early: with 0.20
# the spread of logits and the fifth largest are nearer to those of training images kept from heads for 55 of CUB-100's seen
# classes.
_NOISES = (0.12, 0.20)
# How much places and noise spread along a direction, as a power of how much the rows do; first for heads trained to the end,
# then for heads that were stopped early. Long training makes up for wide directions by small weights, so that the rows' spread
# says little. Measured on those photos, and on training images of the 73 seen classes of CUB-100 with heads that were stopped
# early: means 0.25 and 0.96 to 1.07, noise 0.19 and 0.51 to 0.59. The harmonic mean with that dataset's unseen classes was in
# view while these were chosen, so that it is no independent check of them.
_PLACE_POWERS = (0.25, 1.0)
_NOISE_POWERS = (0.25, 0.55)
# Rows of a head that was stopped early hold a part that is alike in all directions, which the features do not have. This share
# of the smallest spread is taken for it; it is 39% of the rows' variance in those heads and 1% in the ImageNet heads.
_FLAT_SHARE = 0.97
_MUCH_FLAT = 0.4
# A head is taken to be wrong on this share of images times the logarithm of its number of classes: 17% at 1000 classes, 10% at 55.
# Measured: 0.021 for the EfficientNet-Lite heads among 800 classes, on photos of validation classes (see `benchmark.heldout`; these
# photos are easier than most), 0.022 for heads of 55 of the seen classes of CUB-100, on training images that were kept from them.
_ERROR = 0.025
_MIN_ACCURACY = 0.5
# Mean confidence, beside the accuracy; measured on the same images: 0.79 and 0.84.
_CONFIDENCE = 0.82
# Accuracy of a sigmoid head by its largest logit. Chosen on heads for 55 of the seen classes of CUB-100, trained with binary
# cross-entropy: with 0.9, which they reach, the rehearsed offset is further too high.
_SIGMOID_ACCURACY = 0.80
# Share of images on which the right class passes one half, in linear heads trained with binary cross-entropy: 0.61 and 0.65 on test
# images of the 73 seen classes of CUB-100, 0.65 on made-up clusters on which the head was right 8 times in 10.
_PASSING = 0.65
_MAX_SOLVED = 2**20  # logits that the scale and level of a sigmoid head are sought on
_EXPONENTS = (-2.5, 1.0)  # of the scale, powers of 0.1
_PER_CLASS = 2
_MIN_FEATURES, _MAX_FEATURES = 1500, 4096
# Numbers of a `FeatureModel`, beside its tensors: those that it always has, and those that may be None.
_NUMBERS, _OPTIONAL = ("place_power", "noise_power", "place_gain", "noise_gain", "trace", "scale"), ("size", "level")


@dataclass(frozen=True, slots=True)
class PseudoFeatures:
    """Features to try rows on.

    Attributes:
        features: (num_features, feature_dim).
        labels: (num_features,) the class that each stands for.
        level: As in `FeatureModel`.
    """

    features: Tensor
    labels: Tensor
    level: float | None = None


@dataclass(frozen=True, slots=True)
class FeatureModel:
    """What the features of one head look like.

    Attributes:
        basis: (rank, feature_dim), the directions in which the head's weights differ.
        spread: (rank,) how much they differ along each, 1 for the first; without the part that is alike in all.
        place_power: How much places spread along a direction, as a power of `spread`.
        noise_power: The same for the noise.
        place_gain: Brings the logit of a class on its own place to 1, on average.
        noise_gain: Brings the noise of a logit to its stated size.
        trace: Strength of the traces.
        size: Spread of every feature's logits before `scale`; None where features are not made even.
        scale: Factor on all features.
        level: What all logits of a sigmoid head have in common on every feature, so that a class passes one half where its own
            part is above -level; None where the largest logit decides.
    """

    basis: Tensor
    spread: Tensor
    place_power: float
    noise_power: float
    place_gain: float
    noise_gain: float
    trace: float
    scale: float
    size: float | None = None
    level: float | None = None

    def places(self, weights: Tensor) -> Tensor:
        """Where features of classes with these (centred) weights lie: (n, feature_dim) -> (n, feature_dim)."""
        return ((weights @ self.basis.T) * self.spread**self.place_power) @ self.basis * self.place_gain

    def draw(self, weights: Tensor, labels: Tensor, generator: torch.Generator, *, places: Tensor | None = None) -> PseudoFeatures:
        """Draw features of the classes `labels` in a world whose classes have these (centred) weights, and `places`, if known."""
        places = self.places(weights) if places is None else places
        noise = _draw_noise(len(labels), self.spread**self.noise_power, self.basis, generator) * self.noise_gain
        traces = _draw_traces(weights, places, labels, generator)
        features = places[labels] + self.trace * traces + noise
        if self.size is not None:
            features = features * (self.size / self.spread_of_logits(features))
        return PseudoFeatures(features * self.scale, labels, self.level)

    def spread_of_logits(self, features: Tensor) -> Tensor:
        """How much each feature's logits differ, up to a factor: (n, feature_dim) -> (n, 1)."""
        return ((features @ self.basis.T) * self.spread).norm(dim=1, keepdim=True)


def fit_feature_model(
    weights: Tensor, generator: torch.Generator, activation: str = "softmax"
) -> tuple[FeatureModel, PseudoFeatures]:
    """Learn what the features of a head look like, and draw some of every class; through the cache.

    Args:
        weights: (num_classes, feature_dim), the head's weights without bias, centred on their mean.
        generator: Draws which classes leave traces, and the noise.
        activation: As `resolve_activation` gives it.
    """

    def compute() -> dict[str, Tensor]:
        model, pseudo = _fit(weights, generator, activation)
        numbers = {name: getattr(model, name) for name in (*_NUMBERS, *_OPTIONAL)}
        fields = {name: torch.as_tensor(value, dtype=torch.float64) for name, value in numbers.items() if value is not None}
        drawn = {"features": pseudo.features, "labels": pseudo.labels, "generator": generator.get_state()}
        return {"basis": model.basis, "spread": model.spread} | fields | drawn

    # What is drawn next must be the same with and without the cache, so the generator's state is in the key and in the entry.
    key = content_key(ROWS_VERSION, torch.__version__, "feature model", activation, generator.get_state(), weights)
    entry = load_or_compute("features", key, compute)
    generator.set_state(entry["generator"])
    numbers = {name: entry[name].item() for name in _NUMBERS}
    size, level = (entry[name].item() if name in entry else None for name in _OPTIONAL)
    model = FeatureModel(entry["basis"], entry["spread"], size=size, level=level, **numbers)
    return model, PseudoFeatures(entry["features"], entry["labels"], model.level)


def _fit(weights: Tensor, generator: torch.Generator, activation: str) -> tuple[FeatureModel, PseudoFeatures]:
    labels = _draw_labels(len(weights), generator)
    span = RowSpan.of(weights)
    spread, youth = _without_flat_part(span.singular)
    settings = (_PLACE_POWERS, _NOISE_POWERS, _NOISES)
    place_power, noise_power, noise_size = (done + (early - done) * youth for done, early in settings)
    unset = FeatureModel(span.basis, spread, place_power, noise_power, 1.0, 1.0, 0.0, 1.0)
    place_gain = 1 / (unset.places(weights) * weights).sum(1).mean().item()
    places = unset.places(weights) * place_gain
    noise = _draw_noise(len(labels), spread**noise_power, unset.basis, generator)
    noise_gain = noise_size / (noise @ weights[:2048].T).std().item()
    traces = _draw_traces(weights, places, labels, generator)
    plain, traced = (places[labels] + noise_gain * noise) @ weights.T, traces @ weights.T
    accuracy = _SIGMOID_ACCURACY if activation != "softmax" else max(_MIN_ACCURACY, 1 - _ERROR * math.log(len(weights)))
    trace = _solve_falling(lambda t: _accuracy(plain + t * traced, labels), accuracy, 0.0, 16.0)
    features = places[labels] + trace * traces + noise_gain * noise
    logits = plain + trace * traced
    size = level = None
    # Searched in the exponent, as the scale may be anything.
    if activation == "softmax":
        spreads = unset.spread_of_logits(features)
        size = spreads.mean().item()
        evening = size / spreads
        features, logits = features * evening, logits * evening
        exponent = _solve_falling(lambda e: _confidence(logits * 10**-e), _CONFIDENCE * accuracy, *_EXPONENTS)
    else:
        exponent, fitted_level = _fit_sigmoid(logits, labels)
        level = fitted_level if activation == "sigmoid" else None
    scale = 10**-exponent
    model = replace(unset, place_gain=place_gain, noise_gain=noise_gain, trace=trace, scale=scale, size=size, level=level)
    return model, PseudoFeatures(features * scale, labels, level)


def _without_flat_part(singular: Tensor) -> tuple[Tensor, float]:
    """Spread of the rows without the part that is alike in all directions, and from 0 to 1 how early training was stopped.

    Args:
        singular: (rank,) singular values of the centred weights, falling.

    Returns:
        (rank,) with 1 for the first; and 0 for a head that was trained to the end.
    """
    flat = _FLAT_SHARE * singular[-1]
    if len(singular) < 2 or flat >= 0.9 * singular[0]:
        return singular / singular[0], 0.0  # two or three classes, or random rows: no direction stands out
    share = (flat.square() * len(singular) / singular.square().sum()).item()
    learned = (singular.square() - flat.square()).sqrt()
    return learned / learned[0], min(1.0, share / _MUCH_FLAT)


def draw_pseudo_features(weights: Tensor, generator: torch.Generator, activation: str = "softmax") -> PseudoFeatures:
    """Draw features that a head with these weights could have been trained on; arguments as in `fit_feature_model`."""
    return fit_feature_model(weights, generator, activation)[1]


def relative_biases(rows: Tensor, new_rows: Tensor, feature_dim: int) -> Tensor:
    """Biases to go with pseudo-features, (num_seen + num_unseen,): of new classes, the distance from the mean of the seen ones.

    Seen classes get zero, as the features are drawn as if their biases did not differ.
    """
    if rows.shape[1] == feature_dim:
        return torch.zeros(len(rows) + len(new_rows), dtype=torch.float32)
    return torch.cat([torch.zeros(len(rows), dtype=torch.float32), new_rows[:, feature_dim] - rows[:, feature_dim].mean()])


def _draw_labels(num_classes: int, generator: torch.Generator) -> Tensor:
    per_class = max(_PER_CLASS, -(-_MIN_FEATURES // num_classes))
    labels = torch.arange(num_classes).repeat(per_class)
    return labels[torch.randperm(len(labels), generator=generator)[:_MAX_FEATURES]].sort().values


def _draw_noise(count: int, spread: Tensor, basis: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(count, len(spread), generator=generator, dtype=torch.float32) * spread @ basis


def _draw_traces(weights: Tensor, places: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    directions = normalize(weights)
    similarity = directions[labels] @ directions.T
    similarity.scatter_(1, labels[:, None], -2.0)
    nearest = similarity.topk(min(_RELATED, max(1, len(weights) // 4)), dim=1)
    shape = nearest.values.shape
    strength = torch.randn(shape, generator=generator, dtype=torch.float32).square() * nearest.values.clamp_min(0)
    strength = strength * (torch.rand(shape, generator=generator, dtype=torch.float32) < _TRACE_SHARE)
    return torch.zeros(len(labels), len(weights), dtype=torch.float32).scatter_(1, nearest.indices, strength) @ places


def _accuracy(logits: Tensor, labels: Tensor) -> float:
    return (logits.argmax(1) == labels).float().mean().item()


def _confidence(logits: Tensor) -> float:
    return logits.softmax(1).amax(1).mean().item()


def _fit_sigmoid(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    """The exponent of the scale and the level: the stated share passes one half, then binary cross-entropy is least."""
    step = -(-logits.numel() // _MAX_SOLVED)
    logits, labels = logits[::step], labels[::step]
    own = logits.gather(1, labels[:, None])
    half = own.quantile(1 - _PASSING).item()
    above = logits - half

    def slope(exponent: float) -> float:
        """Derivative of the cross-entropy by the scale."""
        return ((above * 10**-exponent).sigmoid() * above).sum(1).mean().item() - (own.mean().item() - half)

    exponent = _solve_falling(slope, 0.0, *_EXPONENTS)
    return exponent, -half * 10**-exponent


def _solve_falling(function: Callable[[float], float], target: float, low: float, high: float) -> float:
    """The x between low and high where a falling function has the value; the nearer end where it has not."""
    for _ in range(16):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) > target else (low, middle)
    return (low + high) / 2
