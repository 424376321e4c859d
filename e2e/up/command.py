"""The three commands: up, down and env."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys

from e2e.cluster import ClusterError
from e2e.images import build as images
from e2e.setup import debian, venvs
from e2e.tools import ToolError
from e2e.up import talk
from e2e.up.errors import NoCluster, StepFailed, UpError
from e2e.up.install import NAMESPACE, RELEASE, install
from e2e.up.progress import Progress, capture
from e2e.up.target import Target, choose, link_programs, shell_exports

NEEDED_IMAGES = ["operator", "smollm2"]


def run(arguments: list[str]) -> int:
    """Run one command; a failure is a sentence on stderr and exit code 1."""
    commands = {"up": up, "down": down, "env": env}
    name = arguments[0] if arguments else "up"
    if len(arguments) > 1 or name not in commands:
        print(f"usage: python3 -m e2e.up [{'|'.join(commands)}]", file=sys.stderr)
        return 2
    try:
        commands[name]()
    except (UpError, ClusterError, ToolError) as error:
        print(f"\nmake {name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def up() -> None:
    """Bring everything up and talk to the model; what is there already stays as it is."""
    target = choose()
    progress = Progress(total=7 if target.local else 5)
    print(f"Zerotide on {target.name}\n", flush=True)
    with progress.step("environment", "Python environment"):
        venvs.make("dev")
    with progress.step("programs", "kubectl, helm and zerotide"):
        if target.local:
            debian.ensure(say=progress.say)
        link_programs(target, progress.say)
    if target.local:
        with progress.step("cluster", "Kubernetes, in namespaces of its own"):
            target.local.up(say=progress.say)
        with progress.step("images", "Images"):
            images.build(NEEDED_IMAGES, [target.local], progress.say)
    else:
        _reach(target)
    with progress.step("chart", "Helm chart"):
        install(target, progress)
    with progress.step("endpoint", "Endpoint demo/smollm2 and an API key for it"):
        talk.apply_example(target)
        talk.ensure_key(target)
    with progress.step("question", "A streamed question to it"):
        before = talk.status(target)
        progress.say(f"It is {before.get('state', 'unknown')}, with {before.get('replicas', 0)} replicas.")
        talk.ask(target)
        talk.show_wake(target, before, progress)
    talk.show_cost(target)
    print(how_to_go_on(target))
    print(f"\nwhere the time went, {progress.summary()}")


def _reach(target: Target) -> None:
    try:
        version = capture(["kubectl", "version"], target.environment())
    except StepFailed as error:
        raise NoCluster(f"{target.name} does not answer: {error}\nUnset KUBECONFIG for a local one") from error
    print(f"      {version.strip().splitlines()[-1]}; its images must be there already, see docs/images.md", flush=True)


def how_to_go_on(target: Target) -> str:
    """Return what to do next."""
    url = f"{target.gateway or 'http://127.0.0.1:8080'}/endpoints/{talk.NAMESPACE}/{talk.NAME}"
    forward = (
        ""
        if target.gateway
        else (
            f"  kubectl port-forward -n {NAMESPACE} service/zerotide-gateway 8080:80 &   # gateway: http://127.0.0.1:8080\n"
        )
    )
    return f"""How to go on:
  eval "$(make -s env)"          # kubectl, helm, zerotide, KUBECONFIG and the key, for this shell
  kubectl get iep -A             # a minute after the last request, it sleeps again
  zerotide call {talk.NAME} -n {talk.NAMESPACE} "Why is the sky blue?"
{forward}  curl -N {url}/v1/chat/completions \\
    -H "Authorization: Bearer $ZEROTIDE_API_KEY" -H "Content-Type: application/json" \\
    -d '{{"model":"{talk.NAME}","stream":true,"messages":[{{"role":"user","content":"Hello"}}]}}'
  zerotide doctor                # is everything in place?
  make down                      # remove everything"""


def down() -> None:
    """Remove the local cluster with everything in it, or what was put into a cluster of the user's own."""
    target = choose()
    if target.local:
        target.local.down()
    else:
        environment = target.environment()
        subprocess.run(["kubectl", "delete", "namespace", talk.NAMESPACE, "--ignore-not-found"], env=environment)
        subprocess.run(["helm", "uninstall", RELEASE, "-n", NAMESPACE, "--ignore-not-found", "--wait"], env=environment)
        print(
            f"Kept: the CustomResourceDefinitions and, in {NAMESPACE}, the volume of the ledger; delete them by hand."
        )
    shutil.rmtree(target.state, ignore_errors=True)
    with contextlib.suppress(OSError):
        target.state.parent.rmdir()
    print(f"{target.name} runs no Zerotide any more." if target.local is None else f"{target.name} is gone.")


def env() -> None:
    """Print what a shell needs."""
    print(shell_exports(choose()))
