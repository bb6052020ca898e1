"""What the page of the API (page/docs) shows it with; nothing of it comes from another host."""

from __future__ import annotations

from sgaps.site import Files

SWAGGER_UI = ("fastapi_offline", "static")
"""The package that brings Swagger UI's files, and its folder of them."""


class SwaggerUi(Files):
    """The scripts and styles of Swagger UI."""

    def __init__(self) -> None:
        super().__init__(packages=[SWAGGER_UI])
