"""What each part of a class's text is worth: the held-out benchmark with classes told in part."""

import argparse

from benchmarks import heldout


def add_options(command: argparse.ArgumentParser) -> None:
    """The options of `imagenet`, with every way of telling classes and the default mapper alone."""
    heldout.add_options(command)
    command.set_defaults(texts=list(heldout.WORDS), methods=["icis"], parts=["table"])


run = heldout.run
