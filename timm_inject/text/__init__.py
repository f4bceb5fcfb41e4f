"""From names to class descriptors: which classes there are, what each name means, what it looks like, and its embedding."""

from timm_inject.text.descriptors import descriptor_probe, encode_descriptors, identity_of, is_near, sentences_of
from timm_inject.text.encoder import (
    DEFAULT_ENCODER,
    EncoderHandle,
    EncoderSource,
    ProgressCallback,
    SentenceEncoder,
    TextEncoder,
    resolve_encoder,
)
from timm_inject.text.language_model import LanguageModel
from timm_inject.text.name_files import names_to_mapping, parse_labels, parse_names, read_label_file, read_name_file, split_name
from timm_inject.text.names import (
    ClassName,
    class_from_label,
    classes_from_labels,
    label_names_for_config,
    resolve_seen_class_names,
)
from timm_inject.text.new_names import resolve_unseen_class_names
from timm_inject.text.precomputed import PrecomputedEncoder
from timm_inject.text.senses import Sense, load_senses
from timm_inject.text.synsets import label_set_wnids
from timm_inject.text.texts import ClassText, Descriptions, resolve_class_texts
from timm_inject.text.words import is_wnid, match_key

__all__ = [
    "DEFAULT_ENCODER",
    "ClassName",
    "ClassText",
    "Descriptions",
    "EncoderHandle",
    "EncoderSource",
    "LanguageModel",
    "PrecomputedEncoder",
    "ProgressCallback",
    "Sense",
    "SentenceEncoder",
    "TextEncoder",
    "class_from_label",
    "classes_from_labels",
    "descriptor_probe",
    "encode_descriptors",
    "identity_of",
    "is_near",
    "is_wnid",
    "label_names_for_config",
    "label_set_wnids",
    "load_senses",
    "match_key",
    "names_to_mapping",
    "parse_labels",
    "parse_names",
    "read_label_file",
    "read_name_file",
    "resolve_class_texts",
    "resolve_encoder",
    "resolve_seen_class_names",
    "resolve_unseen_class_names",
    "sentences_of",
    "split_name",
]
