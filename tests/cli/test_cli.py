"""The command line, called as a function: exit codes, texts and JSON."""

import json

import pytest
from PIL import Image

from tests.helpers import needs_offline, run_command
from timm_inject import save_for_hf
from timm_inject.cli.demo import PHOTOS

pytestmark = needs_offline


@pytest.fixture
def model(small_model, tmp_path):
    save_for_hf(small_model, tmp_path / "base")
    return f"local-dir:{tmp_path / 'base'}"


def test_inject_classify_and_evaluate(capsys, model, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("# new\ncoyote\n\nokapi: a striped relative of the giraffe\n", encoding="utf-8")
    output = tmp_path / "patched"
    code, out, _ = run_command(capsys, "inject", model, "electric scooter", "--names-file", names, "--output", output)
    assert code == 0
    assert "  12  okapi: a striped relative of the giraffe (user)" in out
    assert f'timm.create_model("local-dir:{output}", pretrained=True)' in out

    image = tmp_path / "images" / "okapi" / "one.png"
    image.parent.mkdir(parents=True)
    Image.new("RGB", (64, 64)).save(image)
    code, out, _ = run_command(capsys, "classify", f"local-dir:{output}", image, "--top", 13)
    assert code == 0
    assert out.count("<- new") == 3
    code, out, _ = run_command(capsys, "classify", f"local-dir:{output}", image, "--json")
    assert len(json.loads(out)[str(image)]) == 5
    code, out, _ = run_command(capsys, "evaluate", f"local-dir:{output}", tmp_path / "images", "--json")
    assert code == 0
    assert json.loads(out)["num_images"] == 1


def test_json_and_quiet(capsys, model, tmp_path):
    code, out, _ = run_command(capsys, "inject", model, "okapi", "--output", tmp_path / "a", "--mapper", "ridge", "--json")
    assert code == 0
    assert json.loads(out)["record"]["classes"][0]["name"] == "okapi"
    code, out, err = run_command(capsys, "inject", model, "okapi", "--output", tmp_path / "b", "--mapper", "ridge", "--quiet")
    assert (code, out, err) == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["zebra"], "timm-inject: 1 of 1 unseen class names cannot be added: 'zebra' is already"),
        ([], "timm-inject: `unseen_class_names` is empty."),
        (["okapi", "--mapper", "isis"], "timm-inject: There is no mapper 'isis'. Did you mean 'icis'?"),
        (
            ["--names-file", "missing.txt"],
            "timm-inject: The file 'missing.txt' could not be read: No such file or directory. Check the path.",
        ),
        (["okapi", "--seen-classes", "imagenet-1k"], "timm-inject: "),
    ],
)
def test_mistakes_end_with_2_and_one_paragraph(capsys, model, tmp_path, arguments, message):
    code, out, err = run_command(capsys, "inject", model, *arguments, "--output", tmp_path / "out")
    assert code == 2
    assert out == ""
    assert err.startswith(message)
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_unknown_model_is_told(capsys, tmp_path):
    code, _, err = run_command(capsys, "classify", f"local-dir:{tmp_path}", "x.png")
    assert code == 2
    assert err.startswith("timm-inject: timm could not create the model 'local-dir:")
    assert err.endswith("Check the folder: it needs config.json and the weights, as `save_for_hf` writes them.\n")
    _, _, err = run_command(capsys, "classify", "nosuch", "x.png")
    assert "(nosuch). Check the name with `timm.list_models()`; a folder is written 'local-dir:FOLDER'." in err


def test_a_file_of_names_in_another_encoding_is_told(capsys, model, tmp_path):
    (tmp_path / "names.txt").write_bytes("café".encode("latin-1"))
    code, _, err = run_command(capsys, "inject", model, "--names-file", tmp_path / "names.txt", "--output", tmp_path / "out")
    assert code == 2
    assert f"The file '{tmp_path / 'names.txt'}' is not UTF-8 text: " in err
    assert err.endswith("Save it as UTF-8.\n")


def test_demo_says_what_is_not_first_and_reloads(capsys, tmp_path, shared_cache):
    code, out, _ = run_command(capsys, "demo", "--output", tmp_path / "demo", "--json")
    result = json.loads(out)
    assert code == 0
    assert result["reload_is_bit_identical"]
    assert set(result["rank"]) == set(PHOTOS)
    assert result["rank"]["dahlia"] == 1
