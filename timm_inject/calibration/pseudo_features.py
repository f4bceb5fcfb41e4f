"""Stand-ins for image features, drawn from the head's weights and the class texts alone, to try calibration on without images.

A feature of class y is the place of its images in feature space, traces of the classes most like it (an image of a wolf has
something of a dog), and noise:

    feature = scale * even(place_y + trace * sum_j strength_j * max(likeness_yj, 0) * place_j + noise)
    place_y ~ gain(weight_y) + likeness * sum_j cos(text_y, text_j) * gain(weight_j), of such a length that its own logit is 1

The second part of a place is what a head that was trained to the end hides: the better it keeps classes apart, the less its rows
show which of them look alike, while their images still do. New rows are predicted from text, so they point where classes that are
alike in text have much in common, and win more images than stand-ins of the rows alone let them. `likeness` is the least for which
logits of stand-ins follow the texts as much as logits of photos do.

`even` brings the logits of every feature to one spread, as a network keeps its features at about one size. `trace` is set so that
the head classifies a stated share of the features right, then `scale` so that its mean confidence on them is the stated one. Where
either cannot be reached, `PseudoFeatures.shortfall` says so.

For a softmax head that is all, as it ignores what the logits of an image have in common. A sigmoid head does not: the mean row,
which is taken off the weights here, and the biases put all logits of an image at some level, and which one depends on images
that are not at hand. So `level`, taken to be the same for all images, is set so that the right class passes a probability of one
half on a stated share of the features, then `scale` so that their binary cross-entropy is least, as training does. Features of a
sigmoid head are not made even: their own logits would then be too much alike to pass or not to pass.

How each constant was chosen, on which heads, and what was in view: docs/design.md ("Calibration").
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

__all__ = ["FeatureModel", "PseudoFeatures", "fit_feature_model", "relative_biases"]

# Each of these was chosen on heads and photos that docs/design.md ("Calibration") names.
_RELATED = 16  # classes that can leave a trace
_TRACE_SHARE = 0.5  # share of them that does
_NOISE = 0.12  # of a logit, beside 1 for the class's own
# How much places and noise spread along a direction, as a power of how much the rows do: heads trained to the end, stopped early.
_PLACE_POWERS = (0.25, 1.0)
_NOISE_POWERS = (0.25, 0.55)
# Rows of a head that was stopped early hold a part that is alike in all directions. So many of the weakest directions may be
# something else (a class that is in the head twice); this share of the next one is taken for that part.
_PASSED_OVER = 0.05
_FLAT_SHARE = 0.97
_MUCH_FLAT = 0.4  # share of the rows' variance in heads that were stopped early
# Correlation of what classes share in their logits and in their texts: .6 to .8 on photos, but for heads with label smoothing.
_LIKENESS = 0.6
_MAX_LIKENESS = 4.0
_LIKENESS_CLASSES = 600  # that it is sought on
_MIN_OWN = 0.3  # least own logit of a place before it is scaled to 1, beside the mean
_ERROR = 0.025  # share of images that a head is wrong on, times the logarithm of its number of classes
_MIN_ACCURACY = 0.5
_CONFIDENCE = 0.9  # mean confidence, beside the accuracy
_SIGMOID_ACCURACY = 0.80  # of a sigmoid head by its largest logit
_PASSING = 0.65  # share of images on which the right class of a sigmoid head passes one half
_TOLERANCE = 0.05  # by which accuracy and confidence may miss what they are set to
_MAX_SOLVED = 2**20  # logits that the scale and level of a sigmoid head are sought on
_EXPONENTS = (-2.5, 1.0)  # of the scale, powers of 0.1
_PER_CLASS = 2
_MIN_FEATURES, _MAX_FEATURES = 1500, 4096
_EPSILON = 1e-12
_TENSORS = ("basis", "spread", "text_centre", "text_places")
# Numbers of a `FeatureModel`, beside its tensors: those that it always has, and those that may be None.
_NUMBERS = (
    "place_power",
    "noise_power",
    "place_gain",
    "noise_gain",
    "likeness",
    "trace",
    "scale",
    "accuracy_missed",
    "confidence_missed",
)
_OPTIONAL = ("size", "level")


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
        text_centre: (descriptor_dim,) the mean descriptor of the seen classes.
        text_places: (descriptor_dim, feature_dim): a centred descriptor of length 1 times this is the sum of the seen classes'
            places, each as much as the texts are alike.
        place_power: How much places spread along a direction, as a power of `spread`.
        noise_power: The same for the noise.
        place_gain: Own logit of the mean place before it is scaled to 1; what a drawn place may fall short of.
        noise_gain: Brings the noise of a logit to its stated size.
        likeness: How much of the places of classes with like texts is in a place.
        trace: Strength of the traces.
        scale: Factor on all features.
        accuracy_missed: By how much the share of features that the head has right misses what it was set to.
        confidence_missed: The same for its mean confidence on them; 0 in a sigmoid head.
        size: Spread of every feature's logits before `scale`; None where features are not made even.
        level: What all logits of a sigmoid head have in common on every feature, so that a class passes one half where its own
            part is above -level; None where the largest logit decides.
    """

    basis: Tensor
    spread: Tensor
    text_centre: Tensor
    text_places: Tensor
    place_power: float
    noise_power: float
    place_gain: float = 1.0
    noise_gain: float = 1.0
    likeness: float = 0.0
    trace: float = 0.0
    scale: float = 1.0
    accuracy_missed: float = 0.0
    confidence_missed: float = 0.0
    size: float | None = None
    level: float | None = None

    @property
    def shortfall(self) -> str | None:
        """What the features miss of what they were set to, in words; None where they meet it."""
        missed = [
            f"{name} by {abs(value):.0%}"
            for name, value in (("accuracy", self.accuracy_missed), ("confidence", self.confidence_missed))
            if abs(value) > _TOLERANCE
        ]
        return " and ".join(missed) or None

    def places(self, weights: Tensor, descriptors: Tensor | None = None) -> Tensor:
        """Where features of classes with these (centred) weights and these descriptors lie, (n, feature_dim): own logits of 1.

        Without descriptors, nothing is taken from classes with like texts.
        """
        places = self.gained(weights)
        if descriptors is not None and self.likeness:
            places = places + self.likeness * (self.centred(descriptors) @ self.text_places)
        # w / |w|^2, so that short rows of rare classes are right as often as long ones.
        return places / (places * weights).sum(1, keepdim=True).clamp_min(_MIN_OWN * self.place_gain)

    def gained(self, weights: Tensor) -> Tensor:
        """The part of the places that the weights say, with own logits of 1: (n, feature_dim) -> (n, feature_dim)."""
        raw = ((weights @ self.basis.T) * self.spread**self.place_power) @ self.basis
        return raw / (raw * weights).sum(1, keepdim=True).clamp_min(_EPSILON)

    def centred(self, descriptors: Tensor) -> Tensor:
        """Descriptors about the mean of the seen ones, of length 1."""
        return normalize(descriptors - self.text_centre)

    def draw(self, weights: Tensor, labels: Tensor, generator: torch.Generator, *, places: Tensor) -> PseudoFeatures:
        """Draw features of the classes `labels` in a world whose classes have these (centred) weights and these `places`."""
        noise = _draw_noise(len(labels), self.spread**self.noise_power, self.basis, generator) * self.noise_gain
        features = places[labels] + self.trace * _draw_traces(weights, places, labels, generator) + noise
        if self.size is not None:
            features = features * (self.size / self.spread_of_logits(features))
        return PseudoFeatures(features * self.scale, labels, self.level)

    def spread_of_logits(self, features: Tensor) -> Tensor:
        """How much each feature's logits differ, up to a factor: (n, feature_dim) -> (n, 1)."""
        return ((features @ self.basis.T) * self.spread).norm(dim=1, keepdim=True)


def fit_feature_model(
    weights: Tensor, descriptors: Tensor | None, generator: torch.Generator, activation: str = "softmax"
) -> tuple[FeatureModel, PseudoFeatures]:
    """Learn what the features of a head look like, and draw some of every class; through the cache.

    Args:
        weights: (num_classes, feature_dim), the head's weights without bias, centred on their mean.
        descriptors: (num_classes, descriptor_dim); None where the texts are not at hand.
        generator: Draws which classes leave traces, and the noise.
        activation: As `resolve_activation` gives it.
    """

    def compute() -> dict[str, Tensor]:
        model, pseudo = _fit(weights, descriptors, generator, activation)
        numbers = {name: getattr(model, name) for name in (*_NUMBERS, *_OPTIONAL)}
        fields = {name: torch.as_tensor(value, dtype=torch.float64) for name, value in numbers.items() if value is not None}
        tensors = {name: getattr(model, name).contiguous() for name in _TENSORS}
        drawn = {"features": pseudo.features, "labels": pseudo.labels, "generator": generator.get_state()}
        return tensors | fields | drawn

    # What is drawn next must be the same with and without the cache, so the generator's state is in the key and in the entry.
    texts = [] if descriptors is None else [descriptors]
    key = content_key(ROWS_VERSION, torch.__version__, "feature model", activation, generator.get_state(), weights, *texts)
    entry = load_or_compute("features", key, compute)
    generator.set_state(entry["generator"])
    numbers = {name: entry[name].item() for name in (*_NUMBERS, *_OPTIONAL) if name in entry}
    model = FeatureModel(**{name: entry[name] for name in _TENSORS}, **numbers)  # type: ignore[arg-type]
    return model, PseudoFeatures(entry["features"], entry["labels"], model.level)


def _fit(
    weights: Tensor, descriptors: Tensor | None, generator: torch.Generator, activation: str
) -> tuple[FeatureModel, PseudoFeatures]:
    labels = _draw_labels(len(weights), generator)
    model = _place(weights, descriptors)
    places = model.places(weights, descriptors)
    noise = _draw_noise(len(labels), model.spread**model.noise_power, model.basis, generator)
    noise_gain = _NOISE / max((noise @ weights[:2048].T).std().item(), _EPSILON)
    traces = _draw_traces(weights, places, labels, generator)
    plain, traced = (places[labels] + noise_gain * noise) @ weights.T, traces @ weights.T
    wanted = _SIGMOID_ACCURACY if activation != "softmax" else max(_MIN_ACCURACY, 1 - _ERROR * math.log(len(weights)))
    trace = _solve_falling(lambda t: _accuracy(plain + t * traced, labels), wanted, 0.0, 16.0)
    features = places[labels] + trace * traces + noise_gain * noise
    logits = plain + trace * traced
    size = level = None
    # Searched in the exponent, as the scale may be anything.
    if activation == "softmax":
        spreads = model.spread_of_logits(features)
        size = spreads.mean().item()
        evening = size / spreads
        features, logits = features * evening, logits * evening
        exponent = _solve_falling(lambda e: _confidence(logits * 10**-e), _CONFIDENCE * wanted, *_EXPONENTS)
        confidence_missed = _confidence(logits * 10**-exponent) - _CONFIDENCE * wanted
    else:
        exponent, fitted_level = _fit_sigmoid(logits, labels)
        level = fitted_level if activation == "sigmoid" else None
        confidence_missed = 0.0
    scale = 10**-exponent
    model = replace(
        model,
        noise_gain=noise_gain,
        trace=trace,
        scale=scale,
        accuracy_missed=_accuracy(logits, labels) - wanted,
        confidence_missed=confidence_missed,
        size=size,
        level=level,
    )
    return model, PseudoFeatures(features * scale, labels, level)


def _place(weights: Tensor, descriptors: Tensor | None) -> FeatureModel:
    """A model that knows where the places are, and neither traces nor scale yet."""
    span = RowSpan.of(weights)
    spread, youth = _without_flat_part(span.singular)
    place_power, noise_power = (done + (early - done) * youth for done, early in (_PLACE_POWERS, _NOISE_POWERS))
    known = torch.zeros(len(weights), 1, dtype=torch.float32) if descriptors is None else descriptors
    centre = known.mean(0)
    model = FeatureModel(span.basis, spread, centre, torch.zeros(known.shape[1], weights.shape[1]), place_power, noise_power)
    if descriptors is None:
        return model
    model = replace(model, text_places=model.centred(descriptors).T @ model.gained(weights))
    likeness = _choose_likeness(model, weights, descriptors)
    added = likeness * (model.centred(descriptors) @ model.text_places)
    own = 1 + (added * weights).sum(1).mean().item()
    return replace(model, likeness=likeness, place_gain=own)


def _choose_likeness(model: FeatureModel, weights: Tensor, descriptors: Tensor) -> float:
    """The least likeness with which the logits of the places follow the texts as much as those of photos do."""
    some = slice(None, None, -(-len(weights) // _LIKENESS_CLASSES))
    few, texts = weights[some], model.centred(descriptors[some])
    others = ~torch.eye(len(few), dtype=torch.bool)
    said, told = model.gained(few) @ few.T, texts @ model.text_places @ few.T
    alike = (texts @ texts.T)[others]

    def lacking(likeness: float) -> float:
        return -torch.corrcoef(torch.stack([(said + likeness * told)[others], alike]))[0, 1].nan_to_num(1.0).item()

    return 0.0 if lacking(0.0) <= -_LIKENESS else _solve_falling(lacking, -_LIKENESS, 0.0, _MAX_LIKENESS)


def _without_flat_part(singular: Tensor) -> tuple[Tensor, float]:
    """Spread of the rows without the part that is alike in all directions, and from 0 to 1 how early training was stopped.

    Args:
        singular: (rank,) singular values of the centred weights, falling.

    Returns:
        (rank,) with 1 for the first; and 0 for a head that was trained to the end.
    """
    passed_over = math.ceil(_PASSED_OVER * len(singular))
    flat = _FLAT_SHARE * singular[max(0, len(singular) - 1 - passed_over)]
    if len(singular) < 2 or flat >= 0.9 * singular[0]:
        return singular / singular[0], 0.0  # two or three classes, or random rows: no direction stands out
    share = (flat.square() * len(singular) / singular.square().sum()).item()
    # Of the directions that were passed over, as much is left as of the next one.
    left = (singular.square() - flat.square()).maximum((1 - _FLAT_SHARE**2) * singular.square())
    learned = left.sqrt()
    return learned / learned[0], min(1.0, share / _MUCH_FLAT)


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
    likeness = normalize(places)[labels] @ normalize(weights).T
    likeness.scatter_(1, labels[:, None], -2.0)
    nearest = likeness.topk(min(_RELATED, max(1, len(weights) // 4)), dim=1)
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
