"""The two commands: their arguments, and how they report failure."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from zerotide_runtime.errors import OutOfMemory, SettingsError, StartError

log = logging.getLogger(__name__)

TERMINATION_LOG = Path("/dev/termination-log")


def serve(arguments: Sequence[str]) -> int:
    """Serve until told to stop; the process ends here."""
    # The first process of a container ignores signals that it has no handler for.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    from zerotide_runtime.engine.limits import prepare_torch
    from zerotide_runtime.settings import read_settings
    from zerotide_runtime.startup import Startup

    startup = Startup()
    prepare_torch(os.environ)
    try:
        settings = read_settings(arguments, os.environ)
        from zerotide_runtime.port import open_port

        listening = open_port(settings.host, settings.port)
        startup.mark("listen")
        logging.basicConfig(level=settings.log_level.upper(), format="%(levelname)s %(name)s: %(message)s")
        log.info("listening on port %d for %s", listening.getsockname()[1], settings.model_name)
        import asyncio

        from zerotide_runtime.serve import Process

        async def run() -> None:
            await Process(settings, startup, listening).run()

        asyncio.run(run())
        status = 0
    except SettingsError as error:
        status = report(error, usage=True)
    except Exception as error:
        status = report(as_start_error(error))
    # Threads may be inside torch's import or a forward pass; there is nothing left to save or to wait for.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def as_start_error(error: Exception) -> StartError:
    """Return the reason why a start failed, in the words of this package."""
    if isinstance(error, StartError):
        return error
    if "CUDA out of memory" in str(error):
        return OutOfMemory(f"the model does not fit into the GPU's memory: {error}; take a larger GPU")
    # torch says that memory is short with a plain RuntimeError.
    if isinstance(error, MemoryError) or "allocate memory" in str(error):
        return OutOfMemory(f"the model does not fit into memory: {error}; raise resources.limits.memory")
    log.error("the start failed", exc_info=error)
    return StartError(f"{type(error).__name__}: {error}")


def report(error: StartError, *, usage: bool = False) -> int:
    """Say on one line why there is no server, there and where Kubernetes looks; return the exit status."""
    message = " ".join(str(error).split())
    print(f"zerotide-runtime: {error.reason}: {message}", file=sys.stderr)
    # Only where a container runtime provides the file; as root one could create it anywhere.
    if TERMINATION_LOG.is_file():
        try:
            TERMINATION_LOG.write_text(json.dumps({"reason": error.reason, "message": message[:2000]}))
        except OSError:
            log.debug("%s is not writable", TERMINATION_LOG)
    return 2 if usage else 1


def publish(arguments: Sequence[str]) -> int:
    """Convert a model into the layout that starts fastest; print its digest."""
    from zerotide_runtime.weights.publish import DTYPES
    from zerotide_runtime.weights.publish import publish as convert

    parser = argparse.ArgumentParser(
        prog="python -m zerotide_runtime publish",
        description="Convert a model once, so that every later start only maps it: safetensors in execution order, "
        "page-aligned, with a digest per 64 MiB. The result is an ordinary Hugging Face folder.",
    )
    parser.add_argument("source", type=Path, help="a GGUF file (llama architecture) or a Hugging Face folder")
    parser.add_argument("target", type=Path, help="the folder to make")
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        default="float32",
        help="float32 starts fastest on CPUs, bfloat16 is half the size and right for GPUs (default: float32)",
    )
    options = parser.parse_args(arguments)
    try:
        index = convert(options.source, options.target, options.dtype)
    except StartError as error:
        print(f"zerotide-runtime: {error.reason}: {error}", file=sys.stderr)
        return 1
    print(index["digest"])
    size = sum(entry["bytes"] for entry in index["files"].values())
    print(f"published {options.source} to {options.target}: {size / 1e6:.0f} MB", file=sys.stderr)
    return 0
