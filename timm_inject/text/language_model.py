"""Descriptions by a language model, for names that nobody has written a line of the lexicon for yet."""

from __future__ import annotations

import inspect
import itertools
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import huggingface_hub
from huggingface_hub.errors import OfflineModeIsEnabled

from timm_inject.cache import content_key, load_or_compute_text
from timm_inject.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    DescriptionError,
    LanguageModelError,
    TimmInjectError,
    list_some,
)
from timm_inject.io import is_connection_error, said, status_of
from timm_inject.text.encoder import ProgressCallback
from timm_inject.text.replies import MAX_WORDS, MIN_WORDS, UNKNOWN, read_reply
from timm_inject.text.senses import load_senses

if TYPE_CHECKING:
    from huggingface_hub import InferenceClient

__all__ = ["LanguageModel"]

# Part of the cache's keys: raise it where a change of the prompt makes older texts worth writing anew.
_PROMPT_VERSION = "1"
_RULES = f"""You describe what photos show, for a program that tells things apart by their looks.

For each name write one phrase of 15 to 35 words (never fewer than {MIN_WORDS} or more than {MAX_WORDS}) on what a typical photo \
of it shows: shape, parts, colours, material, and its surroundings. Begin with what tells it from the things most like it. Write \
only what can be seen: no "may" or "usually", no history, no use, no opinion. Do not write the name itself or another name for it. \
Answer with the phrase alone, on one line, in English. If you do not know what the name means, answer {UNKNOWN}."""
# The lexicon's own lines show the manner: an animal, a device, a dish.
_EXAMPLES = ("red panda", "espresso machine", "biscotti")
# How often one name is asked for where the answer is no description.
_MAX_REPLIES = 3
_OPTIONS = {"temperature": 0.0, "max_tokens": 1024}
_OWN_OPTIONS = ("messages", "stream")
# Seconds: the first pause before a request is sent again, doubled each time, and the longest that a server is heeded for.
_FIRST_PAUSE, _MAX_PAUSE = 1.0, 60.0
_LIST_SECONDS = 10.0
_PASSING_STATUSES = (408, 425, 429)
_NO_KEY = "none"
_WAYS = "Ollama: `ollama serve`, vLLM: `vllm serve MODEL`, llama.cpp: `llama-server -m FILE`"


class LanguageModel:
    """Writes descriptions in the lexicon's manner, one sentence a name on what photos of it show. Pass it as `descriptions=`.

    It is asked only for classes that neither the lexicon nor you describe, with a prompt that holds three lines of the lexicon.
    Answers are cleaned, checked and kept on disk, so that a name is asked for once. What it writes may be wrong: read it with
    `look_up`, and test with photos.

    Args:
        client: The address of a server that speaks OpenAI's protocol, such as "http://127.0.0.1:11434/v1" for Ollama (vLLM,
            llama.cpp and others do too); the name of an inference provider on the Hub, or "auto"; or a
            `huggingface_hub.InferenceClient`.
        model: Its name, such as "llama3.2" or "meta-llama/Llama-3.3-70B-Instruct". None takes the client's, or the only one that a
            server of its own address has.
        token: The key for an address or a provider. None sends none to an address, and your Hugging Face token to a provider.
        timeout: Seconds to wait for an answer. For a client of your own, its `timeout` holds.
        retries: How often a request is sent again after a fault that may pass (429, 5xx, a lost connection), with growing pauses;
            after a time-out, once.
        parallel: How many requests run at once.
        cache: Whether texts are kept on disk, by the model's name, the prompt's version and the name.
        progress: Called as `progress(step, done, total)`.
        **options: For `chat_completion`, such as `temperature=0.7`, `max_tokens=2000` or `extra_body={...}`; None leaves one out.

    Raises:
        ArgumentTypeError, ArgumentValueError: An argument is none of these.

    Example:
        >>> writer = timm_inject.LanguageModel("http://127.0.0.1:11434/v1", "llama3.2")
        >>> head = timm_inject.inject(model, ["okapi", "e-bike charger"], descriptions=writer)
    """

    def __init__(
        self,
        client: InferenceClient | str,
        model: str | None = None,
        *,
        token: str | None = None,
        timeout: float = 120.0,
        retries: int = 4,
        parallel: int = 4,
        cache: bool = True,
        progress: ProgressCallback | None = None,
        **options: Any,
    ) -> None:
        _check_numbers(timeout=timeout, retries=retries, parallel=parallel)
        self._client = _make_client(client, token, timeout) if isinstance(client, str) else _check_client(client)
        _check_options(options, self._client)
        own_model = getattr(self._client, "model", None)
        self._address = own_model if isinstance(own_model, str) and _is_address(own_model) else None
        self._model = _choose_model(model, None if self._address else own_model)
        if self._model is None and self._address is None:
            raise ArgumentValueError(
                f"Name the model: LanguageModel({client if isinstance(client, str) else 'client'!r}, "
                "'meta-llama/Llama-3.3-70B-Instruct')."
            )
        self._retries, self._parallel, self._cache, self._progress = retries, parallel, cache, progress
        self._options = options
        self._written: dict[str, str] = {}
        self._has_answered = False

    def __repr__(self) -> str:
        """The model, and where it is asked."""
        return f"LanguageModel({self._where()}, model={self._model!r})"

    def __call__(self, names: list[str]) -> list[str]:
        """Write one sentence a name, in the given order.

        Raises:
            ArgumentTypeError: `names` is no list of names.
            DescriptionError: With the names that got no usable description, three times. The others' are kept.
            LanguageModelError: The model cannot be reached, refuses, or keeps failing.
        """
        if isinstance(names, str) or not all(isinstance(name, str) and name.strip() for name in names):
            raise ArgumentTypeError(f"`names` must be a list of names, got {names!r:.100}. Write ['okapi'] for a single one.")
        wanted = list(dict.fromkeys(names))
        failed = self._write_all([name for name in wanted if name not in self._written], len(wanted))
        if failed:
            told = [f"{name!r} (the answer {fault})" for name, fault in failed.items()]
            raise DescriptionError(
                f"The language model {self._model!r} gave no description of {len(failed)} of {len(wanted)} names: "
                f"{list_some(told)}. Describe them yourself, {{{next(iter(failed))!r}: '...'}}, spell them otherwise, or take a "
                "larger model. The other texts are kept."
            )
        return [self._written[name] for name in names]

    def _write_all(self, names: Sequence[str], total: int) -> dict[str, str]:
        """Have texts written, several at once; gives name -> fault for those that got none."""
        failed: dict[str, str] = {}
        if not names:
            return failed
        model, stop = self._find_model(), threading.Event()
        load_senses()  # here, as each of the threads would read the lexicon for itself
        with ThreadPoolExecutor(min(self._parallel, len(names))) as pool:
            jobs = {pool.submit(self._text_of, name, model, stop): name for name in names}
            try:
                for done, job in enumerate(as_completed(jobs), start=total - len(names) + 1):
                    try:
                        self._written[jobs[job]] = job.result()
                    except _NoDescriptionError as error:
                        failed[jobs[job]] = str(error)
                    if self._progress is not None:
                        self._progress("Write descriptions", done, total)
            finally:  # after a failure, nothing that has not begun is asked for
                stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
        return {name: failed[name] for name in names if name in failed}

    def _text_of(self, name: str, model: str, stop: threading.Event) -> str:
        if not self._cache:
            return self._write(name, model, stop)
        key = content_key(model, _PROMPT_VERSION, name, repr(sorted(self._options.items())))
        return load_or_compute_text(key, lambda: self._write(name, model, stop))

    def _write(self, name: str, model: str, stop: threading.Event) -> str:
        """Ask until the answer is a description, with what was wrong with the one before."""
        messages, second_best, fault = _make_prompt(name), "", ""
        for _ in range(_MAX_REPLIES):
            content, is_cut_off = self._ask(messages, model, stop)
            reply = read_reply(content, name, is_cut_off=is_cut_off)
            if reply.fault is None:
                return reply.text
            fault = reply.fault
            if reply.is_unknown:
                break
            if reply.is_usable:
                second_best = reply.text
            messages = [
                *messages,
                {"role": "assistant", "content": reply.text or "(nothing)"},
                {
                    "role": "user",
                    "content": f"That answer {fault}. Once more: one line that follows all the rules.\n\nName: {name}",
                },
            ]
        if not second_best:
            raise _NoDescriptionError(fault)
        return second_best

    # ---- the server ---------------------------------------------------------------------------------------------

    def _ask(self, messages: list[dict[str, str]], model: str, stop: threading.Event) -> tuple[str, bool]:
        """Send one request, again where a fault may pass: the answer, and whether it was cut off."""
        for attempt in itertools.count():
            if stop.is_set():
                break
            try:
                content = self._complete(messages, model)
            except Exception as error:
                retries = min(self._retries, 1) if _is_timeout(error) else self._retries
                if attempt >= retries or not self._may_pass(error):
                    raise LanguageModelError(self._explain(error, attempt + 1)) from error
                stop.wait(_pause_after(error, attempt))
            else:
                self._has_answered = True
                return content
        raise _NoDescriptionError("was no longer waited for")

    def _complete(self, messages: list[dict[str, str]], model: str) -> tuple[str, bool]:
        try:
            answer: Any = self._client.chat_completion(messages, model=model, **{**_OPTIONS, **self._options})
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise _NoCompletionError("it is no JSON") from error
        try:
            choice = answer.choices[0]
            content, reason = choice.message.content, choice.finish_reason
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            raise _NoCompletionError(f"it holds no choices with a message, {answer!r:.200}") from error
        return content if isinstance(content, str) else "", reason == "length"

    def _may_pass(self, error: Exception) -> bool:
        status = status_of(error)
        if status is not None:
            return status in _PASSING_STATUSES or status >= 500
        if isinstance(error, _NoCompletionError):
            return True
        # A server that is not there is not waited for; one that was may come back.
        is_absent = not self._has_answered and not _is_timeout(error) and "Connect" in type(error).__name__
        return is_connection_error(error) and not isinstance(error, OfflineModeIsEnabled) and not is_absent

    def _where(self) -> str:
        return (
            repr(self._address)
            if self._address
            else f"Hugging Face (provider {getattr(self._client, 'provider', None) or 'auto'!r})"
        )

    def _explain(self, error: Exception, attempts: int) -> str:
        """Say what is wrong with the server, and what to do."""
        status, where, message = status_of(error), self._where(), _message_of(error)
        times, tries = (f" {attempts} times", f", {attempts} times") if attempts > 1 else ("", "")
        model = f"The language model {self._model!r} at {where}"
        if isinstance(error, OfflineModeIsEnabled):
            return f"{where} was not asked, as huggingface_hub is offline: {message}."
        if isinstance(error, _NoCompletionError):
            return (
                f"{where} gave an answer that is no chat completion{times}: {message}. Is it the address of a server that speaks "
                "OpenAI's protocol, such as 'http://127.0.0.1:11434/v1'?"
            )
        if _is_timeout(error):
            seconds = getattr(self._client, "timeout", None)
            within = f"within {seconds:g} s" if isinstance(seconds, int | float) else "in time"
            return f"{model} did not answer {within}{tries}. Give it longer, `timeout=`, or ask for less at once, `parallel=1`."
        if status in (401, 403):
            return f"{model} refused the request ({message}). Pass a key that may use it, `token=`; for the Hub, `hf auth login`."
        if status == 404:
            return f"{where} knows no model {self._model!r}, or no such address ({message}).{self._offer_models()}"
        if status == 429:
            return f"{model} takes no more requests for now ({message}). Try again later; what was written is kept."
        if status is not None and status >= 500:
            return f"{model} failed{times} ({message}). Try again later; what was written is kept."
        if is_connection_error(error) and self._address:
            return f"No language model can be reached at {where}: {message}. Start the server ({_WAYS}), or correct the address."
        if is_connection_error(error):
            return f"{where} can't be reached: {message}. Go online, or pass the address of a server of your own."
        return f"{model} could not be asked: {message}."

    def _find_model(self) -> str:
        """The model's name: as given, or the only one that the server has."""
        if self._model is None:
            try:
                models = self._list_models()
            except TimmInjectError:
                raise
            except Exception as error:
                if is_connection_error(error):
                    raise LanguageModelError(self._explain(error, 1)) from error
                models = []
            if len(models) != 1:
                known = f"It has {list_some(map(repr, models))}." if models else "It does not tell what it has."
                raise ArgumentValueError(f"Name the model at {self._where()}: LanguageModel(address, 'llama3.2'). {known}")
            self._model = models[0]
        return self._model

    def _offer_models(self) -> str:
        try:
            models = self._list_models() if self._address else []
        except Exception:  # noqa: BLE001 - this is the report of a failure; a second one adds nothing
            models = []
        return f" It has {list_some(map(repr, models))}." if models else ""

    def _list_models(self) -> list[str]:
        parts = urlsplit(str(self._address))
        path = parts.path.rstrip("/").removesuffix("/chat/completions")
        url = urlunsplit(parts._replace(path=f"{path if path.endswith('/v1') else f'{path}/v1'}/models"))
        headers = {"authorization": f"Bearer {self._client.token}"} if getattr(self._client, "token", None) else {}
        headers |= getattr(self._client, "headers", None) or {}
        answer = huggingface_hub.get_session().get(url, headers=headers, timeout=_LIST_SECONDS)
        return [str(entry["id"]) for entry in answer.json()["data"]] if answer.status_code == 200 else []


class _NoDescriptionError(Exception):
    """A name got no description; the text says what the last answer was like."""


class _NoCompletionError(Exception):
    """The server's answer is no chat completion."""


def _make_prompt(name: str) -> list[dict[str, str]]:
    """The rules and three examples as a conversation: many models take no other roles than these two."""
    messages: list[dict[str, str]] = []
    for example in _EXAMPLES:
        asked = f"Name: {example}" if messages else f"{_RULES}\n\nName: {example}"
        sentence = load_senses().find(example)[0].sentence or ""
        messages += [_message("user", asked), _message("assistant", sentence)]
    return [*messages, _message("user", f"Name: {name}")]


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _is_timeout(error: BaseException) -> bool:
    return isinstance(error, TimeoutError) or "Timeout" in type(error).__name__


def _message_of(error: Exception) -> str:
    """What the server says, with its status: its own words where it says them as OpenAI's protocol has it."""
    response: Any = getattr(error, "response", None)
    try:
        told = json.loads(response.text)["error"]
        words = told["message"] if isinstance(told, dict) else told
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError):
        return said(error)
    return f"{status_of(error)}: {' '.join(str(words).split())[:300]}"


def _pause_after(error: Exception, attempt: int) -> float:
    """Seconds to wait before the next attempt: what the server asks for, within reason, else twice as long each time."""
    headers: Mapping[str, str] = getattr(getattr(error, "response", None), "headers", None) or {}
    asked = str(headers.get("Retry-After", ""))
    pause = _FIRST_PAUSE * 2.0**attempt
    return min(max(pause, float(asked)) if asked.isdigit() else pause, _MAX_PAUSE)


def _is_address(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def _make_client(client: str, token: str | None, timeout: float) -> InferenceClient:
    from huggingface_hub import InferenceClient

    if _is_address(client):
        # Without a key of its own, the client would send the user's Hugging Face token to whatever server this is.
        return InferenceClient(base_url=client, api_key=token or _NO_KEY, timeout=timeout)
    if not client or "/" in client or ":" in client:
        raise ArgumentValueError(
            f"`client` must be an address that begins with 'http://' or 'https://', the name of a provider on the Hub, or an "
            f"InferenceClient, got {client!r}. Write LanguageModel('auto', MODEL) for a model on the Hub."
        )
    provider: Any = client
    return InferenceClient(provider=provider, api_key=token, timeout=timeout)


def _check_client(client: Any) -> InferenceClient:
    ask: Callable[..., Any] | None = getattr(client, "chat_completion", None)
    if not callable(ask) or inspect.iscoroutinefunction(ask):
        raise ArgumentTypeError(
            f"`client` must be a huggingface_hub.InferenceClient, an address or the name of a provider on the Hub, got "
            f"{type(client).__name__}. InferenceClient(base_url=..., api_key=...) speaks OpenAI's protocol."
        )
    checked: InferenceClient = client
    return checked


def _choose_model(model: object, own: str | None) -> str | None:
    if model is not None and not (isinstance(model, str) and model):
        raise ArgumentTypeError(f"`model` must be the name of a model, got {model!r}.")
    if model and own and model != own:
        raise ArgumentValueError(f"The client is one for the model {own!r}, but `model` is {model!r}. Leave out one of them.")
    return model or own


def _check_options(options: Mapping[str, Any], client: InferenceClient) -> None:
    known = inspect.signature(client.chat_completion).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    if unknown := [name for name in options if name in _OWN_OPTIONS or not (takes_any or name in known)]:
        raise ArgumentTypeError(
            f"`LanguageModel` takes no {list_some(repr(name) for name in unknown)}. What `chat_completion` does not know goes into "
            "`extra_body={...}`."
        )


def _check_numbers(*, timeout: object, retries: object, parallel: object) -> None:
    for name, value, least in (("timeout", timeout, 0.0), ("retries", retries, 0), ("parallel", parallel, 1)):
        kinds = int if name != "timeout" else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or value < least or (name == "timeout" and not value):
            what = "a number of seconds above 0" if name == "timeout" else f"a whole number of at least {least}"
            raise ArgumentValueError(f"`{name}` must be {what}, got {value!r}.")
