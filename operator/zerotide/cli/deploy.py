"""`zerotide deploy`: make or change an endpoint from a file or from a few options."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from zerotide.api.base import describe
from zerotide.api.endpoint import Engine, InferenceEndpoint, Spec
from zerotide.api.names import API_VERSION, KIND_ENDPOINT, MANAGER_CLI
from zerotide.cli.commands import Subparsers, declare
from zerotide.cli.errors import CliError, UsageError
from zerotide.cli.session import Session
from zerotide.cli.wait import Goal, add_timeout, wait_for
from zerotide.kube import Object
from zerotide.kube.resources import INFERENCE_ENDPOINTS


def add(commands: Subparsers) -> None:
    """Declare the command."""
    parser = declare(
        commands,
        "deploy",
        deploy,
        "make or change an endpoint, from a file or from options",
        text="Make an endpoint, or change it to what is said; a new endpoint starts asleep.",
        examples="""zerotide deploy -f smollm2.yaml
            zerotide deploy qwen --model hf://Qwen/Qwen3-8B --engine vllm --gpus 1 --idle 10m
            zerotide deploy qwen --model hf://Qwen/Qwen3-8B --dry-run > qwen.yaml""",
    )
    parser.add_argument("name", nargs="?", help="the endpoint; not with -f")
    parser.add_argument("-f", "--file", metavar="FILE", help="InferenceEndpoint in YAML; - reads stdin")
    parser.add_argument("--model", metavar="URI", help="hf://owner/name, pvc://claim/path, image:///path, …")
    parser.add_argument("--engine", type=Engine, choices=list(Engine), metavar="ENGINE", help=", ".join(Engine))
    parser.add_argument("--image", help="container image; default: the chart's for the engine")
    parser.add_argument("--gpus", type=int, metavar="N", help="accelerators per replica")
    parser.add_argument("--gpu-class", metavar="NAME", help="class of the accelerators, such as nvidia-h100-80gb")
    parser.add_argument("--cpu", metavar="N", help="CPUs to reserve, such as 500m or 2")
    parser.add_argument("--memory", metavar="SIZE", help="memory to reserve and not to exceed, such as 2Gi")
    parser.add_argument("--min", type=int, metavar="N", help="replicas that never sleep")
    parser.add_argument("--max", type=int, metavar="N", help="replicas at most")
    parser.add_argument("--idle", metavar="TIME", help="sleep after so long without a request, such as 5m")
    parser.add_argument("--secret", metavar="NAME", help="Secret with credentials such as HF_TOKEN")
    parser.add_argument("--open", action="store_true", help="let anyone call it, without a key")
    parser.add_argument("--dry-run", action="store_true", help="print what would be applied and apply nothing")
    parser.add_argument("--verify", action="store_true", help="start a replica once, to prove that it can")
    parser.add_argument(
        "--wait",
        action="store_true",
        help="return when the operator has accepted it, with --verify once it has started",
    )
    add_timeout(parser)


async def deploy(session: Session, args: argparse.Namespace) -> None:
    """Check what is asked for, apply it, and print the endpoint's name."""
    endpoint = from_file(args.file) if args.file else from_options(args)
    if args.dry_run:
        if session.printer.as_json:
            session.printer.json(endpoint)
        else:
            session.printer.data(yaml.safe_dump(endpoint, sort_keys=False).rstrip())
        return
    metadata = endpoint["metadata"]
    namespace = session.chosen_namespace or metadata.get("namespace") or await session.namespace()
    metadata["namespace"] = session.chosen_namespace = namespace
    applied = await (await session.client()).apply(INFERENCE_ENDPOINTS, endpoint, MANAGER_CLI)
    if args.wait:
        verifies = applied["spec"]["start"]["verify"] == "OnChange" and not applied["spec"]["suspend"]
        goal = Goal.VERIFIED if verifies else Goal.READY
        applied = await wait_for(session, metadata["name"], goal, args.timeout)
    if session.printer.as_json:
        session.printer.json(applied)
        return
    session.printer.data(f"{namespace}/{metadata['name']}")
    session.printer.prose(f'Applied. Call it with `zerotide call {metadata["name"]} -n {namespace} "Hello"`.')


def from_file(path: str) -> Object:
    """Read one InferenceEndpoint from a YAML file and check it.

    Raises CliError when the file cannot be read, UsageError when it holds something else.
    """
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text()
        documents = [document for document in yaml.safe_load_all(text) if document]
    except OSError as error:
        raise CliError(f"cannot read {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise CliError(f"{path} is not YAML: {error}") from error
    if len(documents) != 1 or not isinstance(documents[0], dict) or documents[0].get("kind") != KIND_ENDPOINT:
        raise UsageError(f"{path} must hold exactly one {KIND_ENDPOINT}; use `kubectl apply -f` for other objects")
    document: Object = documents[0]
    if not isinstance(document.get("metadata"), dict) or not document["metadata"].get("name"):
        raise UsageError(f"{path}: metadata.name is missing")
    document.pop("status", None)
    return _checked(document)


def from_options(args: argparse.Namespace) -> Object:
    """Build an InferenceEndpoint from the command line; what is not given is left to the defaults."""
    if not args.name or not args.model:
        raise UsageError("give an endpoint's name and --model, or a file with -f; see `zerotide deploy --help`")
    memory = {"memory": args.memory} if args.memory else {}
    cpu = {"cpu": args.cpu} if args.cpu else {}
    if args.gpu_class and not args.gpus:
        raise UsageError("--gpu-class needs --gpus")
    spec: dict[str, Any] = {
        "model": _given(uri=args.model, secretRef={"name": args.secret} if args.secret else None),
        "runtime": _given(engine=args.engine.value if args.engine else None, image=args.image),
        "accelerator": _given(count=args.gpus, className=args.gpu_class),
        "resources": _given(requests={**cpu, **memory} or None, limits=memory or None),
        "scaling": _given(
            minReplicas=args.min,
            maxReplicas=args.max if args.max is not None else max(1, args.min) if args.min else None,
            idle={"timeout": args.idle} if args.idle else None,
        ),
        "start": {"verify": "OnChange"} if args.verify else {},
        "access": {"auth": "Open"} if args.open else {},
    }
    return _checked(
        {
            "apiVersion": API_VERSION,
            "kind": KIND_ENDPOINT,
            "metadata": {"name": args.name},
            "spec": {name: value for name, value in spec.items() if value},
        }
    )


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _checked(endpoint: Object) -> Object:
    """Refuse what the API server would refuse, with the same words but before any connection."""
    try:
        Spec.model_validate(endpoint.get("spec") or {})
        InferenceEndpoint.model_validate({**endpoint, "metadata": {"name": endpoint["metadata"]["name"]}})
    except ValidationError as error:
        raise UsageError("the endpoint is not valid:\n  " + "\n  ".join(describe(error))) from error
    return endpoint
