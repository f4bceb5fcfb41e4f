"""Photos: reading them, classifying them and scoring a model on them. Nothing that `inject` does needs this room."""

from timm_inject.images.classification import Prediction, classify, inference, model_class_names
from timm_inject.images.evaluation import GzslScores, evaluate
from timm_inject.images.folders import folder_dataset
from timm_inject.images.loading import image_transform, load_image
from timm_inject.images.metrics import accuracy_by_class, harmonic_mean, harmonic_means, mean_accuracy

__all__ = [
    "GzslScores",
    "Prediction",
    "accuracy_by_class",
    "classify",
    "evaluate",
    "folder_dataset",
    "harmonic_mean",
    "harmonic_means",
    "image_transform",
    "inference",
    "load_image",
    "mean_accuracy",
    "model_class_names",
]
