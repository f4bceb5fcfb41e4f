"""Descriptions by a language model: what is asked, what is taken as an answer, and every way in which a server fails."""

import socket
import threading
import time

import pytest
from huggingface_hub import AsyncInferenceClient, InferenceClient

from tests.chat_server import DESCRIPTION, ChatServer
from tests.helpers import NAMES, WordEncoder
from timm_inject import LanguageModel, cache, inject, injection_record, look_up
from timm_inject.errors import ArgumentTypeError, ArgumentValueError, DescriptionError, LanguageModelError
from timm_inject.text import language_model as module
from timm_inject.text.lexicon import read_lexicon
from timm_inject.text.replies import MAX_WORDS, MIN_WORDS, read_reply

OTHER = "tall glass column with blue water, silver rim at its foot and white bubbles that rise past a bright lamp"
LONG = " ".join(["red"] * 50)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(module, "_FIRST_PAUSE", 0.0)
    monkeypatch.setattr(module, "_MAX_PAUSE", 0.0)


@pytest.fixture
def server():
    started = ChatServer()
    yield started
    started.close()


@pytest.fixture
def nowhere():
    """An address at which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/v1"


# ---- asking ---------------------------------------------------------------------------------------------------------


def test_one_sentence_a_name_in_their_order(server):
    server.answer = lambda body: f"{body['messages'][-1]['content'][-1]} {DESCRIPTION}"
    names = [f"gadget {letter}" for letter in "kbxac"]
    assert LanguageModel(server.address, "tiny")(names) == [f"{letter} {DESCRIPTION}" for letter in "kbxac"]
    assert sorted(server.names) == sorted(names)
    assert {request["model"] for request in server.requests} == {"tiny"}


def test_the_prompt_shows_three_lines_of_the_lexicon_and_asks_for_their_manner(server):
    LanguageModel(server.address, "tiny")(["e-bike charger"])
    messages = server.requests[0]["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant"] * 3 + ["user"]
    lines = {sentence: names for names, sentence in ((line.names, line.sentence) for line in read_lexicon())}
    for asked, shown in zip(messages[0:6:2], messages[1:6:2], strict=True):
        assert asked["content"].rpartition("Name: ")[2] in lines[shown["content"]]
        assert read_reply(shown["content"], asked["content"].rpartition("Name: ")[2]).fault is None
    assert messages[-1]["content"] == "Name: e-bike charger"
    for wish in (
        "shape, parts, colours, material",
        "no history",
        "Do not write the name",
        '"may"',
        f"{MIN_WORDS} or more than {MAX_WORDS}",
    ):
        assert wish in messages[0]["content"]


def test_options_go_to_the_server(server):
    LanguageModel(server.address, "tiny", temperature=0.7, max_tokens=None, extra_body={"top_k": 3})(["gadget"])
    asked = server.requests[0]
    assert asked["temperature"] == 0.7
    assert asked["top_k"] == 3
    assert "max_tokens" not in asked


def test_no_token_of_the_users_goes_to_an_address(server, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    LanguageModel(server.address, "tiny", cache=False)(["gadget"])
    LanguageModel(server.address, "tiny", token="own", cache=False)(["gadget"])
    assert server.keys == ["Bearer none", "Bearer own"]


def test_a_client_of_ones_own_does(server):
    client = InferenceClient(base_url=server.address, api_key="key")
    assert LanguageModel(client, "tiny")(["gadget"]) == [DESCRIPTION]
    assert server.keys == ["Bearer key"]


def test_the_only_model_of_a_server_need_not_be_named(server):
    server.models = ["only/one"]
    assert LanguageModel(server.address)(["gadget"]) == [DESCRIPTION]
    assert server.requests[0]["model"] == "only/one"


@pytest.mark.parametrize(
    ("models", "told"),
    [(["a", "b"], "It has 'a', 'b'."), ([], "It does not tell what it has."), (None, "It does not tell what it has.")],
)
def test_else_it_must_be(server, models, told):
    server.models = models
    with pytest.raises(ArgumentValueError) as caught:
        LanguageModel(server.address)(["gadget"])
    assert str(caught.value) == f"Name the model at '{server.address}': LanguageModel(address, 'llama3.2'). {told}"
    assert server.requests == []


def test_many_names_are_asked_for_at_once_but_not_all(server):
    running, most, lock = 0, 0, threading.Lock()

    def answer(body):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.05)
        with lock:
            running -= 1
        return DESCRIPTION

    server.answer = answer
    steps = []
    LanguageModel(server.address, "tiny", parallel=3, progress=lambda *step: steps.append(step))([f"gadget {n}" for n in range(9)])
    assert 1 < most <= 3
    assert steps == [("Write descriptions", done, 9) for done in range(1, 10)]


# ---- keeping --------------------------------------------------------------------------------------------------------


def test_a_name_is_asked_for_once(server):
    first = LanguageModel(server.address, "tiny")
    assert first(["gadget", "gizmo", "gadget"]) == [DESCRIPTION] * 3
    server.answer = OTHER
    assert LanguageModel(server.address, "tiny")(["gizmo"]) == [DESCRIPTION]
    assert sorted(server.names) == ["gadget", "gizmo"]
    assert cache.inspect_cache().entries["texts"] == 2


def test_another_model_prompt_or_option_is_asked_anew(server, monkeypatch):
    server.models = ["tiny", "large"]
    LanguageModel(server.address, "tiny")(["gadget"])
    LanguageModel(server.address, "large")(["gadget"])
    LanguageModel(server.address, "tiny", temperature=1.0)(["gadget"])
    assert len(server.requests) == 3
    monkeypatch.setattr(module, "_PROMPT_VERSION", "next")
    LanguageModel(server.address, "tiny")(["gadget"])
    assert len(server.requests) == 4


def test_without_the_cache_it_is_asked_once_an_object(server):
    writer = LanguageModel(server.address, "tiny", cache=False)
    assert writer(["gadget"]) == writer(["gadget"])
    assert len(server.requests) == 1
    LanguageModel(server.address, "tiny", cache=False)(["gadget"])
    assert len(server.requests) == 2
    assert cache.inspect_cache().entries["texts"] == 0


def test_what_was_written_before_a_failure_is_kept(server):
    server.answer = lambda body: "" if body["messages"][-1]["content"].endswith("gizmo") else DESCRIPTION
    with pytest.raises(DescriptionError):
        LanguageModel(server.address, "tiny")(["gadget", "gizmo"])
    server.requests.clear()
    server.answer = OTHER
    assert LanguageModel(server.address, "tiny")(["gadget", "gizmo"]) == [DESCRIPTION, OTHER]
    assert server.names == ["gizmo"]


# ---- answers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        DESCRIPTION,
        f"  {DESCRIPTION}.\n",
        f'"{DESCRIPTION}."',
        f"\N{LEFT DOUBLE QUOTATION MARK}{DESCRIPTION}\N{RIGHT DOUBLE QUOTATION MARK}.",
        f"1. {DESCRIPTION}",
        f"- {DESCRIPTION}",
        f"**{DESCRIPTION}**",
        f"Description: {DESCRIPTION}",
        f"**Gadget:** {DESCRIPTION}",
        f"gadget \N{EN DASH} {DESCRIPTION}",
        f"Here is the phrase:\n\n{DESCRIPTION}",
        f"```text\n{DESCRIPTION}\n```",
        f"<think>The user wants a gadget.\nA gadget is a thing.</think>\n\n{DESCRIPTION}",
        f"The user wants a gadget.\n</think>\n{DESCRIPTION}",
        f"<|channel|>analysis<|message|>A gadget.<|end|><|start|>assistant<|channel|>final<|message|>{DESCRIPTION}",
        f"{DESCRIPTION}</s>",
        DESCRIPTION[0].upper() + DESCRIPTION[1:],
        f"A typical photo of a gadget shows {DESCRIPTION}",
        DESCRIPTION.replace(" of ", "\u00a0of  "),
    ],
)
def test_what_is_round_the_sentence_is_taken_off(content):
    reply = read_reply(content, "gadget")
    assert (reply.text, reply.fault) == (DESCRIPTION, None)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("", "is empty"),
        ("<think>What is a gadget? I should", "is empty"),
        ("a small grey box", "has 4 words, not 12 to 40"),
        (LONG, "has 50 words, not 12 to 40"),
        (f"{DESCRIPTION}\n{OTHER}", "has 2 lines, not one"),
        ("I'm sorry, but there is no such thing in the pictures that were shown here so far", "talks to the reader"),
        ("I cannot describe this thing, as there is no picture of it in this long conversation of ours", "talks to the reader"),
        ("Please give more details on the gadget that the photo shows, such as its colour and its shape", "talks to the reader"),
    ],
)
def test_what_is_no_description_is_told(content, fault):
    reply = read_reply(content, "gadget")
    assert (reply.fault, reply.is_usable) == (fault, False)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (f"gadget with a {DESCRIPTION}", "holds the name"),
        (f"two Gadgets beside a {DESCRIPTION}", "holds the name"),
        (f"{DESCRIPTION}, may be red", "says 'may', which a photo does not show"),
        (f"{DESCRIPTION}, used for heating", "tells more than a photo shows: 'used for'"),
        (f"{DESCRIPTION}, invented in Italy", "tells more than a photo shows: 'invented'"),
    ],
)
def test_what_is_not_the_lexicons_manner_is_told_but_usable(text, fault):
    reply = read_reply(text, "gadget (device)")
    assert (reply.fault, reply.is_usable) == (fault, True)


def test_the_lexicon_itself_passes():
    """All but the few lines that the rules of a model's answers catch by chance."""
    replies = [(line, read_reply(line.sentence, line.names[0])) for line in read_lexicon()[::7]]
    assert all(reply.text == line.sentence for line, reply in replies if line.sentence[0].islower())
    assert sum(reply.fault is not None for _, reply in replies) < 0.02 * len(replies)
    assert [line.names[0] for line, reply in replies if not reply.is_usable] == []


def test_a_name_in_a_longer_word_is_none():
    assert read_reply(f"earthen pot beside a {DESCRIPTION}", "art").fault is None


def test_a_bad_answer_is_asked_for_again_with_what_was_wrong(server):
    answers = ["", LONG, DESCRIPTION]
    server.answer = lambda body: answers.pop(0)
    assert LanguageModel(server.address, "tiny")(["gadget"]) == [DESCRIPTION]
    asked = [request["messages"] for request in server.requests]
    assert [len(messages) for messages in asked] == [7, 9, 11]
    assert asked[1][-2] == {"role": "assistant", "content": "(nothing)"}
    assert asked[1][-1]["content"].startswith("That answer is empty. Once more: ")
    assert asked[2][-2]["content"] == LONG
    assert asked[2][-1]["content"].startswith("That answer has 50 words, not 12 to 40. ")
    assert asked[2][-1]["content"].endswith("Name: gadget")


def test_an_answer_that_was_cut_off_is_none(server):
    server.finish_reason = "length"
    with pytest.raises(DescriptionError, match=r"'gadget' \(the answer was cut off\)"):
        LanguageModel(server.address, "tiny")(["gadget"])
    assert len(server.requests) == 3


def test_the_best_that_came_is_taken_where_none_is_in_the_manner(server):
    named = f"gadget with a {DESCRIPTION}"
    answers = [LONG, named, ""]
    server.answer = lambda body: answers.pop(0)
    assert LanguageModel(server.address, "tiny")(["gadget"]) == [named]


def test_names_without_a_description_are_told_together(server):
    contents = {"gadget": DESCRIPTION, "gizmo": LONG, "glorp": "Unknown."}
    server.answer = lambda body: contents[body["messages"][-1]["content"].rpartition("Name: ")[2]]
    with pytest.raises(DescriptionError) as caught:
        LanguageModel(server.address, "tiny")(["glorp", "gadget", "gizmo"])
    assert str(caught.value) == (
        "The language model 'tiny' gave no description of 2 of 3 names: 'glorp' (the answer says that the name is unknown), "
        "'gizmo' (the answer has 50 words, not 12 to 40). Describe them yourself, {'glorp': '...'}, spell them otherwise, or take "
        "a larger model. The other texts are kept."
    )
    assert server.names.count("glorp") == 1  # it will not know better the next time
    assert server.names.count("gizmo") == 3


def test_no_content_at_all_is_an_empty_answer(server):
    server.answer = lambda body: None
    with pytest.raises(DescriptionError, match="the answer is empty"):
        LanguageModel(server.address, "tiny")(["gadget"])


# ---- servers that fail ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [500, 503, 429, 408, (429, {"Retry-After": "0"}), "garbage", "odd"])
def test_faults_that_pass_are_waited_out(server, fault):
    server.faults = [fault, fault, None]
    assert LanguageModel(server.address, "tiny")(["gadget"]) == [DESCRIPTION]
    assert len(server.requests) == 3


def test_a_connection_that_is_lost_on_the_way_is_taken_up_again(server):
    server.faults = [None, "drop"]
    assert LanguageModel(server.address, "tiny", parallel=1)(["gadget", "gizmo"]) == [DESCRIPTION] * 2
    assert len(server.requests) == 3


def test_pauses_grow_and_heed_the_server_within_reason(monkeypatch):
    class Response:
        headers = {"Retry-After": "7"}  # noqa: RUF012

    monkeypatch.setattr(module, "_FIRST_PAUSE", 1.0)
    monkeypatch.setattr(module, "_MAX_PAUSE", 60.0)
    told = OSError()
    told.response = Response()
    assert [module._pause_after(OSError(), attempt) for attempt in range(4)] == [1, 2, 4, 8]
    assert [module._pause_after(told, attempt) for attempt in (0, 5, 9)] == [7, 32, 60]
    Response.headers = {"Retry-After": "3600"}
    assert module._pause_after(told, 0) == 60
    Response.headers = {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}
    assert module._pause_after(told, 0) == 1


@pytest.mark.parametrize(
    ("fault", "requests", "told"),
    [
        (
            500,
            3,
            "The language model 'tiny' at '{at}' failed 3 times (500: planned 500). Try again later; what was written is kept.",
        ),
        (
            429,
            3,
            "The language model 'tiny' at '{at}' takes no more requests for now (429: planned 429). Try again later; what was "
            "written is kept.",
        ),
        (
            401,
            1,
            "The language model 'tiny' at '{at}' refused the request (401: planned 401). Pass a key that may use it, `token=`; "
            "for the Hub, `hf auth login`.",
        ),
        (400, 1, "The language model 'tiny' at '{at}' could not be asked: 400: planned 400."),
        (404, 1, "'{at}' knows no model 'tiny', or no such address (404: planned 404). It has 'tiny'."),
        (
            "garbage",
            3,
            "'{at}' gave an answer that is no chat completion 3 times: it is no JSON. Is it the address of a server that speaks "
            "OpenAI's protocol, such as 'http://127.0.0.1:11434/v1'?",
        ),
    ],
)
def test_faults_that_stay_are_told_with_what_to_do(server, fault, requests, told):
    server.faults = [fault] * 9
    with pytest.raises(LanguageModelError) as caught:
        LanguageModel(server.address, "tiny", retries=2)(["gadget"])
    assert str(caught.value) == told.format(at=server.address)
    assert len(server.requests) == requests
    assert isinstance(caught.value, OSError)


def test_json_that_is_no_completion_is_told(server):
    server.faults = ["odd"] * 9
    with pytest.raises(LanguageModelError, match="no chat completion 2 times: it holds no choices .*something else"):
        LanguageModel(server.address, "tiny", retries=1)(["gadget"])


def test_a_model_that_the_server_lacks_is_told_with_those_that_it_has(server):
    server.models = ["tiny", "other"]
    with pytest.raises(LanguageModelError) as caught:
        LanguageModel(server.address, "large")(["gadget"])
    assert str(caught.value) == (
        f"'{server.address}' knows no model 'large', or no such address (404: model 'large' not found). It has 'tiny', 'other'."
    )


@pytest.mark.parametrize("model", [None, "tiny"])
def test_no_server_is_told_at_once(nowhere, model):
    begun = time.monotonic()
    with pytest.raises(LanguageModelError) as caught:
        LanguageModel(nowhere, model)(["gadget", "gizmo"])
    assert time.monotonic() - begun < 2
    assert str(caught.value).startswith(f"No language model can be reached at '{nowhere}': ")
    assert str(caught.value).endswith(
        ". Start the server (Ollama: `ollama serve`, vLLM: `vllm serve MODEL`, llama.cpp: `llama-server -m FILE`), or correct the "
        "address."
    )


def test_a_slow_server_is_asked_once_more(server):
    server.faults = ["slow", None]
    assert LanguageModel(server.address, "tiny", timeout=0.3)(["gadget"]) == [DESCRIPTION]
    server.faults = ["slow"] * 9
    with pytest.raises(LanguageModelError) as caught:
        LanguageModel(server.address, "tiny", timeout=0.3)(["gizmo"])
    assert str(caught.value) == (
        f"The language model 'tiny' at '{server.address}' did not answer within 0.3 s, 2 times. Give it longer, `timeout=`, or ask "
        "for less at once, `parallel=1`."
    )
    assert server.names == ["gadget", "gadget", "gizmo", "gizmo"]


def test_after_a_failure_nothing_more_is_asked(server):
    server.faults = [401]
    with pytest.raises(LanguageModelError, match="refused the request"):
        LanguageModel(server.address, "tiny", parallel=1)([f"gadget {number}" for number in range(20)])
    asked = len(server.requests)
    assert asked < 5
    time.sleep(0.2)
    assert len(server.requests) == asked


def test_an_interrupted_run_keeps_what_came(server):
    def stop(step, done, total):
        if done == 2:
            raise KeyboardInterrupt

    names = [f"gadget {number}" for number in range(20)]
    with pytest.raises(KeyboardInterrupt):
        LanguageModel(server.address, "tiny", parallel=1, progress=stop)(names)
    asked = len(server.requests)
    assert 2 <= asked < 6
    LanguageModel(server.address, "tiny")(names)
    assert len(server.requests) == 20


def test_the_hub_without_a_key_is_told(monkeypatch):
    monkeypatch.setattr("huggingface_hub.inference._providers._common.get_token", lambda: None)
    with pytest.raises(LanguageModelError) as caught:
        LanguageModel("auto", "meta-llama/Llama-3.3-70B-Instruct")(["gadget"])
    told = str(caught.value)
    assert " at Hugging Face (provider 'auto') could not be asked: You must provide" in told
    assert told.endswith("log in with `hf auth login`.")


# ---- arguments ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((42,), {}, ArgumentTypeError, "`client` must be a huggingface_hub.InferenceClient, an address or the name of a provider"),
        ((AsyncInferenceClient("m"),), {}, ArgumentTypeError, "on the Hub, got AsyncInferenceClient. InferenceClient(base_url=..."),
        (("127.0.0.1:11434/v1",), {}, ArgumentValueError, "`client` must be an address that begins with 'http://' or 'https://'"),
        (
            ("meta-llama/Llama-3.3-70B-Instruct",),
            {},
            ArgumentValueError,
            "Write LanguageModel('auto', MODEL) for a model on the Hub.",
        ),
        (("auto",), {}, ArgumentValueError, "Name the model: LanguageModel('auto', 'meta-llama/Llama-3.3-70B-Instruct')."),
        ((InferenceClient(),), {}, ArgumentValueError, "Name the model: LanguageModel('client', "),
        ((InferenceClient("a"), "b"), {}, ArgumentValueError, "The client is one for the model 'a', but `model` is 'b'."),
        (("auto", 3), {}, ArgumentTypeError, "`model` must be the name of a model, got 3."),
        (("auto", "m"), {"retries": -1}, ArgumentValueError, "`retries` must be a whole number of at least 0, got -1."),
        (("auto", "m"), {"parallel": 0}, ArgumentValueError, "`parallel` must be a whole number of at least 1, got 0."),
        (("auto", "m"), {"timeout": 0}, ArgumentValueError, "`timeout` must be a number of seconds above 0, got 0."),
        (("auto", "m"), {"stream": True}, ArgumentTypeError, "`LanguageModel` takes no 'stream'."),
        (("auto", "m"), {"top_k": 3}, ArgumentTypeError, "takes no 'top_k'. What `chat_completion` does not know goes into"),
    ],
)
def test_bad_arguments_are_told(arguments, options, error, message):
    with pytest.raises(error) as caught:
        LanguageModel(*arguments, **options)
    assert message in str(caught.value)


@pytest.mark.parametrize("names", ["okapi", ["okapi", ""], [3]])
def test_names_must_be_a_list_of_names(server, names):
    with pytest.raises(ArgumentTypeError, match=r"`names` must be a list of names, got .* Write \['okapi'\] for a single one\."):
        LanguageModel(server.address, "tiny")(names)


def test_it_says_what_it_is(server):
    assert repr(LanguageModel(server.address, "tiny")) == f"LanguageModel('{server.address}', model='tiny')"
    assert repr(LanguageModel("auto", "m")) == "LanguageModel(Hugging Face (provider 'auto'), model='m')"


# ---- beside a model -------------------------------------------------------------------------------------------------


def test_it_describes_what_the_lexicon_lacks_and_nothing_else(server, small_model):
    writer = LanguageModel(server.address, "tiny")
    known, new = look_up(small_model, ["okapi", "quantum toaster"], descriptions=writer)
    assert server.names == ["quantum toaster"]
    assert known.source == "lexicon"
    assert new.user_texts == (DESCRIPTION,)
    inject(small_model, ["okapi", "quantum toaster"], descriptions=writer, encoder=WordEncoder())
    assert server.names == ["quantum toaster"]
    assert injection_record(small_model).classes[1].descriptions == (DESCRIPTION,)


def test_a_failure_leaves_the_model_as_it_was(nowhere, small_model):
    before = {name: value.clone() for name, value in small_model.state_dict().items()}
    with pytest.raises(LanguageModelError):
        inject(small_model, ["quantum toaster"], descriptions=LanguageModel(nowhere, "tiny"), encoder=WordEncoder())
    assert small_model.num_classes == len(NAMES)
    assert all(value.equal(before[name]) for name, value in small_model.state_dict().items())
