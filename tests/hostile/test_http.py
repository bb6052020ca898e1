"""The HTTP side of a running gateway: whatever is asked, its answer is one that it declares."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from integration.conftest import RunningGateway
from integration.talk import start

EXAMPLES = 15
CHECKS = [content_type_conformance, response_schema_conformance, status_code_conformance]


async def test_every_operation_answers_as_declared(gateway: RunningGateway) -> None:
    async with gateway.connect() as socket:
        session_id = (await start(socket))["session_id"]
        count = await asyncio.to_thread(ask_for_everything, gateway.http_url, session_id)
    assert count >= 8


def ask_for_everything(url: str, session_id: str) -> int:
    """Ask each operation, of any session and of one that is there; how many operations."""
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    found = list(schema.get_all_operations())
    operations = [result.ok() for result in found if isinstance(result, Ok)]
    assert len(operations) == len(found)
    for operation in operations:
        ask(operation, {})
        if "{session_id}" in operation.path:
            ask(operation, {"session_id": session_id})
    return len(operations)


def ask(operation: APIOperation[Any, Any, Any, Any], path_parameters: dict[str, str]) -> None:
    @given(case=operation.as_strategy())
    @settings(
        max_examples=1 if path_parameters else EXAMPLES,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def one(case: Case[Any]) -> None:
        case.path_parameters.update(path_parameters)
        response = case.call()
        case.validate_response(response, checks=CHECKS)
        assert response.status_code < 500 or response.status_code == HTTPStatus.SERVICE_UNAVAILABLE

    one()
