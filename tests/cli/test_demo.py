"""The demo, as a command."""

import json

from tests.helpers import needs_offline, run_command
from timm_inject.cli.demo import PHOTOS


@needs_offline
def test_demo_says_what_is_not_first_and_reloads(capsys, tmp_path, shared_cache):
    code, out, _ = run_command(capsys, "demo", "--output", tmp_path / "demo", "--json")
    result = json.loads(out)
    assert code == 0
    assert result["reload_is_bit_identical"]
    assert set(result["rank"]) == set(PHOTOS)
    assert result["rank"]["dahlia"] == 1
