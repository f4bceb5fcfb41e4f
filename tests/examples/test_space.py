"""What the page of examples/space does for a visitor, without a browser. `test_space_browser.py` looks at the page itself."""

import gc
import os
import re
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import markup
import pytest
import session as space
import timm
import torch
import yaml
from PIL import Image
from session import Limits, Session

import timm_inject
from timm_inject import ArgumentValueError, ClassNameError, ClassText, HubError, HubTokenError, ImageError, Prediction, Sense
from timm_inject.cache import CACHE_VARIABLE
from tools.docs_pages import ROOT

SPACE = ROOT / "examples" / "space"


@pytest.fixture(scope="module")
def _fitted_mappers(tmp_path_factory):
    return tmp_path_factory.mktemp("fitted-mappers")


@pytest.fixture(autouse=True)
def one_cache(_fitted_mappers, own_cache, monkeypatch):
    """All tests here inject into the same model, so one fit does for most."""
    monkeypatch.setenv(CACHE_VARIABLE, str(_fitted_mappers))


@pytest.fixture
def make_session(small_model, encoder):
    """Sessions that share one small original model, as visitors of the page do."""
    made = []

    def make(**options):
        made.append(Session(encoder=encoder, load=lambda _: small_model, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def session(make_session):
    return make_session()


def definitions(checked):
    return {name: text for name, text, _ in markup.definition_rows(checked)}


def add(session, text="okapi\ndahlia"):
    return session.add_classes(definitions(session.check_names("small", text)))


# ---- names ----------------------------------------------------------------------------------------------------------


def test_names_box_is_read_line_by_line(session):
    checked = session.check_names("small", "\n# a comment\n okapi \n\nrover: a car: on the moon\nflibber gibbet\n")
    assert [entry.name for entry in checked.texts] == ["okapi", "rover", "flibber gibbet"]
    assert (checked.model_name, checked.num_seen) == ("small", 10)
    rows = markup.definition_rows(checked)
    assert rows[0][2] == "animal/mammal/hoofed/giraffe"
    assert rows[0][1] == checked.texts[0].sentence
    assert rows[1][1:] == ["a car: on the moon", "your own words"]
    assert rows[2][1:] == ["", "nothing found: by its name alone"]


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("", ArgumentValueError, "The names box is empty."),
        ("# only a comment\n\n", ArgumentValueError, "The names box is empty."),
        ("\n".join(f"thing {n}" for n in range(10_000)), ArgumentValueError, "has 10000 names; this page takes at most 200"),
        ("okapi\n" + "x" * 1001, ClassNameError, "Name 2 of 2 has 1001 characters"),
        # These are the words of the library.
        ("okapi\nokapi", ClassNameError, "'okapi' is given twice (positions 0 and 1)"),
        ("okapi\nzebra", ClassNameError, "'zebra' is already seen class 6. Remove or rename it."),
        (": no name", ClassNameError, "the name at position 0 is empty"),
        ("okapi: n99999999", timm_inject.DescriptionError, "which timm has no definition for"),
    ],
)
def test_names_that_cannot_be_added(session, text, kind, words):
    with pytest.raises(kind, match=re.escape(words)):
        session.check_names("small", text)
    with pytest.raises(ArgumentValueError, match='Press "Check names" first'):
        session.add_classes({})


@pytest.mark.parametrize("name", ["", "local-dir:/etc", "local-dir:../other", "/etc/passwd", "a b", "hf-hub:nobody", "<b>"])
def test_only_model_names_are_taken(name):
    loaded = []
    with pytest.raises(ArgumentValueError, match="is not a model that this page takes"):
        Session(load=loaded.append).check_names(name, "okapi")
    assert not loaded


@pytest.mark.parametrize("name", ["resnet50.a1_in1k", "hf-hub:user/some-model", " hf_hub:user/model@main "])
def test_model_names_reach_timm_as_they_are(name, small_model):
    loaded = []
    Session(load=lambda given: loaded.append(given) or small_model).check_names(name, "okapi")
    assert loaded == [name.strip()]


def test_large_models_are_refused_before_the_download(monkeypatch):
    monkeypatch.setattr(space, "load_model", lambda _: pytest.fail("the weights were asked for"))
    with pytest.raises(
        timm_inject.UnsupportedHeadError, match="'vit_large_patch16_224' has 304 million parameters.*at most 100 million"
    ):
        Session().check_names("vit_large_patch16_224", "okapi")


def test_model_choices_begin_with_the_one_at_hand():
    choices = space.model_choices()
    assert choices[0] == "tf_efficientnet_lite0"
    assert "resnet50.a1_in1k" in choices


# ---- definitions ----------------------------------------------------------------------------------------------------


def test_definitions_are_taken_as_they_were_left(session):
    checked = session.check_names("small", "bat\ncrane\ndahlia\nrover: a car on the moon\nokapi\ngiraffe")
    table = definitions(checked)
    (club, *_) = next(entry for entry in checked.texts if entry.name == "bat").alternatives
    assert club.kind.startswith("sport/")
    table |= {"bat": club.wnid, "crane": " a machine that lifts ", "okapi": ""}
    del table["giraffe"]
    record = session.add_classes(table).record
    found = {entry.name: (entry.description_source, entry.synset, entry.descriptions) for entry in record.classes}
    crane = next(entry for entry in checked.texts if entry.name == "crane")
    assert found["bat"] == ("lexicon", club.wnid, (club.sentence,))
    # What is typed stands beside the meaning that was found.
    assert found["crane"] == ("user", crane.wnid, ("a machine that lifts", crane.sentence))
    assert found["dahlia"][:2] == ("lexicon", "n11960245")
    assert found["rover"][2] == ("a car on the moon",)
    assert found["okapi"][0] == "lexicon"
    assert "giraffe" not in found


def test_ids_typed_as_names_keep_their_meaning(session):
    checked = session.check_names("small", "n02806379")
    record = session.add_classes(definitions(checked)).record
    assert [(entry.name, entry.synset) for entry in record.classes] == [("bat", "n02806379")]


def test_unusable_tables_are_refused(session):
    session.check_names("small", "okapi")
    with pytest.raises(ArgumentValueError, match="`unseen_class_names` is empty"):
        session.add_classes({})
    with pytest.raises(ClassNameError, match="text of 'okapi' has 1001 characters"):
        session.add_classes({"okapi": "x" * 1001})
    with pytest.raises(ArgumentValueError, match="No classes are added"):
        session.explain("okapi")


# ---- the patched model ----------------------------------------------------------------------------------------------


def test_download_is_a_model_that_plain_timm_loads(session, tmp_path):
    added = add(session)
    with zipfile.ZipFile(added.archive) as archive:
        archive.extractall(tmp_path)
    assert sorted(path.name for path in (tmp_path / "small-plus").iterdir() if path.suffix != ".png") == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    model = timm.create_model(f"local-dir:{tmp_path / 'small-plus'}", pretrained=True)
    assert model.num_classes == 12
    assert timm_inject.injection_record(model) == added.record
    assert added.record.self_score.keys() >= {"moved_share", "seen_accuracy", "unseen_accuracy"}


def test_warnings_are_those_of_the_library(session):
    told = add(session).warnings
    assert any(text.startswith("The head knows 10 classes, and a mapper learns little from fewer than 25.") for text in told)


def test_progress_names_the_steps(session):
    steps = []
    checked = session.check_names("small", "okapi", lambda *step: steps.append(step))
    session.add_classes(definitions(checked), progress=lambda *step: steps.append(step))
    assert [step for step, _, _ in steps[:3]] == ["Load the model", "Look the names up", "Load the text encoder"]
    assert steps[-1][0] == "Pack the download"
    assert all(0 <= done <= total for _, done, total in steps)


def test_visitors_share_nothing_but_the_original(make_session, small_model):
    before = {key: tensor.clone() for key, tensor in small_model.state_dict().items()}
    one, other = make_session(), make_session()
    first = add(one, "okapi")
    with pytest.raises(ArgumentValueError, match="No classes are added"):
        other.explain("okapi")
    second = add(other, "dahlia")
    assert [entry.name for entry in first.record.classes] == ["okapi"]
    assert [entry.name for entry in second.record.classes] == ["dahlia"]
    assert first.archive.parent != second.archive.parent
    assert one.explain("okapi").name == "okapi"
    with pytest.raises(ArgumentValueError, match="No class 'okapi'"):
        other.explain("okapi")
    after = small_model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_files_go_with_the_session(session):
    archive = add(session).archive
    assert archive.is_file()
    session.close()
    assert not archive.parent.exists()
    with pytest.raises(ArgumentValueError, match="put away"):
        session.explain("okapi")


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_files_go_when_nobody_holds_the_session(small_model, encoder):
    """When there are too many visitors, Gradio forgets a session without a word."""
    archive = add(Session(encoder=encoder, load=lambda _: small_model)).archive
    gc.collect()
    assert not archive.parent.exists()


def test_new_names_drop_the_earlier_model(session):
    archive = add(session).archive
    session.check_names("small", "galaxy")
    assert not archive.exists()
    with pytest.raises(ArgumentValueError, match="No classes are added"):
        session.explain("okapi")


# ---- photos ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "my photo.jpg"
    Image.effect_noise((640, 320), 64).convert("RGB").save(path)
    return path


def test_photos_before_and_after(session, photo, small_model):
    add(session)
    (found,) = session.compare([photo])
    assert found.file_name == "my photo.jpg"
    assert found.thumbnail.size == (480, 240)
    assert found.before == tuple(timm_inject.classify(small_model, [photo])[0])
    assert len(found.after) == 5
    assert not any(entry.is_new for entry in found.before)
    assert all(entry.is_new == (entry.index >= 10) for entry in found.after)


def test_photos_are_turned_as_the_phone_was_held(session, tmp_path):
    add(session)
    picture = Image.new("RGB", (40, 20), "red")
    exif = picture.getexif()
    exif[0x0112] = 6  # a quarter turn
    picture.save(tmp_path / "turned.jpg", exif=exif)
    assert session.compare([tmp_path / "turned.jpg"])[0].thumbnail.size == (20, 40)


def test_files_that_are_no_images(make_session, photo):
    session = make_session(limits=Limits(photos=2, pixels=640 * 320 - 1))
    add(session)
    fake = photo.with_name("fake.jpg")
    fake.write_text("not an image")
    with pytest.raises(ImageError) as told:
        session.compare([fake])
    # The words of the library, under the name that the visitor knows.
    assert str(told.value) == (
        "The image 'fake.jpg' could not be opened: not an image, damaged, or not readable. Remove it or save it again."
    )
    with pytest.raises(ImageError, match="has 0 million pixels; this page takes at most"):
        session.compare([photo])
    with pytest.raises(ArgumentValueError, match="3 photos were given; this page takes at most 2"):
        session.compare([photo] * 3)
    with pytest.raises(ArgumentValueError, match="No photo was given"):
        session.compare([])


def test_photos_need_a_patched_model(session, photo):
    with pytest.raises(ArgumentValueError, match='Press "Add classes" first'):
        session.compare([photo])


# ---- push -----------------------------------------------------------------------------------------------------------


def test_an_empty_token_is_never_that_of_whoever_runs_the_page(session, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_owner")
    monkeypatch.setattr(timm_inject, "push_to_hf_hub", lambda *_, **__: pytest.fail("something was pushed"))
    add(session)
    with pytest.raises(HubTokenError, match="There is no access token"):
        session.push("user/model", "  ", private=True)


def test_tokens_do_not_show_in_errors(session, monkeypatch):
    def fail(model, repo_id, *, token, private):
        raise HubError(f"the Hub said: bad token {token} for {repo_id}")

    monkeypatch.setattr(timm_inject, "push_to_hf_hub", fail)
    add(session)
    with pytest.raises(HubError) as told:
        session.push(" user/model ", " hf_secret ", private=True)
    assert str(told.value) == "the Hub said: bad token (token) for user/model"
    assert told.value.__cause__ is None
    assert told.value.__suppress_context__


# ---- markup ---------------------------------------------------------------------------------------------------------

EVIL = "<img src=x onerror=alert(1)>"


def test_nothing_from_outside_becomes_markup(session):
    text = f"{EVIL}\nbat: {EVIL}"
    checked = session.check_names("small", text)
    added = session.add_classes(definitions(checked))
    parts = [
        markup.alert_html(ClassNameError(EVIL)),
        markup.explanation_html(session.explain(EVIL)),
        markup.added_html(added),
        markup.pushed_html(f"https://hub/{EVIL}", [EVIL]),
        markup.pushed_html(f"javascript:{EVIL}", []),
        markup.checked_html(space.Checked(EVIL, 3, ())),
    ]
    assert all("<img" not in part for part in parts)
    assert "&lt;img src=x onerror=alert(1)&gt;" in parts[0]
    assert "href" not in parts[4]


def test_other_meanings_show_the_ids_that_choose_them(session):
    shown = markup.meanings_html(session.check_names("small", "bat\ndahlia"))
    assert "1 name has other meanings too" in shown
    assert "<li><code>n02806379</code>: a club used for hitting a ball" in shown
    assert '<span class="kind">sport/equipment/bat and club</span>' in shown
    assert markup.meanings_html(session.check_names("small", "dahlia")) == ""


def test_a_meaning_without_an_id_is_picked_by_a_hint():
    bird = Sense(("crane",), kind="animal/bird", wnid="n02012849")
    checked = space.Checked(
        "small", 10, (ClassText("crane", ("crane",), sense=bird, alternatives=(Sense(("crane",), kind="device/toy"),)),)
    )
    assert "<code>crane (toy)</code> in the names box" in markup.meanings_html(checked)


def test_the_table_says_what_is_known():
    def rows(**told):
        return markup.definition_rows(space.Checked("small", 10, (ClassText("x", ("x",), **told),)))[0][1:]

    assert rows(kind="vehicle/road", source="none") == ["", "vehicle/road, by the name alone"]
    assert rows(user_texts=("red",), kind="vehicle/road", source="user") == ["red", "your own words, and vehicle/road"]
    assert rows(definition="a thing", source="config") == ["a thing", "the model's config"]


def test_warnings_come_before_the_score(session):
    added = add(session)
    shown = markup.added_html(added)
    assert 0 <= shown.index("The head knows 10 classes") < shown.index("images of seen classes that go to a new one")
    assert len(re.findall(r"<dd>\d+%</dd>", shown)) == len(added.record.self_score)


def test_the_price_comes_before_other_scores(session):
    scores = {"zsl_accuracy": 0.9, "unseen_accuracy": 0.6, "seen_accuracy": 0.7, "moved_share": 0.02}
    added = add(session)
    shown = markup.added_html(replace(added, record=replace(added.record, self_score=scores)))
    assert re.findall(r"<dd>(\d+)%</dd>", shown) == ["2", "70", "60", "90"]
    assert "No self-score" in markup.added_html(replace(added, record=replace(added.record, self_score={})))


def test_doubtful_names_are_told_in_words_and_not_by_bars(session):
    added = add(session)
    first, second = (replace(entry, confidence=0.5, warning=None) for entry in added.record.classes)
    told = replace(added, record=replace(added.record, classes=(replace(first, warning="<hardly> told apart"), second)))
    assert "<li><b>okapi</b>: &lt;hardly&gt; told apart</li>" in markup.added_html(told)
    assert markup.estimates(told) == {"dahlia": 0.5}


def test_bars_keep_classes_of_one_name_apart():
    shares = markup.prediction_shares(
        [Prediction("crane", 134, 0.5, False), Prediction("crane", 517, 0.25, False), Prediction("dahlia", 1000, 0.125, True)]
    )
    assert shares == {"crane": 0.5, "crane (517)": 0.25, "dahlia (new)": 0.125}


# ---- what goes to a Space -------------------------------------------------------------------------------------------


def test_requirements_are_those_of_the_package():
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = {*project["dependencies"], *extras["offline"], *extras["space"]} - {"timm_inject[offline]"}
    lines = (SPACE / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert {line for line in lines if line and not line.startswith("#")} == wanted


def test_header_of_the_space():
    _, header, _ = (SPACE / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    settings = yaml.safe_load(header)
    assert settings["sdk"] == "gradio"
    assert (SPACE / settings["app_file"]).is_file()
    needed = re.search(r"gradio>=(\d+)\.(\d+)", (SPACE / "requirements.txt").read_text(encoding="utf-8"))
    assert [int(part) for part in settings["sdk_version"].split(".")[:2]] >= [int(part) for part in needed.groups()]
    assert len(settings["short_description"]) <= 60


def test_the_folder_for_a_space_runs_on_its_own(tmp_path):
    subprocess.run(["make", "-C", ROOT, "space-folder", f"SPACE={tmp_path / 'space'}"], check=True, capture_output=True)
    result = subprocess.run(
        [sys.executable, "-c", "import session, timm_inject; print(timm_inject.__file__)"],
        cwd=tmp_path / "space",
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(result.stdout.strip()) == tmp_path / "space" / "timm_inject" / "__init__.py"


# ---- the page, without a browser ------------------------------------------------------------------------------------


@pytest.fixture
def page(make_session):
    pytest.importorskip("gradio", reason="the extra `space` is not installed")
    from app import Page

    return Page(make_session())


def test_page_shows_errors_as_the_library_words_them(page, session):
    shown = page.run_check(session, "small", "okapi\nokapi", lambda *_, **__: None)
    with pytest.raises(ClassNameError) as told:
        session.check_names("small", "okapi\nokapi")
    assert shown[page.check_message] == markup.alert_html(told.value)
    assert shown[page.review].visible is False
    assert (
        'role="alert"'
        in page.run_add(session, [["okapi", "", ""]], next(iter(space.CALIBRATIONS)), lambda *_, **__: None)[page.add_message]
    )


def test_page_clears_the_token_whatever_happens(page, session, monkeypatch):
    no_progress = lambda *_, **__: None  # noqa: E731
    shown = page.run_push(session, "user/model", "hf_secret", True, no_progress)
    assert shown[page.token] == ""
    assert "No classes are added" in shown[page.push_message]

    class Commit:
        commit_url = "https://hub/user/model/commit/1"

    add(session)
    monkeypatch.setattr(timm_inject, "push_to_hf_hub", lambda *_, **__: Commit)
    shown = page.run_push(session, "user/model", "hf_secret", True, no_progress)
    assert shown[page.token] == ""
    assert "https://hub/user/model/commit/1" in shown[page.push_message]


def test_page_ignores_rows_that_lost_a_column(page, session):
    session.check_names("small", "okapi\ndahlia")
    first = next(iter(space.CALIBRATIONS))
    shown = page.run_add(session, [["okapi", None, "x"], ["dahlia", "x"]], first, lambda *_, **__: None)
    assert shown[page.results].visible is True
    assert shown[page.chosen].choices == [("okapi", "okapi")]


def test_page_offers_no_api(page):
    assert page.blocks.get_api_info()["named_endpoints"] == {}


def test_page_keeps_no_history_of_what_was_typed(page, monkeypatch):
    import app

    launched = {}
    monkeypatch.setattr(type(page.blocks), "launch", lambda _, **options: launched.update(options))
    app.launch_page(page)
    assert launched["run_history"] is False
    assert launched["ssr_mode"] is False
    assert not any("http" in str(font) for font in launched["theme"]._font + launched["theme"]._font_mono)
    assert page.blocks.analytics_enabled is False
