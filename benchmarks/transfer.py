"""From an ImageNet head to another dataset's classes, by their names: nothing is trained on that dataset's images.

Source: Christensen et al., ICCV 2023, table 3.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from benchmarks import BenchmarkDataError
from benchmarks.descriptors import DESCRIPTORS, dataset_descriptors, imagenet_descriptors
from benchmarks.images import ImageHead, load_head
from benchmarks.report import transfer_table
from benchmarks.results import Setting, data_fingerprint, select
from benchmarks.session import Session, add_method_options, chosen_methods
from benchmarks.units import Problem, calibrated_unit
from benchmarks.xlsa17 import DATASETS, ZslDataset, add_data_option, data_root_of, load_xlsa17
from timm_inject.errors import ArgumentValueError


def add_options(command: argparse.ArgumentParser) -> None:
    """The options of `transfer`."""
    command.add_argument("dataset", choices=list(DATASETS), metavar="DATASET", help=f"of {', '.join(DATASETS)}")
    add_method_options(command, seeds=[0, 1, 2])
    add_data_option(command)
    command.add_argument("--descriptors", choices=DESCRIPTORS[1:], default="names", help="of both datasets' classes")
    command.add_argument(
        "--head",
        metavar="MODEL",
        help="the model whose features res101.mat holds, which are the head's own inputs; or an .npz of weight and bias",
    )
    text = "labelled ImageNet images, to measure s and H, too"
    command.add_argument("--imagenet-images", type=Path, metavar="DIR", help=text)


def run(options: argparse.Namespace) -> None:
    """The dataset's unseen classes into an ImageNet head, every method with every seed, under all calibrations."""
    if options.head is None:
        raise ArgumentValueError("Pass `--head`, the timm model whose features res101.mat holds.")
    methods, kind = chosen_methods(options.methods, default="quick"), options.descriptors
    data_root = data_root_of(options)
    dataset = load_xlsa17(data_root, options.dataset)
    session = Session(options)
    head = load_head(options.head, options.imagenet_images, options.output, session.progress)
    seen = imagenet_descriptors(head.names, kind, data_root, options.encoder)
    new = dataset_descriptors(dataset, kind, data_root, options.encoder, seen)
    problem = transfer_problem(dataset, head, seen, new)
    data = data_fingerprint(head.rows, head.labels, dataset.labels, seen, new)
    session.run(
        calibrated_unit(
            f"{head.name} to {dataset.name}, {method}, seed {seed}",
            Setting(dataset.name, "transfer", "", kind, method, "none", seed, head=head.name, data=data),
            lambda: problem,
        )
        for method in methods
        for seed in options.seeds
    )
    results = select(session.store, data=data)
    title = (
        f"{DATASETS[options.dataset]}: {len(dataset.unseen_classes)} classes given by name to the ImageNet head {options.head}. "
        f"s and H {'need --imagenet-images' if options.imagenet_images is None else 'are over the 1000 classes kept'}."
    )
    session.finish(results, [title, transfer_table(results)])


def transfer_problem(dataset: ZslDataset, head: ImageHead, seen_descriptors: Tensor, descriptors: Tensor) -> Problem:
    """T1 and u are measured on the dataset's images of unseen classes, s on the head's own images, where there are any.

    The descriptors are (num_classes, descriptor_dim), of the head's classes and of the dataset's.

    Raises:
        BenchmarkDataError: Features and head are of different widths.
    """
    if head.features.shape[1] != dataset.features.shape[1]:
        raise BenchmarkDataError(
            f"The features in res101.mat have width {dataset.features.shape[1]}, and the head of {head.name!r} takes "
            f"{head.features.shape[1]}. Pass as `--head` the timm model that made the features."
        )
    images = dataset.test_unseen
    return Problem(
        rows=head.rows,
        seen_descriptors=seen_descriptors,
        unseen_descriptors=descriptors[dataset.unseen_classes],
        features=torch.cat([head.features, dataset.features[images]]),
        target=torch.cat([head.labels, dataset.targets(images) - len(dataset.seen_classes) + len(head.rows)]),
    )
