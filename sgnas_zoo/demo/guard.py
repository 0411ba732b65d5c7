"""What stands between strangers and the page: nothing is loaded from elsewhere, and uploads fill no disk."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

POLICY = (
    "default-src 'self' blob: data:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'self'; form-action 'self'"
)
"""A browser that keeps it asks no other server, whatever gradio's page names."""
MOST_KEPT = 200_000_000
"""Bytes of uploads and downloads that are kept at once; old ones go within minutes."""


class Guard:
    """Middleware that adds the policy to every answer, and refuses uploads while the folder is full.

    Args:
        app: What it stands before.
        folder: Where uploads go.
    """

    def __init__(self, app: App, folder: str) -> None:
        self.app, self.folder = app, Path(folder)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = ((b"content-security-policy", POLICY.encode()), (b"x-content-type-options", b"nosniff"))
                message["headers"] = [*message.get("headers", ()), *own]
            await send(message)

        if scope["type"] == "http" and scope["path"].endswith("/upload") and is_full(self.folder):
            await guarded({"type": "http.response.start", "status": 503, "headers": [(b"retry-after", b"60")]})
            await guarded({"type": "http.response.body", "body": b"Too many pictures at once; try again in a minute."})
            return
        await self.app(scope, receive, guarded)


def is_full(folder: Path) -> bool:
    """Whether the files in a folder have more than ``MOST_KEPT`` bytes."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except OSError:  # deleted meanwhile
            continue
    return total > MOST_KEPT
