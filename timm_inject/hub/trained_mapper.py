"""A mapper that was trained once for a model and an encoder: kept in a folder or on the Hub, and used by many injections."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import CommitInfo, ModelHubMixin
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from timm_inject.cache import content_key
from timm_inject.errors import MapperError, SaveError
from timm_inject.head import Head
from timm_inject.hub.card import BIBTEX, CARD_NAME, escape, is_own_card, sign_card
from timm_inject.hub.download import download
from timm_inject.hub.push import PushedFiles, push_files
from timm_inject.io import expand_user, is_folder, written_aside
from timm_inject.mappers import MAPPERS, Crossfit, FittedMapper, Mapper, create_mapper
from timm_inject.text import ClassText, EncoderHandle, descriptor_probe, encode_descriptors, identity_of, is_near
from timm_inject.version import installed_versions

__all__ = ["TrainedMapper", "find_trained_mapper", "keep_mapper"]

_CONFIG_NAME = "config.json"
_TENSORS_NAME = "mapper.safetensors"
_CONFIG_KEY = "timm_inject_mapper"
_FORMAT = 2  # 2: `icis` with several kernels
_PROBED_CLASSES = 4


@dataclass(frozen=True, slots=True)
class MapperFacts:
    """What a mapper was trained for.

    Attributes:
        mapper: Registry name.
        seed: Of the training.
        encoder: Id of the text encoder.
        probe: A few numbers of the seen descriptors, by which to know the encoder again.
        texts: Hash of the sentences of the seen classes.
        num_seen: How many classes it learned from.
        layers: Paths of the head's layers.
        rows: Hash of each layer's rows.
        model: What it was trained for, in words: the Hub id or the architecture.
        versions: Package -> version.
        tensors: Hash of the tensors in the other file.
    """

    mapper: str
    seed: int
    encoder: str
    probe: tuple[float, ...]
    texts: str
    num_seen: int
    layers: tuple[str, ...]
    rows: tuple[str, ...]
    model: str
    versions: dict[str, str]
    tensors: str


class TrainedMapper(ModelHubMixin, library_name="timm_inject", tags=["timm", "timm_inject"]):
    """A mapper for one model and one encoder, one part for each layer of the head. Made by `fit_mapper`.

    `inject(model, names, mapper=this)` writes the rows that `inject(model, names, mapper=this.facts.mapper)` would, without the
    training. `save_pretrained(folder)` is huggingface_hub's, and so are the parameters of `from_pretrained`; the files are
    safetensors and JSON.

    Attributes:
        facts: What it was trained for: registry name (`mapper`), `seed`, `encoder`, `num_seen` and more.
    """

    def __init__(self, facts: MapperFacts, tensors: Mapping[str, Tensor]) -> None:
        self.facts = facts
        self._tensors = dict(tensors)

    @property
    def descriptors(self) -> Tensor:
        """(num_seen, descriptor_dim), what it was trained on."""
        return self._tensors["descriptors"]

    def fitted(self, layer: int, rows: Tensor, *, feature_dim: int, activation: str) -> FittedMapper:
        """The part for one layer, as `fit_and_crossfit` gives it.

        Args:
            layer: Position in `facts.layers`.
            rows: (num_seen, row_dim), the rows of that layer.
            feature_dim: How many of a row's columns are weights.
            activation: How the head is read.
        """
        mapper = self.mapper_of(layer)
        held_out = Crossfit(self._tensors[f"layer{layer}/crossfit/fold"], self._tensors[f"layer{layer}/crossfit/rows"])
        return FittedMapper(mapper, self.descriptors, rows, held_out, feature_dim, activation, self.facts.seed)

    def mapper_of(self, layer: int) -> Mapper:
        """The mapper of one layer of the head, fitted."""
        mapper = create_mapper(self.facts.mapper)
        prefix = f"layer{layer}/mapper/"
        mapper.tensors = {key.removeprefix(prefix): t for key, t in self._tensors.items() if key.startswith(prefix)}
        return mapper

    def check_fits(
        self, head: Head, seen_rows: Sequence[Tensor], seen_texts: Sequence[ClassText], encoder: EncoderHandle, seed: int
    ) -> None:
        """Refuse a model, texts, an encoder or a seed that this mapper was not trained for.

        Args:
            head: Of the model.
            seen_rows: One tensor a layer, (num_seen, row_dim).
            seen_texts: Of the seen classes.
            encoder: The one that will encode the new names.
            seed: As in `inject`.

        Raises:
            MapperError: With what does not fit.
        """
        facts = self.facts
        again = "Train one for it: `timm_inject.fit_mapper(model)`."
        paths = tuple(leaf.name for leaf in head.leaves)
        if paths != facts.layers or len(seen_rows[0]) != facts.num_seen:
            raise MapperError(
                f"The mapper was trained for {facts.model!r} with {facts.num_seen} classes at {', '.join(facts.layers)}; this head "
                f"has {len(seen_rows[0])} at {', '.join(paths)}. {again}"
            )
        if tuple(content_key(rows) for rows in seen_rows) != facts.rows:
            raise MapperError(
                f"The mapper was trained for other weights (of {facts.model!r}): the rows of this model's classifier are not those "
                f"that it learned from. {again}"
            )
        if _hash_texts(seen_texts) != facts.texts:
            raise MapperError(
                "The mapper was trained with other names or descriptions of the seen classes. Pass the `seen_class_names` and "
                "`descriptions` that it was trained with, or train one for these: `timm_inject.fit_mapper(model, ...)`."
            )
        probe = descriptor_probe(encode_descriptors(seen_texts[:_PROBED_CLASSES], encoder, seen_descriptors=self.descriptors))
        if not is_near(probe, facts.probe):
            raise MapperError(
                f"The mapper was trained with the encoder {facts.encoder!r}, and {encoder.encoder_id!r} gives other descriptors. "
                f"Pass `encoder={facts.encoder!r}` if you trust it, or train a mapper for yours."
            )
        if seed != facts.seed:
            raise MapperError(
                f"The mapper was trained with seed {facts.seed}, `inject` was called with {seed}. Pass `seed={facts.seed}`."
            )

    def save_pretrained(
        self, save_directory: str | Path, *, repo_id: str | None = None, push_to_hub: bool = False, **push_options: Any
    ) -> CommitInfo | None:
        """Save to a folder, and push the mapper too if asked.

        Args:
            save_directory: Made if it does not exist. A README.md that somebody wrote or changed is kept.
            repo_id: Where to push; None takes the folder's name.
            push_to_hub: Whether to push.
            **push_options: As `push_to_hub`.

        Returns:
            The commit, if it was pushed.

        Raises:
            SaveError: The folder cannot be made or written, or holds the config.json of something else.
            HubError: As `push_to_hub`.
        """
        folder = expand_user(save_directory)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SaveError(_not_saved(folder, error)) from error
        _check_not_anothers(folder / _CONFIG_NAME)
        self._save_pretrained(folder)
        return self.push_to_hub(repo_id or folder.name, **push_options) if push_to_hub else None

    def _save_pretrained(self, save_directory: Path) -> None:
        tensors = {key: tensor.contiguous() for key, tensor in self._tensors.items()}
        try:
            with written_aside(save_directory) as aside:
                save_file(tensors, aside / _TENSORS_NAME)
                config = {_CONFIG_KEY: {"format": _FORMAT} | asdict(self.facts)}
                (aside / _CONFIG_NAME).write_text(json.dumps(config, indent=2), encoding="utf-8")
                card = save_directory / CARD_NAME
                if not card.exists() or is_own_card(card.read_text(encoding="utf-8", errors="replace")):
                    (aside / CARD_NAME).write_text(_render_card(self.facts, None), encoding="utf-8", newline="\n")
        except (OSError, SafetensorError) as error:
            raise SaveError(_not_saved(save_directory, error)) from error

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> TrainedMapper:
        """Load a mapper from a folder or from the Hub.

        Args:
            pretrained_model_name_or_path: The folder that `save_pretrained` wrote, or a repository's id.
            **options: As huggingface_hub's `from_pretrained`: `revision`, `token`, `cache_dir`, `force_download`,
                `local_files_only`.

        Raises:
            MapperError: There is no mapper, or its files are damaged.
            HubConnectionError: The Hub cannot be reached.
            HubServerError: The Hub fails, or takes no more requests for now.
        """
        where = str(pretrained_model_name_or_path)
        folder = expand_user(where)
        if is_folder(folder):
            return _read_mapper(cls, folder / _CONFIG_NAME, folder / _TENSORS_NAME)
        if isinstance(pretrained_model_name_or_path, Path) or where.startswith((".", "/", "~")):
            raise MapperError(f"The folder '{where}' does not exist. Give one that `save_pretrained` wrote, or a Hub id.")

        def missing(said: str) -> MapperError:
            return MapperError(
                f"There is no mapper {where!r}: it is neither a registry name, a folder, nor a repository with {_CONFIG_NAME} and "
                f"{_TENSORS_NAME} that you may see on the Hub ({said}). Registry: {', '.join(MAPPERS)}."
            )

        names = (_CONFIG_NAME, _TENSORS_NAME)
        config, tensors = download(where, names, what=f"The mapper {where!r}", missing=missing, **options)
        return _read_mapper(cls, config, tensors)

    def push_to_hub(  # type: ignore[override]
        self,
        repo_id: str,
        *,
        commit_message: str = "Add mapper",
        private: bool = False,
        token: str | bool | None = None,
        branch: str | None = None,
        create_pr: bool = False,
        overwrite: bool = False,
    ) -> CommitInfo:
        """Push in one commit, as `timm_inject.push_to_hf_hub` does; `inject(model, names, mapper=repo_id)` then uses it.

        Args:
            repo_id: "owner/name", or a name under the token's owner. Created if it does not exist.
            commit_message: Title of the commit.
            private: Whether a repository that is created is private.
            token: An access token; None takes the one that `hf auth login` saved.
            branch: The branch to push to, which must exist.
            create_pr: Open a pull request instead of writing to the branch.
            overwrite: Replace what somebody else put there.

        Raises:
            HubError: As `push_to_hf_hub`.
        """
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            self._save_pretrained(folder)

            def make_card(full_id: str) -> dict[str, Path]:
                (folder / CARD_NAME).write_text(_render_card(self.facts, full_id), encoding="utf-8", newline="\n")
                return {CARD_NAME: folder / CARD_NAME}

            paths = {name: folder / name for name in (_CONFIG_NAME, _TENSORS_NAME)}
            return push_files(
                PushedFiles(paths, make_card, _CONFIG_KEY),
                repo_id,
                commit_message=commit_message,
                token=token,
                revision=branch,
                private=private,
                create_pr=create_pr,
                overwrite=overwrite,
                is_own_card=is_own_card,
            ).commit


def keep_mapper(
    fitted: Sequence[FittedMapper],
    *,
    name: str,
    head: Head,
    texts: Sequence[ClassText],
    encoder_id: str,
    model: str,
) -> TrainedMapper:
    """Keep what was fitted, one entry a layer of the head.

    Args:
        fitted: As `fit_and_crossfit` gives it, all on the same descriptors.
        name: Registry name.
        head: That it was fitted for.
        texts: Of the seen classes.
        encoder_id: Of the text encoder.
        model: What it was fitted for, in words.
    """
    descriptors = fitted[0].descriptors
    tensors = {"descriptors": descriptors}
    for layer, part in enumerate(fitted):
        tensors |= {f"layer{layer}/mapper/{key}": tensor for key, tensor in part.mapper.tensors.items()}
        tensors |= {f"layer{layer}/crossfit/fold": part.crossfit.fold, f"layer{layer}/crossfit/rows": part.crossfit.rows}
    facts = MapperFacts(
        mapper=name,
        seed=fitted[0].seed,
        encoder=encoder_id,
        probe=descriptor_probe(descriptors),
        texts=_hash_texts(texts),
        num_seen=len(descriptors),
        layers=tuple(leaf.name for leaf in head.leaves),
        rows=tuple(content_key(part.rows) for part in fitted),
        model=model,
        versions=installed_versions("timm", "torch"),
        tensors=_hash_tensors(tensors),
    )
    return TrainedMapper(facts, tensors)


def find_trained_mapper(mapper: object) -> TrainedMapper | None:
    """Load what `inject`'s `mapper` means, if that is a trained mapper: the object, a folder or a Hub id.

    Returns:
        The mapper, or None where `mapper` can only be a name from the registry.

    Raises:
        MapperError: It means a folder or a repository without a mapper.
    """
    if isinstance(mapper, TrainedMapper):
        return mapper
    if isinstance(mapper, os.PathLike):
        return TrainedMapper.from_pretrained(Path(mapper))
    if not isinstance(mapper, str) or mapper in MAPPERS:
        return None
    is_elsewhere = "/" in mapper or mapper.startswith((".", "~")) or Path(mapper).is_dir()
    return TrainedMapper.from_pretrained(mapper) if is_elsewhere else None


def _not_saved(folder: Path, error: Exception) -> str:
    return f"The mapper could not be saved to '{folder}': {error}. Choose a folder that you can write to."


def _check_not_anothers(path: Path) -> None:
    """Refuse to replace the config.json of something else, such as the model that the mapper is for."""
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return
    if isinstance(held, dict) and held and _CONFIG_KEY not in held:
        raise SaveError(
            f"The mapper was not saved: '{path}' belongs to something else, such as a model, and would be replaced. Choose another "
            "folder."
        )


def _hash_texts(texts: Sequence[ClassText]) -> str:
    return content_key(*(sentence for text in texts for sentence in (*identity_of(text), "")))


def _hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    return content_key(*(part for key in sorted(tensors) for part in (key, tensors[key])))


def _read_mapper(cls: type[TrainedMapper], config_path: Path, tensors_path: Path) -> TrainedMapper:
    """Read files that may come from anyone: they are data, and whatever does not fit is refused."""
    try:
        facts = _read_facts(json.loads(config_path.read_text(encoding="utf-8"))[_CONFIG_KEY])
        tensors = {key: tensor.clone() for key, tensor in load_file(tensors_path).items()}
        if _hash_tensors(tensors) != facts.tensors:
            raise ValueError(f"{_CONFIG_NAME} and {_TENSORS_NAME} do not belong together")
        mapper = cls(facts, tensors)
        _check_tensors(mapper)
    except (OSError, ValueError, LookupError, ArithmeticError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        raise MapperError(
            f"The mapper in '{config_path.parent}' cannot be used: {type(error).__name__}: {error!s:.300}. It takes the "
            f"{_CONFIG_NAME} and {_TENSORS_NAME} that `save_pretrained` of this version wrote."
        ) from error
    return mapper


def _read_facts(data: Any) -> MapperFacts:
    if data.get("format") != _FORMAT:
        raise ValueError(f"format {data.get('format')!r}; this version of timm_inject reads {_FORMAT}")
    facts = MapperFacts(**{field.name: data[field.name] for field in fields(MapperFacts)})
    texts = (facts.mapper, facts.encoder, facts.texts, facts.model, facts.tensors, *facts.layers, *facts.rows)
    numbers = (facts.seed, facts.num_seen)
    if not all(isinstance(text, str) for text in texts) or not all(type(number) is int for number in numbers):
        raise TypeError("a field has another type than it should")
    if facts.mapper not in MAPPERS or not re.fullmatch(r"[\w.-]+", facts.mapper):
        raise ValueError(f"there is no mapper {facts.mapper!r:.80}")
    if len(facts.layers) != len(facts.rows) or not facts.layers:
        raise ValueError("it does not name its layers")
    made = {"probe": tuple(float(value) for value in facts.probe), "layers": tuple(facts.layers), "rows": tuple(facts.rows)}
    versions = {str(key): str(value) for key, value in dict(facts.versions).items()}
    return MapperFacts(**asdict(facts) | made | {"versions": versions})


def _check_tensors(mapper: TrainedMapper) -> None:
    """Try the mapper on a seen class: what it predicts must be as wide as the rows that it was tried on."""
    num_seen = mapper.facts.num_seen
    if mapper.descriptors.ndim != 2 or len(mapper.descriptors) != num_seen:
        raise ValueError(f"descriptors of shape {tuple(mapper.descriptors.shape)} for {num_seen} classes")
    for layer in range(len(mapper.facts.layers)):
        fold, rows = (mapper._tensors[f"layer{layer}/crossfit/{key}"] for key in ("fold", "rows"))
        if fold.shape != (num_seen,) or fold.dtype != torch.int64 or rows.ndim != 2 or len(rows) != num_seen:
            raise ValueError(f"layer {layer} has cross-fitted rows of shape {tuple(rows.shape)} for {num_seen} classes")
        predicted = mapper.mapper_of(layer).predict_rows(mapper.descriptors[:1])
        if predicted.shape != rows[:1].shape or not torch.isfinite(predicted).all() or not torch.isfinite(rows).all():
            raise ValueError(f"layer {layer} predicts rows of shape {tuple(predicted.shape)}, or values that are not finite")


def _render_card(facts: MapperFacts, repo_id: str | None) -> str:
    lines = [
        "---",
        "library_name: timm_inject",
        "tags:",
        "- timm",
        "- timm_inject",
        "---",
        f"# Mapper for {escape(facts.model)}",
        "",
        "Predicts classifier rows for new classes from their names, for one timm model and one text encoder. timm_inject refuses "
        "it for any other weights.",
        "",
        "```python",
        "import timm_inject",
        f'timm_inject.inject(model, ["okapi"], mapper="{repo_id or "FOLDER"}")',
        "```",
        "",
        "| | |",
        "|---|---|",
        f"| model | {escape(facts.model)} |",
        f"| classes | {facts.num_seen} |",
        f"| layers | {escape(', '.join(facts.layers))} |",
        f"| encoder | {escape(facts.encoder)} |",
        f"| mapper | {escape(facts.mapper)} |",
        f"| seed | {facts.seed} |",
        f"| made with | {escape(', '.join(f'{name} {version}' for name, version in facts.versions.items()))} |",
        "",
        "```bibtex",
        BIBTEX,
        "```",
    ]
    return sign_card("\n".join(lines))
