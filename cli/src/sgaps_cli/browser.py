"""The person's browser."""

from __future__ import annotations

import threading
import webbrowser


def look_at(page: str) -> None:
    """Open it, and wait for nothing: one in the terminal ends when the page was looked at."""
    threading.Thread(target=webbrowser.open, args=(page,), daemon=True).start()
