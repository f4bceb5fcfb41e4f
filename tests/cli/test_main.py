"""The command line, called as a function: exit codes, texts and JSON."""

import json
import sys

import pytest
from PIL import Image

from tests.helpers import WordEncoder, needs_offline, run_command
from timm_inject import cache, inject, save_for_hf


@pytest.fixture
def model(small_model, tmp_path):
    save_for_hf(small_model, tmp_path / "base")
    return f"local-dir:{tmp_path / 'base'}"


@needs_offline
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


@needs_offline
def test_json_and_quiet(capsys, model, tmp_path):
    code, out, _ = run_command(capsys, "inject", model, "okapi", "--output", tmp_path / "a", "--mapper", "ridge", "--json")
    assert code == 0
    assert json.loads(out)["record"]["classes"][0]["name"] == "okapi"
    code, out, err = run_command(capsys, "inject", model, "okapi", "--output", tmp_path / "b", "--mapper", "ridge", "--quiet")
    assert (code, out, err) == (0, "", "")


@needs_offline
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


@needs_offline
def test_a_file_of_names_in_another_encoding_is_told(capsys, model, tmp_path):
    (tmp_path / "names.txt").write_bytes("café".encode("latin-1"))
    code, _, err = run_command(capsys, "inject", model, "--names-file", tmp_path / "names.txt", "--output", tmp_path / "out")
    assert code == 2
    assert f"The file '{tmp_path / 'names.txt'}' is not UTF-8 text: " in err
    assert err.endswith("Save it as UTF-8.\n")


@needs_offline
def test_activation(capsys, model, tmp_path):
    options = ["--mapper", "ridge", "--json", "--quiet"]
    code, out, _ = run_command(capsys, "inject", model, "okapi", "--output", tmp_path / "out", "--activation", "sigmoid", *options)
    assert (code, json.loads(out)["record"]["classes"][0]["activation"]) == (0, "sigmoid")
    for chosen, expected in ((["--activation", "sigmoid-top1"], "sigmoid-top1"), ([], "softmax")):
        code, out, _ = run_command(capsys, "self-score", model, *chosen, *options)
        assert (code, json.loads(out)["activation"]) == (0, expected)
    with pytest.raises(SystemExit, match="2"):
        run_command(capsys, "self-score", model, "--activation", "relu")


@needs_offline
@pytest.mark.parametrize(
    ("chosen", "expected"),
    [([], "balanced"), (["harmonic"], "harmonic"), (["keep-seen"], "keep-seen"), (["0.02"], 0.02), (["none"], None)],
)
def test_calibration(capsys, model, tmp_path, chosen, expected):
    options = ["--mapper", "ridge", "--json", *(["--calibration", *chosen] if chosen else [])]
    code, out, _ = run_command(capsys, "inject", model, "okapi", "--output", tmp_path / "out", *options)
    assert (code, json.loads(out)["record"]["classes"][0]["calibration"]) == (0, expected)
    code, out, _ = run_command(capsys, "self-score", model, *options)
    assert (code, json.loads(out)["calibration"]) == (0, expected)


@needs_offline
@pytest.mark.parametrize("wrong", ["best", "1.5", "0", "nan"])
def test_a_calibration_that_is_none_is_told(capsys, model, tmp_path, wrong):
    code, out, err = run_command(capsys, "inject", model, "okapi", "--output", tmp_path / "out", "--calibration", wrong)
    assert (code, out) == (2, "")
    assert err.startswith("timm-inject: `calibration` must be one of 'balanced', 'harmonic', 'keep-seen', None, or the largest ")
    assert err.count("\n") == 1


@needs_offline
def test_self_score(capsys, model):
    code, out, _ = run_command(capsys, "self-score", model, "--mapper", "ridge")
    assert code == 0
    assert out.startswith("Estimated without images, 2 of 10 classes hidden at a time, mapper ridge:\n")
    assert "median rank of the true row" in out
    code, out, _ = run_command(capsys, "self-score", model, "--mapper", "ridge", "--num-new", "3", "--json")
    assert (code, json.loads(out)["num_new"]) == (0, 3)
    code, _, err = run_command(capsys, "self-score", model, "--num-new", "9")
    assert code == 2
    assert "between 1 and half of the 10 seen classes, got 9." in err


def test_benchmarks_are_no_command(capsys):
    with pytest.raises(SystemExit, match="2"):
        run_command(capsys, "benchmark", "cub")
    assert "invalid choice: 'benchmark'" in capsys.readouterr().err


@pytest.fixture
def saved(small_model, tmp_path):
    inject(small_model, ["okapi"], encoder=WordEncoder(), mapper="ridge")
    return save_for_hf(small_model, tmp_path / "model")


def test_card(capsys, saved):
    before = (saved / "README.md").read_bytes()
    (saved / "README.md").unlink()
    assert run_command(capsys, "card", saved) == (0, f"Written: {saved / 'README.md'}\n", "")
    assert (saved / "README.md").read_bytes() == before
    code, out, _ = run_command(capsys, "card", saved, "--repo-id", "alice/zoo", "--json")
    assert (code, json.loads(out)) == (0, {"card": str(saved / "README.md")})
    assert "hf-hub:alice/zoo" in (saved / "README.md").read_text(encoding="utf-8")


def test_card_keeps_what_somebody_wrote(capsys, saved):
    (saved / "README.md").write_text("mine")
    code, out, err = run_command(capsys, "card", saved)
    assert (code, out) == (2, "")
    assert err == (
        f"timm-inject: '{saved / 'README.md'}' was written or changed by somebody and is kept. Move it away, or pass "
        "`overwrite=True` (`--overwrite`).\n"
    )
    assert (saved / "README.md").read_text() == "mine"
    assert run_command(capsys, "card", saved, "--overwrite")[0] == 0
    assert "1 injected class" in (saved / "README.md").read_text(encoding="utf-8")


def test_card_of_a_folder_without_a_patched_model(capsys, small_model, tmp_path):
    save_for_hf(small_model, tmp_path / "plain")
    code, out, err = run_command(capsys, "card", tmp_path / "plain")
    assert (code, out) == (2, "")
    assert err.startswith(f"timm-inject: The model in '{tmp_path / 'plain'}' holds no injected classes: ")
    assert err.count("\n") == 1


def test_cache(capsys, small_model, own_cache, monkeypatch):
    assert run_command(capsys, "cache")[1] == (
        f"Cache in {own_cache}, at most 512 MB\n"
        "  embeddings        0 files       0.0 MB\n"
        "  mappers           0 files       0.0 MB\n"
        "  features          0 files       0.0 MB\n"
    )
    inject(small_model, ["okapi"], encoder=WordEncoder(), mapper="ridge")
    code, out, _ = run_command(capsys, "cache", "--json")
    report = json.loads(out)
    assert (code, report["entries"], report["cleared"]) == (
        0,
        {"embeddings": 0, "mappers": 2, "features": 1},
        False,
    )  # the mapper, and the kernel of the estimates
    assert report["directory"] == str(own_cache)
    assert "mappers           2 files" in run_command(capsys, "cache", "--clear")[1]
    assert cache.inspect_cache().entries == {"embeddings": 0, "mappers": 0, "features": 0}
    assert run_command(capsys, "cache", "--clear", "--quiet") == (0, "", "")
    monkeypatch.setenv(cache.CACHE_VARIABLE, "off")
    assert run_command(capsys, "cache") == (0, "The cache is switched off.\n", "")


def test_ctrl_c_in_a_push_says_what_is_left(capsys, saved, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["timm_inject.cli.main"], "push_folder", stop)
    code, _, err = run_command(capsys, "push", saved, "alice/zoo")
    assert (code, err) == (
        130,
        "timm-inject: stopped; the repository is as it was, unless the commit had arrived. Pushing again is safe.\n",
    )
