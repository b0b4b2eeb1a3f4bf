"""Local Kaggle's URLs: which function answers which, credentials, and how a refusal leaves."""

import json

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from orchestrator.emulator.api import METHODS, MUTATIONS
from orchestrator.emulator.catalogue import fault_from_json
from orchestrator.emulator.downloads import dataset_bundle, dataset_file, kernel_output
from orchestrator.emulator.effects import TWIST
from orchestrator.emulator.forms import Body
from orchestrator.emulator.logs import session_log
from orchestrator.emulator.platform import Platform
from orchestrator.emulator.records import Refusal
from orchestrator.emulator.uploads import put_blob
from orchestrator.emulator.wire import Json

# A source of 3.1 MB was still refused as JSON, one of 12.9 MB was not.
REQUEST_LIMIT_BYTES = 10_000_000
_TOO_LARGE = "<html><head><title>413 Request Entity Too Large</title></head></html>"
_ANY = ["GET", "POST", "PUT", "DELETE"]


def application(platform: Platform) -> Starlette:
    dataset = "/kaggle-data-sets/{dataset_id:int}/{version:int}"
    routes = [
        # Kaggle's API, with credentials
        Route("/v1/{service}/{method}", call_method, methods=["POST"]),
        Route("/api/v1/{service}/{method}", call_method, methods=["POST"]),
        Route("/v1/kernels/logs/stream/{owner}/{slug}", stream_log),
        Route("/api/v1/kernels/logs/stream/{owner}/{slug}", stream_log),
        Route("/v1/{rest:path}", not_imitated, methods=_ANY),
        Route("/api/v1/{rest:path}", not_imitated, methods=_ANY),
        # Storage, where a URL is its own credential
        Route("/kf/{session_id:int}/{token}/{name:path}", kernel_output),
        Route(dataset + "/raw/{name:path}", dataset_file),
        Route(dataset + "/bundle/archive.zip", dataset_bundle),
        Route("/upload/storage/v1/b/kaggle-data-sets/o", put_blob, methods=["PUT"]),
        # Not Kaggle: for tests
        Route("/_local/state", local_state),
        Route("/_local/faults", local_faults, methods=["GET", "POST", "DELETE"]),
        Route("/_local/strikes", local_strikes),
        Route("/_local/loop", local_loop),
    ]
    app = Starlette(routes=routes, exception_handlers={Refusal: _refuse})
    app.state.platform = platform
    return app


async def call_method(request: Request) -> Response:
    platform = authorised(request)
    name = f"{request.path_params['service']}/{request.path_params['method']}"
    handler, mutation = METHODS.get(name), MUTATIONS.get(name)
    if handler is None and mutation is None:
        raise Refusal(501, f"{name.rpartition('.')[2]} is not imitated by local Kaggle")
    body = await _json_body(request)
    answer: Json | Response
    if mutation is not None:
        twist = request.scope["state"].get(TWIST)
        answer = await run_in_threadpool(mutation, platform, body, twist)
    else:
        assert handler is not None
        answer = await run_in_threadpool(handler, platform, body)
    return answer if isinstance(answer, Response) else JSONResponse(answer)


def not_imitated(request: Request) -> Response:
    authorised(request)
    raise Refusal(501, f"{request.path_params['rest']} is not imitated by local Kaggle")


def stream_log(request: Request) -> Response:
    platform = authorised(request)
    session = platform.ledger.ask(
        platform.ledger.world.session,
        owner=request.path_params["owner"],
        slug=request.path_params["slug"],
        label=request.query_params.get("versionLabel", ""),
    )
    return session_log(platform, session)


def local_state(request: Request) -> Response:
    platform = authorised(request)
    return JSONResponse(platform.ledger.ask(platform.ledger.world.dump))


async def local_faults(request: Request) -> Response:
    """Read the plan, add faults to it, or forget it."""
    plan = authorised(request).faults
    if request.method == "POST":
        try:
            plan.add(*[fault_from_json(fields) for fields in await request.json()])
        except (TypeError, ValueError) as error:
            raise Refusal(400, f"This is no list of faults: {error}") from error
    if request.method == "DELETE":
        plan.clear()
    return JSONResponse(plan.to_json())


def local_strikes(request: Request) -> Response:
    """What was struck so far, in order."""
    return JSONResponse([strike.to_json() for strike in authorised(request).faults.strikes])


def local_loop(_request: Request) -> Response:
    """Where a redirect leads that never ends."""
    return RedirectResponse("/_local/loop", 302)


def authorised(request: Request) -> Platform:
    """The platform, for a request whose credentials it issued."""
    platform = request.app.state.platform
    assert isinstance(platform, Platform)
    platform.account.check(request.headers.get("authorization", ""))
    return platform


async def _json_body(request: Request) -> Body:
    content = await request.body()
    if len(content) > REQUEST_LIMIT_BYTES:
        raise Refusal(413, _TOO_LARGE)
    try:
        return Body(json.loads(content or b"{}"))
    except ValueError as error:
        raise Refusal(400, f"The request body is not JSON: {error}") from error


def _refuse(_request: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, Refusal)
    if refusal.message is _TOO_LARGE:  # the official client fails to read it as JSON
        return Response(refusal.message, refusal.status, media_type="application/json")
    if refusal.message.startswith("<"):  # storage answers in XML
        return Response(refusal.message, refusal.status, media_type="application/xml")
    return JSONResponse({"code": refusal.status, "message": refusal.message}, refusal.status)
