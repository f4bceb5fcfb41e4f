"""What was injected into a model: the record of it, further injections beside earlier ones, and undoing them."""

from timm_inject.injected.incremental import (
    EarlierRows,
    Settings,
    hash_rows,
    identify_settings,
    plan_earlier_rows,
    text_of,
    written_rows,
)
from timm_inject.injected.record import (
    CONFIG_KEY,
    LABEL_KEYS,
    RECORD_ATTRIBUTE,
    InjectedClass,
    InjectionRecord,
    base_of,
    find_record,
    injection_record,
    read_config,
    start_record,
)
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
    "find_record",
    "hash_rows",
    "identify_settings",
    "injection_record",
    "plan_earlier_rows",
    "read_config",
    "remove",
    "rename",
    "start_record",
    "text_of",
    "written_rows",
]
