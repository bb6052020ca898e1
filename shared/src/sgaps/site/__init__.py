"""Pages for people: plain files, what several pages are made of, what a browser may do with them.

Whatever `page/` holds looks as if it lay in the folder of every site: colours and small parts
(`style.css`, `theme.js`, `mark.svg`), pictures of a frame (`pictures.js`, `wire.js`), charts
(`charts.js`) and words (`words.js`).
"""

from __future__ import annotations

import os
from pathlib import Path

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

SHARED_FOLDER = Path(__file__).parent / "page"
MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""Not what this machine thinks of an ending: a module of another type is not run."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


class Files(StaticFiles):
    """Files with what a browser may do with them."""

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers.update(HEADERS)
        media_type = MEDIA_TYPES.get(Path(full_path).suffix)
        if media_type:
            response.headers["Content-Type"] = media_type
        return response


class Site(Files):
    """A folder of pages, over the shared one; a folder in it shows its index.html."""

    def __init__(self, folder: Path) -> None:
        super().__init__(directory=folder, html=True)
        self.all_directories.append(SHARED_FOLDER)
