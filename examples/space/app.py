"""The page: give a timm classifier new classes by name, look at what changed, take the model home. Run: python app.py."""

from __future__ import annotations

import os

# A visitor's model must not be fetched with the access token of whoever runs the page, and nothing is reported to anyone.
os.environ.setdefault("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

from pathlib import Path
from typing import Any

import gradio as gr
from markup import (
    added_html,
    alert_html,
    checked_html,
    definition_rows,
    estimates,
    explanation_html,
    meanings_html,
    prediction_shares,
    pushed_html,
)
from session import CALIBRATIONS, DEFAULT_MODEL, LIMITS, Comparison, Session, model_choices

from timm_inject import TimmInjectError
from timm_inject.text import ProgressCallback

__all__ = ["Page", "launch_page"]

Updates = dict[Any, Any]

_PROGRESS = gr.Progress()
_HOUR = 3600
_MAX_SESSIONS = 24  # each may hold a model; whoever was away longest makes room
_MAX_WAITING = 32
_INTRODUCTION = """
# New classes for an image classifier, from their names alone

Name what a trained [timm](https://github.com/huggingface/pytorch-image-models) classifier does not know yet. It gets a row for each
name, predicted from the name and what it means; no image is used. Then try it on photos and take the model home.
"""
_RELOAD = 'Unpacked, it loads with plain timm, without timm_inject: `timm.create_model("local-dir:FOLDER", pretrained=True)`'
_HEADERS = ["name", "what it shows (edit here)", "taken for"]
_EXAMPLE = "dahlia\ngalaxy: a huge system of stars, seen as a bright spiral in the black night sky"

# The list that a dropdown opens can be scrolled, so browsers stop at it on the way with Tab, and it closes under the focus.
_SCRIPT = """() => document.addEventListener("focusin", () => setTimeout(() => {
  for (const list of document.querySelectorAll(".options, .option-list")) list.tabIndex = -1;
}))"""


class Page:
    """The page's parts, and what happens when one of its buttons is pressed.

    Args:
        session: Copied for each visitor, whose work it then keeps.

    Attributes:
        blocks: What Gradio serves.
    """

    def __init__(self, session: Session | None = None) -> None:
        with gr.Blocks(title="timm_inject", analytics_enabled=False, delete_cache=(_HOUR, _HOUR)) as self.blocks:
            self.session = gr.State(session or Session(), time_to_live=2 * _HOUR, delete_callback=Session.close)
            self.comparisons = gr.State([])
            gr.Markdown(_INTRODUCTION)
            with gr.Column(elem_classes="step"):
                self._lay_out_names()
            with gr.Column(elem_classes="step", visible=False) as self.review:
                self._lay_out_review()
            with gr.Column(elem_classes="step", visible=False) as self.results:
                self._lay_out_estimates()
                self._lay_out_explanation()
                self._lay_out_photos()
                self._lay_out_takeaway()
            self._tie()

    # ---- layout -----------------------------------------------------------------------------------------------------

    def _lay_out_names(self) -> None:
        gr.Markdown("## 1. Model and names")
        self.model_name = gr.Dropdown(
            model_choices(),
            value=DEFAULT_MODEL,
            allow_custom_value=True,
            label="Model",
            info=f"{DEFAULT_MODEL} is at hand; any other trained timm model or hf-hub:user/name is downloaded.",
            elem_id="model",
        )
        self.names = gr.Textbox(
            lines=7,
            max_lines=7,  # the same as `lines`: a box that grows takes minutes over thousands of lines
            label="New classes, one a line",
            info="A description may follow after a colon and a space.",
            placeholder=_EXAMPLE,
            elem_id="names",
        )
        self.check = gr.Button("Check names", variant="primary", elem_id="check")
        self.check_message = _message("check-message")

    def _lay_out_review(self) -> None:
        gr.Markdown("## 2. What the names mean")
        self.checked = gr.HTML(elem_id="checked")
        self.table = gr.Dataframe(
            headers=_HEADERS,
            datatype="str",
            type="array",
            interactive=True,
            static_columns=[0, 2],
            column_count=len(_HEADERS),
            wrap=True,
            column_widths=["24%", "46%", "30%"],
            max_height=600,
            buttons=[],
            label="Meanings",
            show_label=False,
            elem_id="definitions",
        )
        self.meanings = gr.HTML(elem_id="meanings")
        choices = list(CALIBRATIONS)
        self.calibration = gr.Radio(choices, value=choices[0], label="How the new classes compete with the seen ones")
        self.add = gr.Button("Add classes", variant="primary", elem_id="add")
        self.add_message = _message("add-message")

    def _lay_out_estimates(self) -> None:
        gr.Markdown("## 3. How good it will be")
        self.score = gr.HTML(elem_id="score")
        self.estimates = _bars("Share of its own images that each new class may win", elem_id="estimates")

    def _lay_out_explanation(self) -> None:
        gr.Markdown("## 4. What a new row is made of")
        self.chosen = gr.Dropdown([], label="New class", elem_id="chosen")
        self.explanation = gr.HTML(elem_id="explanation")
        with gr.Row():
            self.leans_on = _bars("Seen classes it leans on", elem_id="leans-on")
            self.takes_from = _bars("Seen classes it may take images from", elem_id="takes-from")

    def _lay_out_photos(self) -> None:
        gr.Markdown("## 5. Try it on photos")
        self.photos = gr.File(
            file_count="multiple",
            file_types=["image"],
            type="filepath",
            label=f"Photos, at most {LIMITS.photos}",
            height=160,
            elem_id="photos",
        )
        self.compare = gr.Button("Compare before and after", variant="primary", elem_id="compare")
        self.photo_message = _message("photo-message")
        gr.render(inputs=self.comparisons, triggers=[self.comparisons.change], show_progress="hidden")(_show_comparisons)

    def _lay_out_takeaway(self) -> None:
        gr.Markdown("## 6. Take the model home")
        gr.Markdown(_RELOAD)
        self.download = gr.DownloadButton("Download the patched model (zip)", variant="primary", elem_id="download")
        with gr.Accordion("Or push it to the Hugging Face Hub", open=False, elem_id="push-box"):
            self.repo_id = gr.Textbox(label="Repository", placeholder="user/name", elem_id="repo")
            self.token = gr.Textbox(
                label="Access token that may write",
                info="Used for this one push, then cleared. It is neither stored nor logged.",
                type="password",
                html_attributes=gr.InputHTMLAttributes(autocomplete="off", spellcheck=False),
                elem_id="token",
            )
            self.private = gr.Checkbox(True, label="Make a new repository private")
            self.push = gr.Button("Push", elem_id="push")
            self.push_message = _message("push-message")

    def _tie(self) -> None:
        """Say which part calls what. Nothing of it is offered as an API, and slow steps take turns."""
        hidden: Any = {"api_visibility": "private"}
        slow: Any = {**hidden, "concurrency_limit": 1, "concurrency_id": "slow"}
        self.check.click(
            self.run_check,
            [self.session, self.model_name, self.names],
            [
                *(self.session, self.check_message, self.review, self.results, self.checked, self.table, self.meanings),
                self.add_message,
            ],
            show_progress_on=self.check_message,
            **slow,
        )
        self.add.click(
            self.run_add,
            [self.session, self.table, self.calibration],
            [
                *(self.session, self.add_message, self.results, self.score, self.estimates, self.chosen, self.photos),
                *(self.comparisons, self.photo_message, self.push_message, self.download),
            ],
            show_progress_on=self.add_message,
            **slow,
        ).then(
            self.run_explain,
            [self.session, self.chosen],
            [self.explanation, self.leans_on, self.takes_from],
            show_progress_on=self.explanation,
            **hidden,
        )
        self.chosen.input(
            self.run_explain,
            [self.session, self.chosen],
            [self.explanation, self.leans_on, self.takes_from],
            show_progress_on=self.explanation,
            **hidden,
        )
        self.compare.click(
            self.run_compare,
            [self.session, self.photos],
            [self.photo_message, self.comparisons],
            show_progress_on=self.photo_message,
            **slow,
        )
        self.push.click(
            self.run_push,
            [self.session, self.repo_id, self.token, self.private],
            [self.push_message, self.token],
            show_progress_on=self.push_message,
            **hidden,
        )

    # ---- events: part -> what it shows now --------------------------------------------------------------------------

    def run_check(self, session: Session, model: str | None, text: str, progress: gr.Progress = _PROGRESS) -> Updates:
        """Look the names up; what came of earlier names is hidden."""
        hidden = {self.review: gr.Column(visible=False), self.results: gr.Column(visible=False)}
        try:
            checked = session.check_names(model or "", text or "", _relay(progress))
        except TimmInjectError as error:
            return {self.check_message: alert_html(error), **hidden}
        return {
            **hidden,
            self.session: session,  # whoever goes on working keeps the session
            self.check_message: "",
            self.review: gr.Column(visible=True),
            self.checked: checked_html(checked),
            self.table: definition_rows(checked),
            self.meanings: meanings_html(checked),
            self.add_message: "",
        }

    def run_add(self, session: Session, rows: list[list[str]], choice: str, progress: gr.Progress = _PROGRESS) -> Updates:
        """Inject what the table says."""
        definitions = {str(row[0]): str(row[1] or "") for row in rows if len(row) == len(_HEADERS)}
        try:
            added = session.add_classes(definitions, CALIBRATIONS[choice], _relay(progress))
        except TimmInjectError as error:
            return {self.add_message: alert_html(error), self.results: gr.Column(visible=False)}
        new = [entry.name for entry in added.record.classes]
        shares = estimates(added)
        return {
            self.session: session,
            self.add_message: '<p role="status">Added. See below.</p>',
            self.results: gr.Column(visible=True),
            self.score: added_html(added),
            self.estimates: gr.Label(shares, visible=bool(shares)),
            self.chosen: gr.Dropdown(new, value=new[0]),
            self.photos: None,
            self.comparisons: [],
            self.photo_message: "",
            self.push_message: "",
            self.download: str(added.archive),
        }

    def run_explain(self, session: Session, name: str | None) -> Updates:
        """Show what one new row is made of."""
        try:
            found = session.explain(name or "")
        except TimmInjectError as error:
            nothing = gr.Label(visible=False)
            return {self.explanation: alert_html(error), self.leans_on: nothing, self.takes_from: nothing}
        return {
            self.explanation: explanation_html(found),
            self.leans_on: gr.Label(dict(found.leans_on), visible=True),
            self.takes_from: gr.Label(dict(found.takes_from), visible=bool(found.takes_from)),
        }

    def run_compare(self, session: Session, paths: list[str] | None, progress: gr.Progress = _PROGRESS) -> Updates:
        """Classify the photos by both models."""
        try:
            found = session.compare([Path(path) for path in paths or []], _relay(progress))
        except TimmInjectError as error:
            return {self.photo_message: alert_html(error), self.comparisons: []}
        return {self.photo_message: "", self.comparisons: found}

    def run_push(self, session: Session, repo_id: str, token: str, private: bool, progress: gr.Progress = _PROGRESS) -> Updates:
        """Push, and empty the token's field whatever comes of it."""
        progress(0.0, desc="Push the model")
        try:
            url, warnings = session.push(repo_id or "", token or "", private=private)
        except TimmInjectError as error:
            return {self.push_message: alert_html(error), self.token: ""}
        return {self.push_message: pushed_html(url, warnings), self.token: ""}


def launch_page(page: Page) -> None:
    """Serve the page until it is stopped. Gradio reads port and address from the environment."""
    page.blocks.queue(max_size=_MAX_WAITING)
    page.blocks.launch(
        theme=_make_theme(),
        css_paths=Path(__file__).with_name("style.css"),
        js=_SCRIPT,
        footer_links=[],
        run_history=False,  # it would keep what was typed, the token too, in the browser
        max_file_size="15mb",
        state_session_capacity=_MAX_SESSIONS,
        ssr_mode=False,
    )


def _make_theme() -> gr.themes.Base:
    """Fonts of the visitor's own system, so that none is fetched, and greys and a blue dark enough to read."""
    theme = gr.themes.Default(primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    return theme.set(
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        block_label_text_color="*neutral_700",
        block_label_text_color_dark="*neutral_200",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
    )


def _message(elem_id: str) -> gr.HTML:
    """A place for progress and errors."""
    return gr.HTML(elem_id=elem_id, elem_classes="message")


def _bars(label: str, value: dict[str, float] | None = None, **options: Any) -> gr.Label:
    """A bar chart of shares."""
    return gr.Label(value, label=label, show_heading=False, **options)


def _show_comparisons(comparisons: list[Comparison]) -> None:
    for entry in comparisons:
        with gr.Row(elem_classes="comparison"):
            gr.Image(
                entry.thumbnail,
                label=entry.file_name,
                alt_text=entry.file_name,
                interactive=False,
                buttons=[],
                height=220,
                min_width=200,
            )
            _bars("Before", prediction_shares(entry.before), min_width=220)
            _bars("After", prediction_shares(entry.after), min_width=220)


def _relay(progress: gr.Progress) -> ProgressCallback:
    def report(step: str, done: int, total: int) -> None:
        progress((done, total), desc=step)

    return report


if __name__ == "__main__":
    launch_page(Page())
