"""Published figures, in percent, to stand beside ours.

Source: Christensen et al., "Image-free Classifier Injection for Zero-Shot Classification", ICCV 2023, tables 1 to 3 and the
figure on the number of seen classes; "Counterfactual-Driven Zero-Shot Classifier Expansion", AAAI 2026, for the later method.
"""

# T1, u, s and H; None where not published.
Published = tuple[float, float | None, float | None, float]

# Before its 25th epoch the published recipe's stopping rule cannot hold: what is measured on so many is a lower bound of its time.
FEWEST_EPOCHS = 25

# With texts written by a language model, so not the same inputs.
_LATER = "AAAI 2026, texts by a language model"

# dataset -> our name of the method -> scores, on features of a ResNet-101 fine-tuned on the seen classes, with attributes.
# The paper's ConSE mixes descriptors by an image's probabilities; ours is its linear counterpart.
TABLE: dict[str, dict[str, Published]] = {
    "cub": {
        "icis-paper": (60.6, 45.8, 73.7, 56.5),
        "conse": (41.9, 0.5, 88.0, 0.9),
        "costa": (31.9, 0.0, 87.6, 0.0),
        "subspace": (37.6, 0.0, 87.6, 0.0),
        "wdae-gnn": (38.2, 0.0, 87.3, 0.0),
        "wavg or smo": (45.1, 39.2, 52.3, 44.8),
        _LATER: (67.3, None, None, 61.3),
    },
    "awa2": {
        "icis-paper": (64.6, 35.6, 93.3, 51.6),
        "conse": (44.0, 3.0, 96.1, 5.7),
        "costa": (40.9, 0.0, 96.1, 0.0),
        "subspace": (37.5, 0.0, 96.1, 0.0),
        "wdae-gnn": (37.0, 0.1, 96.0, 0.3),
        "wavg or smo": (55.4, 31.8, 92.4, 47.3),
        _LATER: (76.3, None, None, 67.9),
    },
    "sun": {
        "icis-paper": (51.8, 45.2, 25.6, 32.7),
        "conse": (44.4, 0.1, 47.9, 0.1),
        "costa": (19.9, 0.0, 50.1, 0.0),
        "subspace": (48.3, 0.0, 50.1, 0.0),
        "wdae-gnn": (49.9, 0.0, 49.3, 0.0),
        "wavg or smo": (42.7, 42.5, 1.6, 3.1),
        _LATER: (60.9, None, None, 41.3),
    },
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
