"""Inject after inject: which earlier rows are predicted again together with the new ones.

The calibration looks at how many classes come together, so two calls give what one call gives only if the second predicts and
calibrates the classes of both. That is done for earlier rows that are still what was written and were made with the same
settings; any other row is the user's, and is kept bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from timm_inject.cache import content_key
from timm_inject.head import Head, Leaf, raw_rows
from timm_inject.injected.hashes import hash_rows
from timm_inject.injected.record import InjectedClass, InjectionRecord
from timm_inject.text import ClassText, descriptor_probe, identity_of, is_near, load_senses
from timm_inject.version import ROWS_VERSION

__all__ = [
    "EarlierRows",
    "Settings",
    "identify_settings",
    "plan_earlier_rows",
    "text_of",
]


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything but the names that decides which rows an injection writes.

    Attributes:
        key: A hash; two injections with the same key are of one kind.
        probe: A few numbers of the seen descriptors.
    """

    key: str
    probe: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class EarlierRows:
    """What becomes of the rows that earlier injections wrote.

    Attributes:
        num_seen: How many rows come before them.
        num_earlier: How many they are.
        again: Positions among them, from 0, that are predicted again.
        texts: Of these, as they were embedded.
    """

    num_seen: int
    num_earlier: int
    again: tuple[int, ...]
    texts: tuple[ClassText, ...]

    def merge(self, head: Head, predicted: Sequence[Tensor]) -> tuple[list[int], list[Tensor]]:
        """Put the predicted rows in logit order, with the rows that are kept between them.

        Args:
            head: Before the change.
            predicted: One tensor a layer, (len(again) + num_new, row_dim).

        Returns:
            The positions that the head keeps, and the rows to append to them, one tensor a layer.
        """
        first = self.num_seen + (self.again[0] if self.again else self.num_earlier)
        kept = list(range(first))
        merged = [self._merge_leaf(leaf, rows, first) for leaf, rows in zip(head.leaves, predicted, strict=True)]
        return kept, merged

    def _merge_leaf(self, leaf: Leaf, rows: Tensor, first: int) -> Tensor:
        if not self.again:
            return rows
        # Rows are read in their own precision here, as kept ones must come back with every bit.
        own = raw_rows(leaf, first)
        merged = torch.cat([own, rows[len(self.again) :].to(own.dtype)])
        for position, row in zip(self.again, rows, strict=False):
            merged[self.num_seen + position - first] = row.to(own.dtype)
        return merged


def identify_settings(
    record: InjectionRecord,
    made: Mapping[str, object],
    *,
    seen_texts: Sequence[ClassText],
    seen_descriptors: Tensor,
    seen_rows: Sequence[Tensor],
) -> Settings:
    """Hash the settings; encoders of the same id are told apart by what they give, within rounding.

    Args:
        record: Of the earlier injections, if any.
        made: What the record says of each class: `encoder`, `mapper`, `calibration`, `activation` and `seed`.
        seen_texts: What the mapper learns from.
        seen_descriptors: (num_seen, descriptor_dim), of these.
        seen_rows: One tensor a layer, (num_seen, row_dim).
    """
    sentences = [part for text in seen_texts for part in identity_of(text)]
    settings = [f"{key}={made[key]}" for key in sorted(made)]
    base = content_key(ROWS_VERSION, *settings, *sentences, *seen_rows)[:16]
    probe = descriptor_probe(seen_descriptors)
    for key, other in record.probes.items():
        if key.partition("-")[0] == base and is_near(probe, other):
            return Settings(key, probe)
    return Settings(f"{base}-{sum(key.startswith(base) for key in record.probes)}", probe)


def plan_earlier_rows(record: InjectionRecord, rows: Sequence[Tensor], settings: Settings) -> EarlierRows:
    """Find the earlier rows that are still as written and were made with the same settings.

    Args:
        record: Of the earlier injections, if any.
        rows: One tensor a layer, (num_classes, row_dim), as `read_rows` gives them.
        settings: Of the injection to come.
    """
    hashes = hash_rows([part[record.num_seen :] for part in rows])
    again = tuple(
        position
        for position, (entry, digest) in enumerate(zip(record.classes, hashes, strict=True))
        if entry.settings == settings.key and entry.row_hash == digest and entry.lemmas
    )
    return EarlierRows(record.num_seen, len(record.classes), again, tuple(text_of(record.classes[position]) for position in again))


def text_of(entry: InjectedClass) -> ClassText:
    """The text that an injected class was embedded by; its name alone stands for lemmas that an old record does not hold."""
    # A later rename changes `name`, not the text that was embedded.
    lemmas = entry.lemmas or (entry.name,)
    key = entry.sense or entry.synset
    return ClassText(
        name=lemmas[0],
        lemmas=lemmas,
        definition=entry.definition,
        sentence=entry.sentence,
        user_texts=tuple(text for text in entry.descriptions if text != entry.sentence),
        kind=entry.kind,
        sense=load_senses().by_key(key) if key else None,
    )
