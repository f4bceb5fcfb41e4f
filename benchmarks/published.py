"""Published figures, in percent, to stand beside ours.

Source: Christensen et al., "Image-free Classifier Injection for Zero-Shot Classification", ICCV 2023, tables 1 to 3 and the
figure on the number of seen classes; "Counterfactual-Driven Zero-Shot Classifier Expansion", AAAI 2026, for the later method.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ABLATION_CUB", "LATER_METHOD", "SEEN_CLASS_CURVE_CUB", "TABLE", "TRANSFER_ICIS", "PublishedScores"]


@dataclass(frozen=True, slots=True)
class PublishedScores:
    """Percentages: T1, unseen, seen, harmonic mean; None where not published."""

    zsl_accuracy: float
    unseen_accuracy: float | None = None
    seen_accuracy: float | None = None
    harmonic_mean: float | None = None


# dataset -> our name of the method -> scores, on features of a ResNet-101 fine-tuned on the seen classes, with attributes.
# The paper's ConSE mixes descriptors by an image's probabilities; ours is its linear counterpart.
TABLE = {
    "cub": {
        "icis-paper": PublishedScores(60.6, 45.8, 73.7, 56.5),
        "conse": PublishedScores(41.9, 0.5, 88.0, 0.9),
        "costa": PublishedScores(31.9, 0.0, 87.6, 0.0),
        "subspace": PublishedScores(37.6, 0.0, 87.6, 0.0),
        "wdae-gnn": PublishedScores(38.2, 0.0, 87.3, 0.0),
        "wavg or smo": PublishedScores(45.1, 39.2, 52.3, 44.8),
    },
    "awa2": {
        "icis-paper": PublishedScores(64.6, 35.6, 93.3, 51.6),
        "conse": PublishedScores(44.0, 3.0, 96.1, 5.7),
        "costa": PublishedScores(40.9, 0.0, 96.1, 0.0),
        "subspace": PublishedScores(37.5, 0.0, 96.1, 0.0),
        "wdae-gnn": PublishedScores(37.0, 0.1, 96.0, 0.3),
        "wavg or smo": PublishedScores(55.4, 31.8, 92.4, 47.3),
    },
    "sun": {
        "icis-paper": PublishedScores(51.8, 45.2, 25.6, 32.7),
        "conse": PublishedScores(44.4, 0.1, 47.9, 0.1),
        "costa": PublishedScores(19.9, 0.0, 50.1, 0.0),
        "subspace": PublishedScores(48.3, 0.0, 50.1, 0.0),
        "wdae-gnn": PublishedScores(49.9, 0.0, 49.3, 0.0),
        "wavg or smo": PublishedScores(42.7, 42.5, 1.6, 3.1),
    },
}

# With texts written by a language model, so not the same inputs.
LATER_METHOD = {
    "cub": PublishedScores(67.3, harmonic_mean=61.3),
    "awa2": PublishedScores(76.3, harmonic_mean=67.9),
    "sun": PublishedScores(60.9, harmonic_mean=41.3),
}

# From an ImageNet head by class name: dataset -> descriptors -> T1 of ICIS.
TRANSFER_ICIS = {
    "cub": {"wiki2vec": 3.5, "conceptnet": 6.6},
    "awa2": {"wiki2vec": 65.5, "conceptnet": 64.8},
    "sun": {"wiki2vec": 9.1, "conceptnet": 13.6},
}

# CUB; the ablation's step -> (T1, H).
ABLATION_CUB = {
    "MLP, squared error": (41.5, 0.0),
    "+ cosine": (54.1, 50.9),
    "+ both autoencoders": (58.1, 52.7),
    "+ cross-reconstruction": (60.2, 56.0),
    "+ unseen descriptors": (60.9, 56.7),
}

# CUB; number of seen classes that the mapper learns from -> T1.
SEEN_CLASS_CURVE_CUB = {150: 60.9, 125: 57.4, 100: 51.0, 75: 44.5, 50: 37.4, 37: 31.5, 25: 29.5, 12: 14.3}
