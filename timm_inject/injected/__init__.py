"""What was injected into a model: the record of it, further injections beside earlier ones, and undoing them."""

from timm_inject.injected.attachment import (
    RECORD_ATTRIBUTE,
    changed_positions,
    find_record,
    fit_record,
    injection_record,
    mark_changed,
    read_config,
    record_in,
    with_note,
)
from timm_inject.injected.hashes import hash_rounded_rows, hash_rows, hash_seen_rows, written_rows
from timm_inject.injected.incremental import EarlierRows, Settings, identify_settings, plan_earlier_rows, text_of
from timm_inject.injected.labels import ids_of_seen, injected_classes, known_classes, label_config, label_list
from timm_inject.injected.record import CONFIG_KEY, LABEL_KEYS, InjectedClass, InjectionRecord, base_of, start_record
from timm_inject.injected.removal import remove, rename

__all__ = [
    "CONFIG_KEY",
    "LABEL_KEYS",
    "RECORD_ATTRIBUTE",
    "EarlierRows",
    "InjectedClass",
    "InjectionRecord",
    "Settings",
    "base_of",
    "changed_positions",
    "find_record",
    "fit_record",
    "hash_rounded_rows",
    "hash_rows",
    "hash_seen_rows",
    "identify_settings",
    "ids_of_seen",
    "injected_classes",
    "injection_record",
    "known_classes",
    "label_config",
    "label_list",
    "mark_changed",
    "plan_earlier_rows",
    "read_config",
    "record_in",
    "remove",
    "rename",
    "start_record",
    "text_of",
    "with_note",
    "written_rows",
]
