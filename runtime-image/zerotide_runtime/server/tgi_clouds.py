"""The routes by which two clouds call TGI: SageMaker's /invocations and Vertex AI's /vertex."""

from __future__ import annotations

import asyncio
from typing import Any

from zerotide_runtime.errors import InvalidRequest, RequestError
from zerotide_runtime.server.accounting import Account
from zerotide_runtime.server.fields import Object, nested, parse_object
from zerotide_runtime.server.message import Request, Response, StreamResponse, dump_json, json_response
from zerotide_runtime.server.openai_api import OpenAI
from zerotide_runtime.server.service import Service
from zerotide_runtime.server.tgi_api import TGI
from zerotide_runtime.server.tgi_errors import error_response


class Clouds:
    """The handlers of the two routes."""

    def __init__(self, service: Service, tgi: TGI, openai: OpenAI) -> None:
        self._service = service
        self._tgi = tgi
        self._openai = openai

    async def invocations(self, request: Request) -> Response | StreamResponse:
        """Answer POST /invocations as the route would that the body's shape belongs to."""
        try:
            source = parse_object(request.body)
            if "inputs" in source:
                return await self._tgi.root(request)
            # OpenAI's routes want a model named; the body of a cloud's request is for the one that is here.
            request.body = dump_json({"model": self._service.settings.model_name, **source})
            if "messages" in source:
                return await self._openai.chat(request)
            if "prompt" in source:
                return await self._openai.completions(request)
            raise InvalidRequest("the body must have `inputs`, `messages` or `prompt`")
        except RequestError as error:
            return error_response(error)

    async def vertex(self, request: Request) -> Response:
        """Answer POST /vertex: the texts for all of its `instances`, side by side."""
        try:
            instances = parse_object(request.body).get("instances")
            if not isinstance(instances, list) or not instances:
                raise InvalidRequest("`instances` must be a list with at least one instance")
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._predict(request, instance)) for instance in instances]
            return json_response(200, {"predictions": [task.result() for task in tasks]})
        except ExceptionGroup as several:
            return error_response(_first(several))
        except RequestError as error:
            return error_response(error)

    async def _predict(self, request: Request, instance: Any) -> str:
        account = Account(self._service.telemetry)
        try:
            if not isinstance(instance, dict):
                raise InvalidRequest("`instances` may only have objects")
            if "messages" in instance:
                named = {"model": self._service.settings.model_name, **instance}
                return await self._openai.text(request, named, account)
            # This route samples unless it is told not to.
            asked: Object = {"do_sample": True, **(nested(instance, "parameters") or {})}
            answer, _ = await self._tgi.begin(
                request, {**instance, "parameters": asked}, account, stream=False, full_text=False
            )
            return await answer.text()
        except RequestError as error:
            account.failed(error)
            raise


def _first(several: ExceptionGroup[Exception]) -> RequestError:
    """Return the request's fault; raise whatever else went wrong."""
    for error in several.exceptions:
        if isinstance(error, RequestError):
            return error
    raise several
