"""The process that serves the page."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # gradio looks when it is imported

import gradio as gr
from starlette.middleware import Middleware

from sgnas_zoo.costs.profile import Profile
from sgnas_zoo.demo import answers, pictures
from sgnas_zoo.demo.guard import Guard
from sgnas_zoo.demo.networks import MOST_MEGABYTES
from sgnas_zoo.demo.page import build
from sgnas_zoo.demo.profiles import local_profiles
from sgnas_zoo.errors import ArtifactError

PORTS = "7860 to 7959"
"""Where gradio looks for a free port, where nobody names one."""
FONTS = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}


def serve(
    host: str = "127.0.0.1",
    port: int | None = None,
    profiles: Sequence[Profile] = (),
    say: Callable[[str], object] = lambda line: None,
) -> None:
    """Serve the page until the process is told to end.

    Args:
        host: Address to listen at; 0.0.0.0 for everybody who can reach this machine.
        port: Port; by default the first free one from 7860.
        profiles: Device profiles to predict latencies by, beside those in the user's cache.
        say: What is told, line by line.

    Raises:
        ArtifactError: If the port cannot be had.
    """
    known = [*profiles, *local_profiles()]
    for offer in answers.offers().values():
        answers.front(offer)  # the first visitor does not wait for it
    with TemporaryDirectory(prefix="sgnas-zoo-demo-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        _pass_proxies_by(host)
        page = build(known, folder)
        try:
            _, url, _ = page.launch(**_launching(host, port, folder))
        except OSError:
            raise ArtifactError(
                f"Cannot serve at {host}, port {port or PORTS}: it is taken, or not of this machine; choose another "
                "--port or --host."
            ) from None
        say(f"Serving {url} until Ctrl-C.")
        try:
            threading.Event().wait()
        finally:
            page.close(verbose=False)


def _pass_proxies_by(host: str) -> None:
    """Let gradio, which asks its own server whether it is there, not ask a proxy."""
    for name in ("NO_PROXY", "no_proxy"):
        named = (os.environ.get(name), "localhost", "127.0.0.1", "::1", host)
        os.environ[name] = ",".join(filter(None, named))


def _launching(host: str, port: int | None, folder: str) -> dict[str, Any]:
    """How gradio serves: to nobody through a tunnel, with nothing from elsewhere, with bounded uploads."""
    return {
        "server_name": f"[{host}]" if ":" in host else host,
        "server_port": port,
        "prevent_thread_lock": True,
        "share": False,
        "quiet": True,
        "ssr_mode": False,
        "footer_links": [],
        "run_history": False,
        "enable_monitoring": False,
        "mcp_server": False,
        "max_file_size": MOST_MEGABYTES * 2**20,
        "theme": _theme(),
        "css": pictures.style(),
        "state_session_capacity": 200,
        "app_kwargs": {"middleware": [Middleware(Guard, folder=folder)]},
    }


def _theme() -> gr.themes.Base:
    """Colours like those of the pictures, grey text that can be read, and the fonts that the reader's system has."""
    grey = {"body_text_color_subdued": "*neutral_600", "block_info_text_color": "*neutral_600",
            "block_label_text_color": "*neutral_700", "block_title_text_color": "*neutral_800"}  # fmt: skip
    dark = dict.fromkeys((f"{name}_dark" for name in grey), "*neutral_200")
    return gr.themes.Default(primary_hue="blue", **FONTS).set(**grey, **dark)
