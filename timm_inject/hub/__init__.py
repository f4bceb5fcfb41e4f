"""Folders and the Hugging Face Hub: saving a patched model, its card, and pushing it."""

from timm_inject.hub.attach import attach_record
from timm_inject.hub.card import BIBTEX, CARD_NAME, SCORE_NAMES, escape, is_own_card, sign_card
from timm_inject.hub.push import PushedFiles, push_files
from timm_inject.hub.save import push_folder, push_to_hf_hub, save_for_hf, write_card
from timm_inject.hub.trained_mapper import TrainedMapper, find_trained_mapper, keep_mapper
from timm_inject.hub.writer import find_obstacles

__all__ = [
    "BIBTEX",
    "CARD_NAME",
    "SCORE_NAMES",
    "PushedFiles",
    "TrainedMapper",
    "attach_record",
    "escape",
    "find_obstacles",
    "find_trained_mapper",
    "is_own_card",
    "keep_mapper",
    "push_files",
    "push_folder",
    "push_to_hf_hub",
    "save_for_hf",
    "sign_card",
    "write_card",
]
