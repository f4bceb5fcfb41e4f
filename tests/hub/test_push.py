"""Pushing through the real huggingface_hub client to a Hub on 127.0.0.1, with everything that may go wrong on the way."""

import json

import pytest

from tests.hub_server import Client, Failure, Fault

MODEL = """
from tests.helpers import WordEncoder, make_model
model = make_model()
timm_inject.inject(model, ["okapi", "coyote"], encoder=WordEncoder(), mapper="ridge")
folder = FOLDER
timm_inject.save_for_hf(model, folder)
from timm_inject.hub.save import push_folder
"""
PUSH = 'value = push_folder(folder, "alice/zoo").commit.oid'
FILES = {".gitattributes", "config.json", "model.safetensors", "README.md", "timm_inject.png"}
# What a first push asks for, in this order.
REQUESTS = [
    "POST /api/repos/create",
    "GET /api/models/alice/zoo",
    "POST /api/validate-yaml",
    "POST /api/models/alice/zoo/preupload/main",
    "POST /alice/zoo.git/info/lfs/objects/batch",
    "PUT /lfs/",
    "PUT /lfs/",
    "POST /api/models/alice/zoo/commit/main",
]
RETRIED = {3, 4, 5, 6}  # by the client itself; the others are asked once


@pytest.fixture(scope="module")
def _client(hub, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    process = Client(hub, str(home))
    folder = tmp_path_factory.mktemp("saved") / "model"
    assert process.run(MODEL.replace("FOLDER", repr(str(folder)))) is None
    yield process
    process.close()


@pytest.fixture
def client(hub, _client):
    hub.reset()
    return _client


def succeeds(result):
    assert not isinstance(result, Failure), result
    return result


def test_pushed_model_loads_in_timm_and_transformers(hub, client):
    succeeds(client.run('value = timm_inject.push_to_hf_hub(model, "alice/zoo", "Add animals").commit_url'))
    assert [line[: len(wanted)] for line, wanted in zip(hub.requests, REQUESTS, strict=True)] == REQUESTS
    assert set(hub.files("alice/zoo")) == FILES
    assert hub.repositories["alice/zoo"].branches["main"][-1].title == "Add animals"
    assert not hub.repositories["alice/zoo"].private
    assert b"hf-hub:alice/zoo" in hub.files("alice/zoo")["README.md"]
    same, record, labels = succeeds(
        client.run("""
loaded = timm.create_model("hf-hub:alice/zoo", pretrained=True).eval()
state, other = model.state_dict(), loaded.state_dict()
same = state.keys() == other.keys() and all(torch.equal(state[key], other[key]) for key in state)
record = timm_inject.injection_record(loaded) == timm_inject.injection_record(model)
value = [same, record, loaded.pretrained_cfg["label_names"][-2:]]
""")
    )
    assert (same, record, labels) == (True, True, ["okapi", "coyote"])
    shown = succeeds(
        client.run("""
from PIL import Image
from transformers import pipeline
classify = pipeline("image-classification", model="alice/zoo")
picture = Image.effect_noise((160, 160), 64).convert("RGB")
value = {entry["label"]: entry["score"] for entry in classify(picture, top_k=12)}
from timm.data import create_transform, resolve_data_config
batch = create_transform(**resolve_data_config(model=loaded))(picture)[None]
expected = dict(zip(loaded.pretrained_cfg["label_names"], loaded(batch).softmax(1)[0].tolist()))
value = [value, expected]
""")
    )
    assert set(shown[0]) == set(shown[1])
    assert {"okapi", "coyote"} < set(shown[0])
    assert all(abs(shown[0][label] - shown[1][label]) < 1e-4 for label in shown[1])


def test_a_reloaded_model_can_be_changed_and_pushed_again(hub, client):
    succeeds(client.run('timm_inject.push_to_hf_hub(model, "zoo", private=True)'))  # the owner follows from the token
    assert hub.repositories["alice/zoo"].private
    names = succeeds(
        client.run("""
loaded = timm.create_model("hf-hub:alice/zoo", pretrained=True).eval()
timm_inject.remove(loaded, ["okapi"])
timm_inject.inject(loaded, ["red panda"], encoder=WordEncoder(), mapper="ridge")
timm_inject.push_to_hf_hub(loaded, "alice/zoo")
again = timm.create_model("hf-hub:alice/zoo", pretrained=True).eval()
value = [entry.name for entry in timm_inject.injection_record(again).classes]
record = timm_inject.injection_record(again)
assert record.base_model == timm_inject.injection_record(model).base_model != "alice/zoo"
""")
    )
    assert names == ["coyote", "red panda"]
    # The first card was ours and untouched, so the new one took its place.
    assert b"red panda" in hub.files("alice/zoo")["README.md"]
    assert b"okapi" not in hub.files("alice/zoo")["README.md"]


def test_a_model_from_a_cache_of_its_own_has_its_record(hub, client, tmp_path):
    """timm does not keep the cache's place on the model."""
    succeeds(client.run('push_folder(folder, "alice/elsewhere")'))
    load = f'elsewhere = timm.create_model("hf-hub:alice/elsewhere", pretrained=True, cache_dir={str(tmp_path)!r})'
    names = succeeds(client.run(f"{load}; value = [entry.name for entry in timm_inject.injection_record(elsewhere).classes]"))
    assert names == ["okapi", "coyote"]


def test_a_bare_state_dict_gets_its_record_from_the_hub(hub, client):
    succeeds(client.run('push_folder(folder, "alice/zoo")'))
    attach = """
bare = timm.create_model("test_resnet", num_classes=12)
bare.load_state_dict(model.state_dict())
timm_inject.attach_record(bare, {})
value = [timm_inject.injection_record(bare) == timm_inject.injection_record(model), bare.pretrained_cfg["label_names"][-2:]]
"""
    for source in ("alice/zoo", "hf-hub:alice/zoo", "alice/zoo@main"):
        assert succeeds(client.run(attach.replace("{}", repr(source)))) == [True, ["okapi", "coyote"]]
    result = client.run(attach.replace("{}", "'alice/no-such-model'"))
    assert result.kind == "ArgumentValueError"
    assert result.message.startswith("There is no model 'alice/no-such-model': it is neither a folder nor a repository with ")


def test_pushing_the_same_again_changes_nothing(hub, client):
    first = succeeds(client.run(PUSH))
    assert client.notes == []
    assert succeeds(client.run(PUSH)) == first
    assert client.notes == ["'alice/zoo' holds these very files already, so no commit was made."]
    assert len(hub.repositories["alice/zoo"].branches["main"]) == 2


def test_a_pull_request_of_unchanged_files_is_not_opened_and_that_is_told(hub, client):
    first = succeeds(client.run(PUSH))
    url, oid = succeeds(client.run('c = timm_inject.push_to_hf_hub(model, "alice/zoo", create_pr=True); value = [c.pr_url, c.oid]'))
    assert (url, oid) == (None, first)
    assert client.notes == ["'alice/zoo' holds these very files already, so no pull request was opened."]
    assert set(hub.repositories["alice/zoo"].branches) == {"main"}
    code, out, err = succeeds(client.run(RUN.replace("ARGUMENTS", '[folder, "alice/zoo", "--create-pr"]')))
    assert (code, out) == (0, f"Already there: {hub.endpoint}/alice/zoo/commit/{first}\n")
    assert "note: 'alice/zoo' holds these very files already, so no pull request was opened.\n" in err
    out = succeeds(client.run(RUN.replace("ARGUMENTS", '[folder, "alice/zoo", "--json"]')))[1]
    assert json.loads(out) == {
        "commit_url": f"{hub.endpoint}/alice/zoo/commit/{first}",
        "oid": first,
        "pr_url": None,
        "is_new": False,
    }


@pytest.mark.parametrize(
    ("kind", "times"), [(500, 1), (429, 1), ("drop", 1), ("half", 1), ("lost", 1), (500, 99), ("drop", 99), ("lost", 99)]
)
@pytest.mark.parametrize("at", range(len(REQUESTS)))
def test_a_push_that_breaks_off_leaves_all_or_nothing_and_can_be_repeated(hub, client, kind, times, at):
    hub.plan(Fault(kind, at=at, times=times))
    result = client.run(PUSH)
    committed = at == 7 and kind == "lost"
    there = set(hub.files("alice/zoo")) - {".gitattributes"} if "alice/zoo" in hub.repositories else set()
    if times == 1 and (at in RETRIED or committed):
        succeeds(result)
        assert there | {".gitattributes"} == FILES
    else:
        assert isinstance(result, Failure)
        assert result.kind == ("HubServerError" if isinstance(kind, int) else "HubConnectionError")
        assert {"HubError", "TimmInjectError", "OSError"} <= set(result.bases)
        assert there == (FILES - {".gitattributes"} if committed else set())
        if times == 99:
            assert "The Hub can't be asked what is left there" in result.message
        else:
            left = (
                "Nothing was written to the Hub."
                if at == 0 and kind != "lost"
                else "The repository is there, without a file of yours."
            )
            assert left in result.message
    hub.plan()
    succeeds(client.run(PUSH))
    assert set(hub.files("alice/zoo")) == FILES
    assert hub.files("alice/zoo")["config.json"] == succeeds(client.run('value = open(folder + "/config.json").read()')).encode()
    assert len(hub.repositories["alice/zoo"].branches["main"]) == 2  # no commit came twice


def test_error_texts(hub, client):
    hub.plan(Fault(500, at=0))
    assert client.run(PUSH).message == (
        "The Hub failed on its side (planned 500). Nothing was written to the Hub. Push again later: that is safe."
    )
    hub.plan(Fault(429, at=7))
    assert client.run(PUSH).message == (
        "The Hub takes no more requests for now (planned 429). The repository is there, without a file of yours. "
        "Push again in a few minutes."
    )
    hub.plan(Fault("drop", at=1))
    assert client.run(PUSH).message == (
        f"The connection to {hub.endpoint} failed (Server disconnected without sending a response). "
        "The repository is there, without a file of yours. Push again: that is safe."
    )


def test_no_token_sends_nothing(hub, client):
    result = client.run('push_folder(folder, "alice/zoo", token=False)')
    assert (result.kind, hub.requests) == ("HubTokenError", [])
    assert result.message == (
        "There is no access token for the Hub, so nothing was sent. Run `hf auth login`, set HF_TOKEN, or pass `token`, with a "
        "token that may write (https://huggingface.co/settings/tokens)."
    )


def test_unknown_token(hub, client):
    result = client.run('push_folder(folder, "alice/zoo", token="hf_nobody")')
    assert result.kind == "HubTokenError"
    assert "does not know the access token" in result.message
    assert not hub.repositories


@pytest.mark.parametrize("exists", [True, False])
def test_no_permission(hub, client, exists):
    if exists:
        succeeds(client.run(PUSH))
    result = client.run('push_folder(folder, "alice/zoo", token="hf_bob", overwrite=True)')
    assert result.kind == "HubPermissionError"
    assert "PermissionError" in result.bases
    assert result.message.startswith(f"The token may not write to 'alice/zoo' on {hub.endpoint}: ")
    left = "No file of the repository was changed." if exists else "Nothing was written to the Hub."
    assert result.message.endswith(f"or use a token with write access. {left}")
    assert ("alice/zoo" in hub.repositories) == exists


def test_a_permission_that_ends_half_way_leaves_the_new_repository_and_says_so(hub, client):
    hub.plan(Fault(403, path="/commit/"))
    result = client.run(PUSH)
    assert result.kind == "HubPermissionError"
    assert result.message.endswith("The repository is there, without a file of yours.")
    assert set(hub.files("alice/zoo")) == {".gitattributes"}


def test_a_card_that_the_hub_finds_invalid_changes_nothing(hub, client):
    hub.invalid = '"license" must be one of [apache-2.0, mit]'
    result = client.run('timm_inject.push_to_hf_hub(model, "alice/zoo", model_card={"license": "mine"})')
    assert result.kind == "ArgumentValueError"
    assert result.message.startswith(f"The push to 'alice/zoo' on {hub.endpoint} was refused: ")
    assert '"license" must be one of [apache-2.0, mit]' in result.message
    assert result.message.endswith("The repository is there, without a file of yours.")
    hub.invalid = None
    succeeds(client.run(PUSH))


THEIRS = {
    "config.json": b'{"architecture": "vit"}',
    "model.safetensors": b"weights",
    "notes.txt": b"mine",
    "README.md": b"# Mine\n",
}


@pytest.mark.parametrize("config", [THEIRS["config.json"], b"not json", b"[]", b"[" * 100_000, b'"timm_inject"'])
def test_another_model_is_not_replaced(hub, client, config):
    theirs = THEIRS | {"config.json": config}
    hub.add("alice/zoo", theirs)
    result = client.run(PUSH)
    assert result.kind == "HubConflictError"
    assert result.message == (
        "The repository 'alice/zoo' holds a model that this push would replace (config.json, model.safetensors), and timm_inject "
        "did not put it there. Push to another repository, pass `create_pr=True` to propose the change, or `overwrite=True` to "
        "replace it. No file of it was changed."
    )
    assert hub.files("alice/zoo") == {".gitattributes": b""} | theirs


def test_a_pull_request_leaves_the_branch_alone(hub, client):
    hub.add("alice/zoo", THEIRS)
    url = succeeds(client.run('value = push_folder(folder, "alice/zoo", token="hf_bob", create_pr=True).commit.pr_url'))
    assert url == f"{hub.endpoint}/alice/zoo/discussions/1"
    assert hub.files("alice/zoo") == {".gitattributes": b""} | THEIRS
    proposed = hub.files("alice/zoo", "refs/pr/1")
    assert proposed["model.safetensors"] != THEIRS["model.safetensors"]
    assert proposed["README.md"] == THEIRS["README.md"]
    hub.plan(Fault("lost", path="commit"))
    result = client.run('push_folder(folder, "alice/zoo", create_pr=True)')
    assert f"A pull request may have been opened: see {hub.endpoint}/alice/zoo/discussions." in result.message


def test_overwrite_replaces_what_it_must_and_nothing_else(hub, client):
    hub.add("alice/zoo", THEIRS)
    succeeds(client.run('push_folder(folder, "alice/zoo", overwrite=True)'))
    files = hub.files("alice/zoo")
    assert files["notes.txt"] == b"mine"
    assert b"2 injected classes" in files["README.md"]
    assert json.loads(files["config.json"])["timm_inject"]["num_seen"] == 10


@pytest.mark.parametrize("text", ["# Mine\n", "---\nlicense: mit\n---\n", None])
def test_somebodys_readme_is_kept_with_a_note(hub, client, text):
    if text is None:  # a card of ours that somebody wrote into
        succeeds(client.run(PUSH))
        card = hub.files("alice/zoo")["README.md"].replace(b"okapi", b"okapi (in the zoo)")
    else:
        card = text.encode()
    hub.reset()
    hub.add("alice/zoo", {"README.md": card, "data.csv": b"1,2"})
    succeeds(client.run('push_folder(folder, "alice/zoo")'))
    files = hub.files("alice/zoo")
    assert files["README.md"] == card
    assert files["data.csv"] == b"1,2"
    assert set(files) == {".gitattributes", "README.md", "data.csv", "config.json", "model.safetensors"}
    assert client.notes == [
        "The README.md of 'alice/zoo' was written by somebody and is kept, so it may not name the new classes. "
        "Pass `overwrite=True` to replace it with timm_inject's card."
    ]


def test_a_readme_of_the_users_own_is_pushed_from_the_folder(hub, client):
    succeeds(client.run('import pathlib, shutil; shutil.copytree(folder, folder + "2", dirs_exist_ok=True)'))
    succeeds(client.run('pathlib.Path(folder + "2/README.md").write_text("# My own words")'))
    succeeds(client.run('pathlib.Path(folder + "2/secret.txt").write_text("not for the Hub")'))
    succeeds(client.run('push_folder(folder + "2", "alice/zoo")'))
    assert hub.files("alice/zoo")["README.md"] == b"# My own words"
    assert set(hub.files("alice/zoo")) == FILES


def test_private_does_not_turn_a_public_repository_private(hub, client):
    succeeds(client.run(PUSH))
    result = client.run('push_folder(folder, "alice/zoo", private=True)')
    assert result.kind == "HubConflictError"
    assert result.message.startswith("The repository 'alice/zoo' exists and is public, and `private=True` is for new ones only.")


def test_a_commit_of_somebody_else_in_between_is_noticed(hub, client):
    hub.add("alice/zoo", {})
    hub.plan(Fault("race", path="commit"))
    result = client.run(PUSH)
    assert result.kind == "HubConflictError"
    assert "was changed by somebody else meanwhile" in result.message
    assert set(hub.files("alice/zoo")) == {".gitattributes", "theirs.txt"}
    succeeds(client.run(PUSH))
    assert set(hub.files("alice/zoo")) == FILES | {"theirs.txt"}


def test_branches(hub, client):
    repository = hub.add("alice/zoo", {})
    result = client.run('push_folder(folder, "alice/zoo", revision="next")')
    assert result.kind == "HubError"
    assert result.message == (
        f"The repository 'alice/zoo' on {hub.endpoint} has no branch 'next'. Make it with `huggingface_hub.create_branch`. "
        "No file was changed."
    )
    repository.commit("next", "branch", {".gitattributes": b""})
    succeeds(client.run('push_folder(folder, "alice/zoo", revision="next")'))
    assert set(hub.files("alice/zoo", "next")) == FILES
    assert set(hub.files("alice/zoo")) == {".gitattributes"}


MAPPER = """
import copy
base = copy.deepcopy(model)
timm_inject.remove(base, ["okapi", "coyote"])
trained = timm_inject.fit_mapper(base, encoder=WordEncoder(), mapper="ridge")
"""


def test_a_mapper_goes_to_the_hub_and_is_used_from_there(hub, client):
    succeeds(client.run(MAPPER))
    succeeds(client.run('trained.push_to_hub("zoo-mapper")'))
    files = hub.files("alice/zoo-mapper")
    assert set(files) == {".gitattributes", "config.json", "mapper.safetensors", "README.md"}
    assert b'mapper="alice/zoo-mapper"' in files["README.md"]
    same = succeeds(
        client.run("""
one, other = copy.deepcopy(base), copy.deepcopy(base)
timm_inject.inject(one, ["red panda"], encoder=WordEncoder(), mapper="ridge")
timm_inject.inject(other, ["red panda"], encoder=WordEncoder(), mapper="alice/zoo-mapper")
value = all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))
""")
    )
    assert same is True
    first = succeeds(client.run('value = trained.push_to_hub("alice/zoo-mapper").oid'))
    assert len(hub.repositories["alice/zoo-mapper"].branches["main"]) == 2
    assert hub.repositories["alice/zoo-mapper"].branches["main"][-1].oid == first
    # huggingface_hub's way to do both at once.
    saved = 'commit = trained.save_pretrained(folder + "-mapper", repo_id="zoo-mapper", push_to_hub=True, commit_message="Again")'
    assert succeeds(client.run(f"{saved}; value = commit.oid")) == first


@pytest.mark.parametrize("at", range(7))
def test_a_mapper_push_that_breaks_off_can_be_repeated(hub, client, at):
    succeeds(client.run(MAPPER))
    hub.plan(Fault("drop", at=at, times=99))
    result = client.run('trained.push_to_hub("alice/zoo-mapper")')
    assert result.kind == "HubConnectionError"
    hub.plan()
    succeeds(client.run('trained.push_to_hub("alice/zoo-mapper")'))
    succeeds(client.run('timm_inject.TrainedMapper.from_pretrained("alice/zoo-mapper", force_download=True)'))


def test_a_mapper_does_not_replace_a_model(hub, client):
    succeeds(client.run(MAPPER))
    succeeds(client.run(PUSH))
    before = hub.files("alice/zoo")
    assert client.run('trained.push_to_hub("alice/zoo")').kind == "HubConflictError"
    assert hub.files("alice/zoo") == before


NO_MAPPER = "There is no mapper 'alice/nothing': it is neither a registry name, a folder, nor a "


@pytest.mark.parametrize(
    ("fault", "kind", "message"),
    [
        (None, "MapperError", NO_MAPPER),
        ("drop", "HubConnectionError", "The mapper 'alice/nothing' is no folder, and the Hub could not be asked for it: "),
        (500, "HubServerError", "The mapper 'alice/nothing' is no folder, and the Hub did not give it (Server error '500 "),
        (429, "HubServerError", "The mapper 'alice/nothing' is no folder, and the Hub did not give it (429 "),
        (403, "MapperError", NO_MAPPER),
    ],
)
def test_a_mapper_that_is_not_there_is_told_from_a_hub_that_fails(hub, client, fault, kind, message):
    succeeds(client.run(MAPPER))
    hub.plan(fault and Fault(fault, times=99))
    result = client.run('timm_inject.inject(base, ["red panda"], encoder=WordEncoder(), mapper="alice/nothing")')
    assert result.kind == kind
    assert result.message.startswith(message)
    local = client.run('timm_inject.TrainedMapper.from_pretrained("alice/nothing", local_files_only=True)')
    assert local.kind == "HubConnectionError"
    assert local.message.endswith("Go online, or give a folder.")


RUN = """
import contextlib, io
from timm_inject.cli.main import main
out, err = io.StringIO(), io.StringIO()
with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    code = main(["push", *ARGUMENTS])
value = [code, out.getvalue(), err.getvalue()]
"""


def test_command(hub, client):
    code, out, _ = succeeds(client.run(RUN.replace("ARGUMENTS", '[folder, "alice/zoo", "--private"]')))
    assert (code, out) == (0, f"Pushed: {hub.endpoint}/alice/zoo/commit/{hub.repositories['alice/zoo'].branches['main'][-1].oid}\n")
    assert hub.repositories["alice/zoo"].private
    code, out, err = succeeds(client.run(RUN.replace("ARGUMENTS", '[folder, "alice/park", "--create-pr", "--json"]')))
    assert code == 0
    assert json.loads(out)["pr_url"] == f"{hub.endpoint}/alice/park/discussions/1"
    code, out, err = succeeds(client.run(RUN.replace("ARGUMENTS", '[folder, "alice/zoo", "--quiet"]')))
    assert (code, out, err) == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ('["nowhere", "alice/zoo"]', "timm-inject: The folder 'nowhere' has no readable config.json: "),
        ('[folder, "bob/zoo"]', "timm-inject: The token may not write to 'bob/zoo' on "),
        ('[folder, "a b"]', "timm-inject: 'a b' is no repository id: "),
    ],
)
def test_command_ends_with_2_and_one_paragraph(hub, client, arguments, message):
    code, out, err = succeeds(client.run(RUN.replace("ARGUMENTS", arguments)))
    assert (code, out) == (2, "")
    assert err.startswith(message)
    assert err.count("\n") == 1
    assert not hub.repositories


EXAMPLE = """
import contextlib, io, runpy, sys
out = io.StringIO()
sys.argv = ["push_to_hub.py", "alice/zoo", "okapi", "--model", f"local-dir:{folder}-plain"]
timm_inject.save_for_hf(base, f"{folder}-plain")
original = timm_inject.inject
timm_inject.inject = lambda model, names: original(model, names, encoder=WordEncoder(), mapper="ridge")
try:
    with contextlib.redirect_stdout(out):
        runpy.run_path("examples/push_to_hub.py", run_name="__main__")
finally:
    timm_inject.inject = original
value = out.getvalue()
"""


def test_example(hub, client):
    succeeds(client.run(MAPPER))
    shown = succeeds(client.run(EXAMPLE))
    commit = hub.repositories["alice/zoo"].branches["main"][-1].oid
    assert shown == f"pushed: {hub.endpoint}/alice/zoo/commit/{commit}\nloaded: 11 classes, injected: okapi\n"
    assert hub.repositories["alice/zoo"].private


BAD = [
    ('"a/b/c"', "", "'a/b/c' is no repository id: "),
    ('"../evil"', "", "'../evil' is no repository id: "),
    ("3", "", "`repo_id` must be a text such as 'user/resnet50-plus', got int."),
    ('"alice/zoo"', ', commit_message=""', "`commit_message` is empty."),
    ('"alice/zoo"', ', create_pr=True, revision="next"', "A pull request goes to the main branch, not to 'next'."),
    (
        '"alice/zoo"',
        ', safe_serialization="pickle"',
        "`safe_serialization` must be True, False or 'both', as in timm, got 'pickle'. timm_inject writes safetensors",
    ),
    ('"alice/zoo"', ', task_name="detection"', "`task_name` must be 'image-classification', got 'detection'."),
]


@pytest.mark.parametrize(("repo_id", "options", "message"), BAD)
def test_bad_arguments_send_nothing(hub, client, repo_id, options, message):
    result = client.run(f"timm_inject.push_to_hf_hub(model, {repo_id}{options})")
    assert (result.kind, hub.requests) == ("ArgumentValueError", [])
    assert result.message.startswith(message)


def test_a_plain_model_is_not_pushed(hub, client):
    result = client.run('timm_inject.push_to_hf_hub(timm.create_model("test_resnet"), "alice/zoo")')
    assert (result.kind, hub.requests) == ("ArgumentValueError", [])
    assert "This model holds no injected classes" in result.message


def test_no_hub_at_all(hub, client):
    code = "import huggingface_hub; huggingface_hub.constants.ENDPOINT, old = {!r}, huggingface_hub.constants.ENDPOINT"
    succeeds(client.run(code.format("http://127.0.0.1:9")))
    try:
        result = client.run(PUSH)
    finally:
        succeeds(client.run("huggingface_hub.constants.ENDPOINT = old"))
    assert result.kind == "HubConnectionError"
    assert "The connection to http://127.0.0.1:9 failed" in result.message


def test_hostile_file_names_on_the_hub_touch_nothing(hub, client, tmp_path):
    target = tmp_path / "evil.txt"
    hub.add("alice/zoo", {f"../../../../../..{target}": b"evil", "pytorch_model.bin": b"cos\nsystem\n(S'true'\ntR."})
    succeeds(client.run(PUSH))
    assert set(hub.files("alice/zoo")) >= FILES
    succeeds(client.run('timm.create_model("hf-hub:alice/zoo", pretrained=True)'))
    assert not target.exists()
    assert not any("evil" in line or "pytorch_model" in line for line in hub.requests)
