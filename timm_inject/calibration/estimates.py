"""What is said of new classes without an image: figures for a group, and for a single name figures where they rank, else words.

Rows of seen classes that were hidden at random say how good the mapper is where names are as varied as the seen ones. Names that
resemble each other more (thirty birds, twelve flowers) do worse, and the text tells: the uncertainty of a Gaussian process over
the descriptors says by how much the true rows of the new classes may differ from the predicted ones. So true rows are drawn from
it, pseudo-features from the true rows, and the rows that go into the head are tried on them.

Source: Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006: the posterior, equations 2.23 and 2.24;
leave-one-out predictions, equation 5.12.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from timm_inject.cache import content_key, load_or_compute
from timm_inject.calibration.pseudo_features import fit_feature_model, relative_biases
from timm_inject.calibration.rows import best_logits, check_rehearsable, rehearse, usual_num_new
from timm_inject.errors import ArgumentTypeError, ArgumentValueError
from timm_inject.mappers import FittedMapper, cauchy_kernel, choose_kernel, isolated_float32, normalize
from timm_inject.version import ROWS_VERSION

__all__ = ["MAX_NAMES", "ClassSelfScore", "NameEstimates", "SelfScore", "estimate_names", "score_hidden_classes"]

# Of more names than this a sample is estimated, as the cost grows with the square of their number.
MAX_NAMES = 1000
# Of fewer names the figures of single ones do not say which will do better; docs/design.md ("Calibration").
FEWEST_RANKED = 10
# A name that is estimated to win less of its own images is hardly told apart.
WEAK = 0.25
# Cosine of rows from which a new class is nearly a seen one: copies of a seen class's sentence under another name reach .97 to .99,
# of 200 hidden ImageNet classes 3% do.
_SAME = 0.965
# A text is far where its nearest seen one is farther than that of all but this share of the seen classes.
_FAR_SHARE = 0.01
_MAX_SEEN = 1000
# How often true rows are drawn, and features in each of these worlds. Worlds differ more than features within one, so many worlds
# of few features make the surer mean.
_WORLDS = 16
_FEATURES_PER_CLASS = 2
# Part of what a leave-one-out row lacks that is drawn. With 1, worlds around the rows of hidden seen classes have 31% of their
# features right among the new classes where features of the true rows have 41% (EfficientNet-Lite0, 18 groups of hidden classes,
# by rehearsal, no image in view); 0.70 (from 0.62 to 0.77) makes them equal. For heads of 55 classes of CUB-100 it would be less,
# 0.4 on average.
_LACKING = 0.7
_MAX_GAIN = 10.0
_EPSILON = 1e-12
_ROUNDING = 1e-5  # a logit by itself and within a table of all
_CHUNK = 2048


WELL, HARDLY, NO_TEXT, FAR = "told apart well", "hardly", "no text", "far from everything the head knows"


@dataclass(frozen=True, slots=True)
class NameEstimates:
    """Estimates for new classes, fractions in [0, 1].

    Attributes:
        accuracy: (num_unseen,) share of its images that each would win against all classes, seen and new; NaN outside the sample.
        zsl_accuracy: (num_unseen,) the same among the new classes alone.
        verdicts: For each name "told apart well", "hardly", "no text", "far from everything the head knows", or "nearly the same
            as 'NAME'", a seen class.
        ranks: Whether the figures of single names are worth telling; else only those of the group are.
    """

    accuracy: Tensor
    zsl_accuracy: Tensor
    verdicts: tuple[str, ...] = ()
    ranks: bool = True

    def doubts(self) -> list[str | None]:
        """What to warn of, for each name; None where nothing speaks against it. A missing text is told elsewhere."""
        return [self._describe(position) if said not in (WELL, NO_TEXT) else None for position, said in enumerate(self.verdicts)]

    def _describe(self, position: int) -> str:
        said = self.verdicts[position]
        if said != HARDLY:
            return said
        among = self.zsl_accuracy[position].item()
        figures = (
            f": estimated to win {self.accuracy[position].item():.0%} of its own images, {among:.0%} among the new classes alone"
        )
        return f"hardly told apart{figures if self.ranks else ''}"

    @property
    def group_accuracy(self) -> float:
        """Mean of `accuracy` over the names that were estimated."""
        return self.accuracy.nanmean().item()

    @property
    def group_zsl_accuracy(self) -> float:
        """Mean of `zsl_accuracy` over the names that were estimated."""
        return self.zsl_accuracy.nanmean().item()


def estimate_names(
    fitted: FittedMapper,
    unseen_descriptors: Tensor,
    new_rows: Tensor,
    *,
    seen_names: Sequence[str] | None = None,
    has_text: Sequence[bool] | None = None,
) -> NameEstimates:
    """Estimate how each new row will do. Whatever mapper made the rows, their uncertainty is that of a Gaussian process.

    Args:
        fitted: What the head knows; in a sigmoid head a row wins an image where it passes one half and leads the new ones.
        unseen_descriptors: (num_unseen, descriptor_dim).
        new_rows: (num_unseen, row_dim), as they are written into the head.
        seen_names: For the verdicts; None says "class 3".
        has_text: Whether more than its name is known of each new class; None where all are described.
    """
    with isolated_float32(), torch.no_grad():
        generator = torch.Generator().manual_seed(fitted.seed)
        count = len(new_rows)
        sample = torch.arange(count)
        if count > MAX_NAMES:
            sample = torch.randperm(count, generator=generator)[:MAX_NAMES].sort().values
        accuracy, zsl_accuracy = torch.full((2, count), torch.nan, dtype=torch.float32)
        accuracy[sample], zsl_accuracy[sample] = _try_rows(fitted, unseen_descriptors, new_rows, sample, generator)
        said = _verdicts(fitted, unseen_descriptors, new_rows, accuracy, seen_names, has_text)
        return NameEstimates(accuracy, zsl_accuracy, said, ranks=count >= FEWEST_RANKED)


def _try_rows(
    fitted: FittedMapper, unseen_descriptors: Tensor, new_rows: Tensor, sample: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Accuracy over all classes and among the new ones of the new rows `sample`; the other new rows are rivals."""
    mean_weight = fitted.weights.mean(0)
    seen, chosen = fitted.weights - mean_weight, unseen_descriptors[sample]
    new = new_rows[:, : fitted.feature_dim] - mean_weight
    bias = relative_biases(fitted.rows, new_rows, fitted.feature_dim)[len(seen) :]
    model, _ = fit_feature_model(seen, fitted.descriptors, generator, fitted.activation)
    posterior = _Posterior.fit(*_nearest(fitted.descriptors, seen, chosen), chosen, model.basis)
    seen_places = model.places(seen, fitted.descriptors)
    labels = torch.arange(len(seen), len(seen) + len(sample)).repeat_interleave(_FEATURES_PER_CLASS)
    target = sample.repeat_interleave(_FEATURES_PER_CLASS)
    over_all, among_new = torch.zeros(2, len(sample), dtype=torch.float32)
    for _ in range(_WORLDS):
        truth = posterior.draw(generator)
        places = torch.cat([seen_places, model.places(truth, chosen)])
        features = model.draw(torch.cat([seen, truth]), labels, generator, places=places).features
        own = (features * new[target]).sum(1) + bias[target]
        best_new = best_logits(features, new, bias)
        rival = (features @ seen.T).amax(1) if model.level is None else torch.tensor(-model.level)
        leads = own >= best_new - _ROUNDING * best_new.abs()
        among_new += leads.float().reshape(-1, _FEATURES_PER_CLASS).mean(1)
        over_all += (leads & (own >= rival)).float().reshape(-1, _FEATURES_PER_CLASS).mean(1)
    return over_all / _WORLDS, among_new / _WORLDS


def _verdicts(
    fitted: FittedMapper,
    unseen_descriptors: Tensor,
    new_rows: Tensor,
    accuracy: Tensor,
    seen_names: Sequence[str] | None,
    has_text: Sequence[bool] | None,
) -> tuple[str, ...]:
    """In words: what the text and the row say, then what the figure says."""
    mean_weight = fitted.weights.mean(0)
    texts, seen = normalize(fitted.descriptors), normalize(fitted.weights - mean_weight)
    nearest_seen = torch.cat([_without_own(part @ texts.T, start) for start, part in _parts(texts)]).amax(1)
    far = nearest_seen.quantile(_FAR_SHARE)
    said: list[str] = []
    for start, part in _parts(unseen_descriptors):
        rows = normalize(new_rows[start : start + len(part), : fitted.feature_dim] - mean_weight)
        cosine, twin = (rows @ seen.T).max(1)
        near = (normalize(part) @ texts.T).amax(1)
        for offset in range(len(part)):
            index = start + offset
            if has_text is not None and not has_text[index]:
                said.append(NO_TEXT)
            elif near[offset] < far:
                said.append(FAR)
            elif cosine[offset] > _SAME:
                name = seen_names[int(twin[offset])] if seen_names is not None else f"class {int(twin[offset])}"
                said.append(f"nearly the same as {name!r}")
            else:
                said.append(HARDLY if accuracy[index] < WEAK else WELL)
    return tuple(said)


def _parts(vectors: Tensor) -> list[tuple[int, Tensor]]:
    """In parts, so that no table of all pairs is made."""
    return [(start, vectors[start : start + _CHUNK]) for start in range(0, len(vectors), _CHUNK)]


def _without_own(cosines: Tensor, start: int) -> Tensor:
    own = torch.arange(start, start + len(cosines))[:, None]
    return cosines.scatter(1, own, -1.0)


def _nearest(descriptors: Tensor, weights: Tensor, unseen_descriptors: Tensor) -> tuple[Tensor, Tensor]:
    """The seen classes that say most about the new ones; a Gaussian process on all rows of a large head takes too long."""
    if len(descriptors) <= _MAX_SEEN:
        return descriptors, weights
    nearest = (normalize(descriptors) @ normalize(unseen_descriptors).T).amax(1).topk(_MAX_SEEN).indices.sort().values
    return descriptors[nearest], weights[nearest]


@dataclass(frozen=True, slots=True)
class _Posterior:
    """Where the true (centred) weights of the new classes may lie.

    The coordinates of a row are not equally easy to predict, and what is missed in one goes with what is missed in others. So each
    coordinate has a gain of its own, and what may be missing is drawn as a mixture of what leave-one-out rows really lack.

    Attributes:
        mean: (num_unseen, rank).
        factor: (num_unseen, num_unseen), a root of their covariance across classes.
        lacking: (num_seen, rank), what the leave-one-out row of each seen class lacks, for a variance of 1.
        basis: (rank, feature_dim).
        offset: (feature_dim,) the mean of the weights it was fitted on.
        length: Of a seen row.
    """

    mean: Tensor
    factor: Tensor
    lacking: Tensor
    basis: Tensor
    offset: Tensor
    length: float

    @staticmethod
    def fit(descriptors: Tensor, weights: Tensor, unseen_descriptors: Tensor, basis: Tensor) -> _Posterior:
        """Fit on the seen classes; `basis` holds the directions in which all weights of the head differ."""
        centre, offset = descriptors.mean(0), weights.mean(0)
        texts, new_texts = normalize(descriptors - centre), normalize(unseen_descriptors - centre)
        coordinates = (weights - offset) @ basis.T
        width, ridge = _choose_kernel_once(texts, coordinates)
        identity = torch.eye(len(texts), dtype=torch.float32)
        inverse = torch.linalg.inv(cauchy_kernel(texts, texts, width) + ridge * identity)
        explained, precision = inverse @ coordinates, inverse.diagonal()[:, None]
        left_out = coordinates - explained / precision
        # Of least squares, without a sign that would turn the prediction round.
        gain = (coordinates * left_out).sum(0) / left_out.square().sum(0).clamp_min(_EPSILON)
        gain = gain.clamp(0, _MAX_GAIN)
        cross = cauchy_kernel(new_texts, texts, width)
        covariance = cauchy_kernel(new_texts, new_texts, width) - cross @ inverse @ cross.T
        return _Posterior(
            gain * (cross @ explained),
            _root(covariance + ridge * torch.eye(len(new_texts), dtype=torch.float32)),
            _LACKING * precision.sqrt() * (coordinates - gain * left_out),
            basis,
            offset,
            (weights - offset).norm(dim=1).mean().item(),
        )

    def draw(self, generator: torch.Generator) -> Tensor:
        """One draw of the true weights: (num_unseen, feature_dim)."""
        shape = (len(self.mean), len(self.lacking))
        lacking = torch.randn(shape, generator=generator, dtype=torch.float32) @ self.lacking / len(self.lacking) ** 0.5
        return normalize(self.mean + self.factor @ lacking) @ self.basis * self.length + self.offset


def _choose_kernel_once(texts: Tensor, coordinates: Tensor) -> tuple[float, float]:
    """`choose_kernel`, the slowest step here, through the cache."""

    def compute() -> dict[str, Tensor]:
        chosen = choose_kernel(texts, coordinates)
        return {"chosen": torch.tensor([chosen.width, chosen.ridge], dtype=torch.float64)}

    key = content_key(ROWS_VERSION, torch.__version__, "choose_kernel", texts, coordinates)
    width, ridge = load_or_compute("mappers", key, compute)["chosen"].tolist()
    return width, ridge


def _root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp_min(0).sqrt()


@dataclass(frozen=True, slots=True)
class ClassSelfScore:
    """How one seen class did while it was hidden.

    Attributes:
        name: Of the class.
        cosine: Between its predicted row and its true one, both about the mean of the seen rows.
        rank: Place of its true row among all seen rows, by their cosine to the predicted one; 1 is first.
        accuracy: Share of its pseudo-features that the predicted row wins over all classes, a fraction in [0, 1]; None where it
            was not among the classes tried.
    """

    name: str
    cosine: float
    rank: int
    accuracy: float | None


@dataclass(frozen=True, slots=True)
class SelfScore:
    """Image-free estimates for new classes as varied as the seen ones; fractions in [0, 1].

    Attributes:
        zsl_accuracy: Among the new classes.
        seen_accuracy: Of seen classes, over all.
        unseen_accuracy: Of new classes, over all.
        harmonic_mean: Of these two.
        row_cosine: Mean over classes of `ClassSelfScore.cosine`.
        median_rank: Median over classes of `ClassSelfScore.rank`.
        num_seen: Classes of the head.
        num_new: How many of them played new at a time.
        mapper: Registry name.
        moved_share: Share of the images of seen classes that move to new ones.
        seen_accuracy_before: Of seen classes, before any class was new.
        calibration: As in `inject`; None for raw rows.
        activation: "softmax", "sigmoid" or "sigmoid-top1".
        encoder: Id of the text encoder.
        classes: One entry a seen class that was hidden, in logit order.
    """

    zsl_accuracy: float
    seen_accuracy: float
    unseen_accuracy: float
    harmonic_mean: float
    moved_share: float
    seen_accuracy_before: float
    row_cosine: float
    median_rank: float
    num_seen: int
    num_new: int
    mapper: str
    calibration: str | float | None
    activation: str
    encoder: str
    classes: tuple[ClassSelfScore, ...] = field(repr=False)  # a thousand of them would fill the screen

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able copy."""
        return asdict(self)


def score_hidden_classes(
    fitted: FittedMapper, names: Sequence[str], calibration: str | float | None, *, num_new: int | None, mapper: str, encoder: str
) -> SelfScore:
    """Score rows that were predicted for seen classes while these were hidden.

    Args:
        fitted: Of the head's first layer.
        names: Of the seen classes.
        calibration: As in `inject`.
        num_new: How many classes play new at a time; None takes a fifth of the seen ones, at most 200.
        mapper: Registry name, for the report.
        encoder: Id of the text encoder, for the report.

    Raises:
        ArgumentTypeError, ArgumentValueError: `num_new` is no int, or out of range.
        MapperError: The head has fewer than 3 seen classes.
    """
    num_seen = len(names)
    if num_new is not None and (isinstance(num_new, bool) or not isinstance(num_new, int)):
        raise ArgumentTypeError(f"`num_new` must be an int or None, got {type(num_new).__name__}.")
    if num_new is not None and not 1 <= num_new <= num_seen // 2:
        raise ArgumentValueError(f"`num_new` must be between 1 and half of the {num_seen} seen classes, got {num_new}.")
    check_rehearsable(fitted)
    num_new = num_new or usual_num_new(num_seen)
    rehearsed = rehearse(fitted, calibration, num_new=num_new)
    cosine, rank = _compare_rows(fitted)
    hidden = (fitted.crossfit.fold >= 0).nonzero()[:, 0].tolist()
    classes = tuple(
        ClassSelfScore(names[i], cosine[i].item(), int(rank[i]), _or_none(rehearsed.accuracy_of_class[i])) for i in hidden
    )
    return SelfScore(
        **rehearsed.scores,
        row_cosine=cosine[hidden].mean().item(),
        median_rank=rank[hidden].double().quantile(0.5).item(),
        num_seen=num_seen,
        num_new=num_new,
        mapper=mapper,
        calibration=calibration,
        activation=fitted.activation,
        encoder=encoder,
        classes=classes,
    )


def _compare_rows(fitted: FittedMapper) -> tuple[Tensor, Tensor]:
    """(num_seen,) cosine of each predicted row to the true one, and the true one's place among all."""
    with isolated_float32(), torch.no_grad():
        mean = fitted.weights.mean(0)
        true, predicted = fitted.weights - mean, fitted.crossfit.rows[:, : fitted.feature_dim] - mean
        cosine = cosine_similarity(predicted, true, dim=1)
        similarity = normalize(predicted) @ normalize(true).T
        return cosine, 1 + (similarity > similarity.diagonal()[:, None]).sum(1)


def _or_none(value: Tensor) -> float | None:
    return None if value.isnan() else value.item()
