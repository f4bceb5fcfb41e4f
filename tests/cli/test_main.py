"""The command line, called as a function: exit codes, texts and JSON."""

import io
import json
import os
import runpy
import sys

import pytest
import timm
import torch
from PIL import Image

from tests.helpers import NAMES, needs_offline, run_command
from timm_inject import TimmInjectError, injection_record
from timm_inject.cli.demo import OLD_PHOTOS, PHOTOS
from timm_inject.cli.main import main
from timm_inject.offline import load_model


def failing(capsys, *arguments):
    """Run a command that ends with 2; gives its one paragraph."""
    code, out, err = run_command(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("timm-inject: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err


def labels_of(folder):
    return json.loads((folder / "config.json").read_text())["label_names"]


# ---- inject ---------------------------------------------------------------------------------------------------------


def test_inject_classify_and_evaluate(capsys, model, tmp_path, word_encoder):
    names = tmp_path / "names.txt"
    names.write_text("# new\ncoyote\n\nokapi: a striped relative of the giraffe\n", encoding="utf-8")
    output = tmp_path / "patched"
    code, out, _ = run_command(
        capsys, "inject", model, "electric scooter", "--names-file", names, "--output", output, "--mapper", "ridge"
    )
    assert code == 0
    price, heading, *classes, saved = out.splitlines()
    assert "new ones win " in price
    assert price.endswith("Estimated without images.")
    assert heading == "Injected:"
    assert [line.split(":")[0] for line in classes] == ["  10  electric scooter", "  11  coyote", "  12  okapi"]
    assert classes[2].startswith("  12  okapi: a striped relative of the giraffe / ")
    assert classes[2].endswith(" (user, animal/mammal/hoofed/giraffe, n02439398)")
    assert saved == f'Saved. Load it with timm.create_model("local-dir:{output}", pretrained=True).'
    assert timm.create_model(f"local-dir:{output}", pretrained=True).num_classes == 13

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
    code, out, _ = run_command(capsys, "evaluate", f"local-dir:{output}", tmp_path / "images")
    assert out.startswith("1 image of 1 class")
    assert "unseen accuracy " in out


def test_json_and_quiet(capsys, model, tmp_path, word_encoder):
    code, out, _ = run_command(capsys, "inject", model, "okapi", "--output", tmp_path / "a", "--mapper", "ridge", "--json")
    assert code == 0
    assert json.loads(out)["record"]["classes"][0]["name"] == "okapi"
    assert json.loads(out)["directory"] == str(tmp_path / "a")
    code, out, err = run_command(capsys, "inject", model, "okapi", "--output", tmp_path / "b", "--mapper", "ridge", "--quiet")
    assert (code, out, err) == (0, "", "")


def test_options_stand_anywhere_among_the_names(capsys, model, tmp_path, word_encoder):
    arguments = ["--output", f"local-dir:{tmp_path / 'out'}", "--mapper", "ridge", "--quiet"]
    assert run_command(capsys, "inject", model, *arguments, "okapi", "--seed", 1, "yak", "--", "-1") == (0, "", "")
    assert labels_of(tmp_path / "out")[10:] == ["okapi", "yak", "-1"]


def test_names_with_colons(capsys, model, tmp_path, word_encoder):
    names = tmp_path / "names.tsv"
    names.write_text("Nier: Automata\ta video game\n3:00 pm clock\n", encoding="utf-8")
    given = ["Re:Zero", r"Alien\: Covenant: a film", "--names-file", names]
    _, out, _ = run_command(capsys, "inject", model, *given, "--output", tmp_path / "out", "--mapper", "ridge", "--json")
    classes = json.loads(out)["record"]["classes"]
    assert [entry["name"] for entry in classes] == ["Re:Zero", "Alien: Covenant", "Nier: Automata", "3:00 pm clock"]
    assert [entry["descriptions"][:1] for entry in classes] == [[], ["a film"], ["a video game"], []]


@pytest.mark.parametrize("form", ["list", "printed", "with ids"])
def test_files_of_labels(capsys, model, tmp_path, word_encoder, form):
    labels = tmp_path / "labels.json"
    pairs = list(enumerate(NAMES))
    text = {
        "list": "[" + ",\n".join(f'"{name}"' for name in NAMES) + "]\n",
        "printed": ",\n".join(f"{index}: '{name}'" for index, name in pairs),
        "with ids": "\n".join(f"n9999{index:04d} {name}" for index, name in pairs),
    }[form]
    labels.write_bytes(text.encode())
    options = ["--seen-classes", labels, "--output", tmp_path / "out", "--mapper", "ridge", "--quiet"]
    assert run_command(capsys, "inject", model, "okapi", *options) == (0, "", "")
    assert labels_of(tmp_path / "out") == [*NAMES, "okapi"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["zebra"], "1 of 1 unseen class names cannot be added: 'zebra' is already"),
        ([], "`unseen_class_names` is empty."),
        (["okapi: a", "okapi: b"], "1 of 2 unseen class names cannot be added: 'okapi' is given twice (positions 0 and 1)."),
        (["okapi", "--mapper", "isis"], "There is no mapper 'isis'. Did you mean 'icis'?"),
        (["--names-file", "missing.txt"], "The file 'missing.txt' could not be read: No such file or directory. Check the path."),
        (["--names-file", "."], "The file '.' could not be read: Is a directory. Check the path."),
        (["okapi", "--seen-classes", "imagenet-1k"], ""),
        (["okapi", "--seen-classes", "imagenet-2k"], "'imagenet-2k' is not a label set that timm ships."),
        (["okapi", "--seen-classes", "labels.json"], "The file 'labels.json' could not be read: No such file or directory."),
        (["okapi", "--seen-classes", "no/such"], "The file 'no/such' could not be read: No such file or directory."),
        (["okapi", "--seen-classes", ", ".join(NAMES * 9)], "'tabby cat, "),
        (["okapi", "--calibration", "often"], ""),
        (["okapi", "--calibration", "1.5"], ""),
        (["okapi", "--calibration", "nan"], ""),
        (["okapi", "--seed", "-1"], "`seed` must be between 0 and"),
        (["okapi", "--encoder", "missing.safetensors"], ""),
        (["okapi", "--encoder", "/no/such/folder"], "The encoder folder '/no/such/folder' does not exist."),
        (["okapi", "--mapper", "/no/such/mapper"], ""),
        (["okapi", "--describe-model", "x"], "--describe-model names a model of --describe-with, which is missing."),
        (["okapi", "--describe-with", "auto", "--no-descriptions"], "--no-descriptions and --describe-with exclude each other."),
    ],
)
def test_mistakes_end_with_2_and_one_paragraph(capsys, model, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert failing(capsys, "inject", model, *arguments, "--output", tmp_path / "out").startswith(f"timm-inject: {message}")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inject", "M", "okapi"], "the following arguments are required: --output. See `timm-inject inject --help`."),
        (["inject", "M", "okapi", "--output", "x", "--seed", "one"], "argument --seed: invalid int value: 'one'."),
        (["inject", "M", "okapi", "--output", "x", "--activation", "relu"], "argument --activation: invalid choice: 'relu'"),
        (["inject", "M", "okapi", "--output", ""], "argument --output: '' is no folder."),
        (["card", "local-dir:"], "argument DIR: 'local-dir:' is no folder."),
        (["demo", "--output", "~nobody-of-that-name/x"], "argument --output: '~nobody-of-that-name/x' is no folder."),
        (["classify", "M"], "the following arguments are required: IMAGE."),
        (["classify", "M", "x.png", "--nosuch"], "unrecognized arguments: --nosuch."),
        (["insert", "M"], "argument COMMAND: invalid choice: 'insert'"),
        ([], "the following arguments are required: COMMAND. See `timm-inject --help`."),
    ],
)
def test_arguments_that_do_not_parse(capsys, arguments, message):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    captured = capsys.readouterr()
    assert (caught.value.code, captured.out) == (2, "")
    assert captured.err.startswith(f"timm-inject: {message}")
    assert captured.err.count("\n") == 1


def test_a_file_of_names_in_another_encoding_is_told(capsys, model, tmp_path):
    (tmp_path / "names.txt").write_bytes("café".encode("latin-1"))
    err = failing(capsys, "inject", model, "--names-file", tmp_path / "names.txt", "--output", tmp_path / "out")
    assert f"The file '{tmp_path / 'names.txt'}' is not UTF-8 text: " in err
    assert err.endswith("Save it as UTF-8.\n")


def test_an_output_that_cannot_be_written_is_told_before_the_training(capsys, model, tmp_path, monkeypatch, patched):
    monkeypatch.setattr("timm_inject.cli.commands.inject", lambda *_, **__: pytest.fail("it was trained"))
    (tmp_path / "file").write_text("")
    for output in (tmp_path / "file", tmp_path / "file" / "in it"):
        err = failing(capsys, "inject", model, "okapi", "--output", output)
        assert err == (
            f"timm-inject: The model could not be saved to '{output}': '{tmp_path / 'file'}' is a file. Choose another folder.\n"
        )
        assert "is a file." in failing(capsys, "remove", patched, "okapi", "--output", output)
        assert "is a file." in failing(capsys, "rename", patched, "okapi", "yak", "--output", output)
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert f"'{tmp_path}' is not yours to write." in failing(capsys, "inject", model, "okapi", "--output", tmp_path / "out")


# ---- look-up --------------------------------------------------------------------------------------------------------


def test_look_up_shows_what_names_mean(capsys, model, monkeypatch):
    monkeypatch.setenv("COLUMNS", "90")
    code, out, _ = run_command(capsys, "look-up", model, "seal", "zorgblat", "hot dog stand: my text", "jaguar (car)")
    assert code == 0
    heading, *lines = out.splitlines()
    assert heading == "NAME           FROM     MEANS"
    assert lines[0].startswith("seal           lexicon  animal/mammal/sea mammal/seal: ")
    assert "                        or, written 'seal (person)', n10348526: a member of a Naval" in lines[1]
    assert "zorgblat       none     nothing is known but its name" in lines
    assert next(line for line in lines if line.startswith("hot dog stand")).split()[3] == "user"
    assert "my text" in out
    assert "jaguar (car)   none     vehicle/road/car, by its words alone; no description" in lines
    assert max(map(len, lines)) <= 90


def test_look_up_in_json_says_how_to_write_the_other_senses(capsys, model):
    code, out, _ = run_command(capsys, "look-up", model, "crane", "seal", "rocket", "galaxy", "--json")
    assert code == 0
    texts = json.loads(out)
    assert [text["name"] for text in texts] == ["crane", "seal", "rocket", "galaxy"]
    assert texts[0]["descriptions"]
    others = [(sense["write"], sense) for text in texts for sense in text["alternatives"]]
    assert len(others) > 5
    for written, sense in others:
        _, out, _ = run_command(capsys, "look-up", model, written, "--json")
        taken = json.loads(out)[0]["sense"]
        assert (taken["names"], taken["wnid"]) == (sense["names"], sense["wnid"]), written


def test_look_up_refuses_what_inject_refuses(capsys, model):
    assert "'zebra' is already seen class 6" in failing(capsys, "look-up", model, "okapi", "zebra")
    assert "`unseen_class_names` is empty." in failing(capsys, "look-up", model)


# ---- a language model -----------------------------------------------------------------------------------------------


class FakeModel:
    def __init__(self, client, model=None, *, token=None):
        type(self).made = (client, model, token)

    def __call__(self, names):
        return [f"{name} as a machine describes it" for name in names]


@pytest.fixture
def language_model(monkeypatch):
    monkeypatch.setattr("timm_inject.cli.options.LanguageModel", FakeModel)
    monkeypatch.setattr("timm_inject.cli.options.get_token", lambda: "hf_token")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    return FakeModel


def test_a_language_model_describes_what_the_lexicon_lacks(capsys, model, language_model):
    options = ["--describe-with", "http://localhost:11434/v1", "--describe-model", "small"]
    code, out, _ = run_command(capsys, "look-up", model, "zorgblat", "dahlia", *options)
    assert code == 0
    assert "zorgblat as a machine describes it" in out
    assert "dahlia as" not in out
    assert language_model.made == ("http://localhost:11434/v1", "small", None)
    run_command(capsys, "look-up", model, "zorgblat", "--describe-with", "together")
    assert language_model.made == ("together", None, None)


def test_the_token_of_the_hub_goes_to_the_hub_alone(capsys, model, language_model, monkeypatch):
    def token_for(address):
        run_command(capsys, "look-up", model, "zorgblat", "--describe-with", address)
        return language_model.made[2]

    others = ("http://localhost:11434/v1", "https://huggingface.co.example.com/v1", "https://a-space.hf.space", "together")
    for address in (*others, "http://router.huggingface.co/v1"):
        assert token_for(address) is None
    assert token_for("https://router.huggingface.co/v1") == "hf_token"
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    assert token_for("https://api.example.com/v1") == "key"
    assert token_for("https://router.huggingface.co/v1") == "hf_token"


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("", "`client` must be an address"),
        ("http://[x", "--describe-with 'http://[x' is no address: "),
        ("auto", "Name the model: "),
    ],
)
def test_language_models_that_are_none(capsys, model, where, message):
    assert message in failing(capsys, "look-up", model, "okapi", "--describe-with", where)


# ---- explain, remove, rename ----------------------------------------------------------------------------------------


def test_explain(capsys, patched):
    code, out, _ = run_command(capsys, "explain", patched, "okapi")
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "okapi (class 10)"
    assert lines[1].startswith("  leans on    ")
    assert lines[2].startswith("  takes from  ")
    assert any(name in lines[1] for name in NAMES)
    code, out, _ = run_command(capsys, "explain", patched, "--json")
    assert [entry["name"] for entry in json.loads(out)] == ["okapi", "crane (machine)"]
    assert "No class 'yak' was injected into this model." in failing(capsys, "explain", patched, "yak")


def test_explain_a_model_without_injected_classes(capsys, model):
    assert "holds no injected classes" in failing(capsys, "explain", model)


def test_remove(capsys, model, patched, tmp_path):
    code, out, _ = run_command(capsys, "remove", patched, "Okapi", "--output", tmp_path / "one")
    assert code == 0
    assert out.splitlines()[0] == "Removed: okapi. The model has 11 classes, 1 of them new."
    assert [entry.name for entry in injection_record(load_model(f"local-dir:{tmp_path / 'one'}")).classes] == ["crane (machine)"]
    code, out, _ = run_command(capsys, "remove", patched, "--output", tmp_path / "none", "okapi", "crane (machine)", "--json")
    assert json.loads(out) == {"directory": str(tmp_path / "none"), "removed": ["okapi", "crane (machine)"], "record": None}
    plain, before = (timm.create_model(name, pretrained=True) for name in (f"local-dir:{tmp_path / 'none'}", model))
    assert torch.equal(plain.fc.weight, before.fc.weight)
    _, out, _ = run_command(capsys, "remove", patched, "okapi", "crane (machine)", "--output", tmp_path / "none")
    assert out.splitlines()[0] == "Removed: okapi, crane (machine). The model has its 10 original classes."
    assert "were not injected: 'zebra'" in failing(capsys, "remove", patched, "zebra", "--output", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_rename(capsys, patched, tmp_path):
    out_folder = tmp_path / "renamed"
    code, out, _ = run_command(capsys, "rename", patched, "okapi", "forest giraffe", "--output", out_folder)
    assert code == 0
    assert out.splitlines()[0] == "Renamed: okapi is now forest giraffe."
    assert labels_of(out_folder)[10:] == ["forest giraffe", "crane (machine)"]
    pairs = ["okapi", "crane (machine)", "crane (machine)", "okapi"]
    code, out, _ = run_command(capsys, "rename", patched, *pairs, "--output", out_folder, "--json")
    document = json.loads(out)
    assert document["renamed"] == {"okapi": "crane (machine)", "crane (machine)": "okapi"}
    assert [entry["name"] for entry in document["record"]["classes"]] == ["crane (machine)", "okapi"]
    for wrong, message in (
        (["okapi"], "`rename` takes pairs, OLD NEW; 'okapi' has no new name."),
        (["okapi", "a", "okapi", "b"], "Classes are renamed twice: 'okapi'. Name each once."),
        (["yak", "gnu"], "cannot be renamed, as they were not injected: 'yak'."),
        (["okapi", "zebra"], "'zebra' is already seen class 6"),
    ):
        assert message in failing(capsys, "rename", patched, *wrong, "--output", tmp_path / "x")


# ---- evaluate, classify, self-score ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batch-size", 0], "--batch-size must be at least 1, got 0."),
        (["--batch-size", -3], "--batch-size must be at least 1, got -3."),
        (["--workers", -1], "--workers must be at least 0, got -1."),
        (["--device", "cuda:99"], "There is no device 'cuda:99' here ("),
        (["--device", "warp"], "There is no device 'warp' here (Expected one of cpu, cuda, "),
        (["--device", "meta"], "There is no device 'meta' here ("),
    ],
)
def test_evaluate_refuses_what_cannot_be(capsys, options, message, monkeypatch):
    monkeypatch.setattr("timm_inject.cli.commands.load_model", lambda _: pytest.fail("the model was loaded"))
    err = failing(capsys, "evaluate", "M", ".", *options)
    assert err.startswith(f"timm-inject: {message}")
    assert "--device" not in options or "There is: cpu" in err


def test_evaluate_and_classify_without_images(capsys, model, tmp_path):
    assert "does not exist" in failing(capsys, "evaluate", model, tmp_path / "missing")
    assert "no such file" in failing(capsys, "classify", model, tmp_path / "missing.png")
    assert "it is a folder" in failing(capsys, "classify", model, tmp_path)
    assert "`top` must be at least 1" in failing(capsys, "classify", model, tmp_path / "missing.png", "--top", 0)


def test_too_little_memory_on_a_gpu(capsys, model, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("timm_inject.cli.commands.evaluate", fail)
    err = failing(capsys, "evaluate", model, tmp_path, "--batch-size", 999, "--device", "cpu")
    assert err == "timm-inject: cpu has too little memory for 999 images at once. Give a smaller --batch-size.\n"


def test_self_score(capsys, model, word_encoder):
    code, out, _ = run_command(capsys, "self-score", model, "--mapper", "ridge", "--num-new", 2)
    assert code == 0
    assert out.startswith("Estimated without images, 2 of 10 classes hidden at a time, mapper ridge:\n")
    assert "hardest: " in out
    assert "`num_new` must be between 1 and half of the 10" in failing(
        capsys, "self-score", model, "--mapper", "ridge", "--num-new", 9
    )


# ---- models ---------------------------------------------------------------------------------------------------------


def test_unknown_model_is_told(capsys, tmp_path):
    err = failing(capsys, "classify", f"local-dir:{tmp_path}", "x.png")
    assert err.startswith("timm-inject: timm could not create the model 'local-dir:")
    assert err.endswith("Check the folder: it needs config.json and the weights, as `save_for_hf` writes them.\n")
    assert "(nosuch). Check the name with `timm.list_models()`; a folder is written 'local-dir:FOLDER'." in failing(
        capsys, "classify", "nosuch", "x.png"
    )


@pytest.mark.parametrize(
    "command",
    [
        ["inject", "okapi", "--output", "out"],
        ["look-up", "okapi"],
        ["classify", "x.png"],
        ["self-score"],
        ["evaluate", "."],
        ["explain"],
        ["remove", "okapi", "--output", "out"],
        ["rename", "okapi", "yak", "--output", "out"],
    ],
)
def test_a_model_of_transformers_is_told_by_every_command(capsys, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text('{"architectures": ["ViTForImageClassification"], "model_type": "vit"}')
    err = failing(capsys, command[0], "local-dir:.", *command[1:])
    assert "it is a model of transformers (ViTForImageClassification), which timm can't build. Look for its twin in timm: " in err
    assert not (tmp_path / "out").exists()


# ---- how it ends ----------------------------------------------------------------------------------------------------


def test_an_error_of_several_lines_is_one_paragraph(capsys, monkeypatch):
    def fail(_):
        raise TimmInjectError("one\n two")

    monkeypatch.setattr("timm_inject.cli.commands.load_model", fail)
    assert failing(capsys, "look-up", "M", "okapi") == "timm-inject: one two\n"


def test_what_the_machine_refuses_is_one_paragraph(capsys, monkeypatch, model, tmp_path):
    def fail(*_):
        raise OSError(28, "No space left on device", "/tmp/x")

    assert failing(capsys, "evaluate", model, "x" * 5000).endswith("': File name too long.\n")
    monkeypatch.setattr("timm_inject.cli.commands.load_model", fail)
    assert failing(capsys, "look-up", "M", "okapi") == "timm-inject: '/tmp/x': No space left on device.\n"


def test_whoever_reads_may_stop(model, monkeypatch):
    class Closed(io.StringIO):
        def write(self, _):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Closed())
    assert main(["look-up", model, "okapi"]) == 0


def test_a_terminal_that_knows_ascii_only_shows_escapes(model, tmp_path, monkeypatch):
    Image.new("RGB", (64, 64)).save(tmp_path / "é.png")
    written = io.BytesIO()
    terminal = io.TextIOWrapper(written, encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    assert main(["classify", model, str(tmp_path / "é.png"), "--top", "1"]) == 0
    assert b"\\xe9.png\n" in written.getvalue()
    assert b"\\xb7" in written.getvalue()
    assert terminal.errors == "strict"


def test_launchers_start_it_as_a_module(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["timm_inject.cli", "cache", "--json"])
    with pytest.raises(SystemExit, match="^0$"):
        runpy.run_module("timm_inject.cli", run_name="__main__")
    assert "entries" in json.loads(capsys.readouterr().out)


# ---- demo -----------------------------------------------------------------------------------------------------------


@needs_offline
def test_demo_says_what_is_lost_and_reloads(capsys, tmp_path, shared_cache):
    code, out, _ = run_command(capsys, "demo", "--output", tmp_path / "demo", "--json")
    result = json.loads(out)
    assert code == 0
    assert result["reload_is_bit_identical"]
    assert set(result["rank"]) == set(PHOTOS)
    assert result["rank"]["dahlia"] == 1
    assert result["price"]["unseen_accuracy"] > 0
    assert len(result["old_photos"]) == len(OLD_PHOTOS)
    espresso = result["old_photos"]["coffee.png"]
    assert (espresso["class"], espresso["taken_by"]) == ("espresso", None)
    assert espresso["after"] < espresso["before"]
    # What the names mean comes from the lexicon.
    assert {entry.description_source for entry in injection_record(load_model(f"local-dir:{tmp_path / 'demo'}")).classes} == {
        "lexicon"
    }
