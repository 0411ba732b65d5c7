"""The page: its components, and what happens when somebody moves, chooses, drops or presses something."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from sgnas_zoo.costs import BUDGETS, Budget
from sgnas_zoo.costs.profile import Profile
from sgnas_zoo.demo import answers, pictures
from sgnas_zoo.demo.answers import Asked, Offer
from sgnas_zoo.demo.guard import is_full
from sgnas_zoo.demo.networks import MOST_MEGABYTES, MOST_MEGAPIXELS, name_picture, zip_folder
from sgnas_zoo.demo.sliders import SLIDERS
from sgnas_zoo.errors import ZooError

KEPT_SECONDS = 600
"""How long an upload or a download is kept."""
MOST_WAITING = 64
"""Requests that may wait at once; others are told to come again."""


class Parts(NamedTuple):
    """The components of the page. ``kept`` is the request that is answered: the page has it, the server has not."""

    space: gr.Dropdown
    sliders: Sequence[gr.Slider]
    messages: Sequence[gr.HTML]
    costs: gr.HTML
    architecture: gr.HTML
    place: gr.HTML
    python: gr.Code
    command: gr.Code
    make: gr.Button
    folder_message: gr.HTML
    download: gr.DownloadButton
    picture: gr.File
    look: gr.Button
    seen: gr.HTML
    kept: gr.Textbox


def build(profiles: Sequence[Profile], folder: str | Path) -> gr.Blocks:
    """The page.

    Args:
        profiles: Device profiles.
        folder: Where downloads are made.
    """
    first = next(iter(answers.offers().values()))
    asked, _ = answers.ask(first, {name: own.start for name, own in answers.ranges(first).items()})
    assert asked is not None
    with gr.Blocks(title="sgnas_zoo", analytics_enabled=False, delete_cache=(60, KEPT_SECONDS)) as page:
        _listen(_lay_out(first, _shown(asked, profiles)), profiles, str(folder))
    page.queue(max_size=MOST_WAITING, default_concurrency_limit=1)
    return page


def _lay_out(first: Offer, shown: Sequence[str]) -> Parts:
    """All components, with a first answer."""
    gr.Markdown("# A network for your budget\nMove a slider: the network that is shown keeps every budget.")
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            choices = [(f"{offer.space} ({offer.dataset})", offer.name) for offer in answers.offers().values()]
            space = gr.Dropdown(choices, value=first.name, label="Space", elem_id="space", filterable=False)
            sliders, messages = zip(*(_slider(first, name) for name in SLIDERS), strict=True)
            costs = gr.HTML(shown[0], elem_id="costs")
        with gr.Column(scale=3, min_width=320):
            gr.Markdown("## Architecture")
            architecture = gr.HTML(shown[1], elem_id="architecture")
            gr.Markdown("## Its place on the front")
            place = gr.HTML(shown[2], elem_id="place")
    with gr.Row():
        with gr.Column(min_width=320):
            gr.Markdown("## Make it yourself")
            python, command = _code(shown[3], "Python", 3), _code(shown[4], "Command line", 1)
            make = gr.Button("Make the folder of this network", elem_id="make")
            folder_message = gr.HTML(elem_id="folder-message", visible=False)
            download = gr.DownloadButton("Download", visible=False, elem_id="download")
        with gr.Column(min_width=320):
            gr.Markdown("## What does it see?")
            label = f"A picture, at most {MOST_MEGABYTES} MB and {MOST_MEGAPIXELS} megapixels"
            picture = gr.File(label=label, file_types=["image"], elem_id="picture", height=170)
            look = gr.Button("Look with this network", elem_id="look")
            seen = gr.HTML(elem_id="seen")
    kept = gr.Textbox(shown[5], visible=False)
    return Parts(space, sliders, messages, costs, architecture, place, python, command, make, folder_message, download,
                 picture, look, seen, kept)  # fmt: skip


def _code(text: str, label: str, lines: int) -> gr.Code:
    """Code with a button that copies it."""
    name = label.partition(" ")[0].lower()
    return gr.Code(text, label=label, interactive=False, elem_id=name, lines=lines, wrap_lines=True,
                   show_line_numbers=False, buttons=["copy"])  # fmt: skip


def _listen(page: Parts, profiles: Sequence[Profile], folder: str) -> None:
    """Say what happens when somebody does something: answers one at a time, and networks one at a time."""
    answer = [page.costs, page.architecture, page.place, page.python, page.command, page.kept, *page.messages,
              page.download]  # fmt: skip
    hidden = {"show_progress": "hidden", "api_visibility": "undocumented"}
    quick = {**hidden, "preprocess": False, "concurrency_id": "answers", "concurrency_limit": 1}
    for moved, slider in zip(SLIDERS, page.sliders, strict=True):
        slider.input(partial(_move, profiles, moved), [page.space, *page.sliders], answer, trigger_mode="always_last",
                     api_name=f"move_{moved}", **quick)  # fmt: skip
    page.space.input(partial(_change, profiles), [page.space], [*answer, *page.sliders], api_name="change", **quick)
    slow = {"api_visibility": "undocumented", "concurrency_id": "networks", "concurrency_limit": 1}
    gr.on([page.picture.upload, page.look.click], _look, [page.kept, page.picture], [page.seen], api_name="look",
          **slow)  # fmt: skip
    page.picture.clear(lambda: "", None, [page.seen], **hidden)
    page.make.click(partial(_make, folder), [page.kept], [page.download, page.folder_message], api_name="make", **slow)


def _slider(offer: Offer, name: str) -> tuple[gr.Slider, gr.HTML]:
    """A budget's slider, and the message beside it."""
    return gr.Slider(**_sliding(offer, name), elem_id=name, buttons=[]), gr.HTML(
        elem_id=f"{name}-message", visible=False
    )


def _sliding(offer: Offer, name: str) -> dict[str, Any]:
    """A budget's slider over an offer's range; none where all its networks cost the same."""
    own = answers.ranges(offer).get(name)
    if own is None:
        return {"visible": False}
    return {
        "minimum": own.least, "maximum": own.most, "step": own.step, "value": own.start, "info": own.told,
        "label": _label(BUDGETS[name]), "visible": True,
    }  # fmt: skip


def _label(budget: Budget) -> str:
    """A budget with its unit: "Parameters, M"."""
    title = budget.title.partition(",")[0]
    return f"{title[0].upper()}{title[1:]}, {budget.unit.partition(' ')[0]}"


def _shown(asked: Asked, profiles: Sequence[Profile]) -> list[str]:
    """What the page shows of an answer.

    Raises:
        BudgetError: If the bounds cannot be kept together.
    """
    answer = answers.find(asked, profiles)
    drawn = [pictures.costs(answer), pictures.architecture(answer), pictures.place(answer)]
    return [*drawn, asked.python, asked.command, asked.text]


def _move(profiles: Sequence[Profile], moved: str, name: object, *values: object) -> list[Any]:
    """Answer a slider; where nothing can be answered, the last answer stays beside a message."""
    try:
        offer = answers.offer_of(name)
        asked, problems = answers.ask(offer, dict(zip(SLIDERS, values, strict=True)))
        shown = _shown(asked, profiles) if asked else None
    except ZooError as error:
        shown, problems = None, {moved: str(error)}
    messages = [_message(problems.get(each, "")) for each in SLIDERS]
    if shown is None:
        return [*(gr.skip() for _ in range(6)), *messages, gr.skip()]
    return [*shown, *messages, gr.DownloadButton(visible=False)]


def _change(profiles: Sequence[Profile], name: object) -> list[Any]:
    """Change the space: its own ranges, and its first answer."""
    try:
        offer = answers.offer_of(name)
    except ZooError:
        return [gr.skip() for _ in range(7 + 2 * len(SLIDERS))]
    starts = [own.start if (own := answers.ranges(offer).get(each)) else None for each in SLIDERS]
    values = {each: start for each, start in zip(SLIDERS, starts, strict=True) if start is not None}
    sliders = [gr.Slider(**_sliding(offer, each)) for each in SLIDERS]
    return [*_move(profiles, SLIDERS[0], name, *(values.get(each) for each in SLIDERS)), *sliders]


def _look(kept: str, path: str | None) -> str:
    """Name what a picture shows."""
    if path is None:
        return pictures.problem("Choose or drop a picture first.")
    try:
        asked = answers.read_asked(kept)
        return pictures.names(asked, *name_picture(asked, path))
    except ZooError as error:
        return pictures.problem(str(error))
    except FileNotFoundError:
        return pictures.problem("The picture is gone, as pictures are kept for minutes only; choose it again.")


def _message(text: str) -> gr.HTML:
    """A message that takes no room where there is none."""
    return gr.HTML(pictures.problem(text), visible=bool(text))


def _make(folder: str, kept: str) -> tuple[Any, Any]:
    """Write the folder of a network."""
    if is_full(Path(folder)):
        return gr.skip(), _message("Too many folders at once; try again in a minute.")
    try:
        asked = answers.read_asked(kept)
        path = zip_folder(asked, folder)
    except ZooError as error:
        return gr.skip(), _message(str(error))
    label = f"Download {path.name} ({path.stat().st_size / 1e6:.1f} MB)"
    return gr.DownloadButton(label, value=str(path), visible=True), _message("")
