"""The tour: what is said, and which commands are run, in order."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Say:
    """A paragraph, or a heading."""

    text: str


@dataclass(frozen=True)
class Run:
    """One command line, run by bash in the tour's namespace.

    `keep` shows at most so many lines of the output; `shown` is what the reader sees instead of the line.
    """

    line: str
    keep: int = 0
    shown: str = ""


BAD = """kubectl apply -f - <<EOF
apiVersion: zerotide.dev/v1alpha1
kind: InferenceEndpoint
metadata: {name: wrong}
spec:
  model: {uri: "ftp://example.com/model"}
  scaling: {minReplicas: 3, maxReplicas: 2}
EOF"""
FORBIDDEN = """kubectl apply -f - <<EOF
apiVersion: zerotide.dev/v1alpha1
kind: InferenceEndpoint
metadata: {name: forbidden}
spec:
  model: {uri: "image:///models/smollm2"}
  podTemplate:
    spec:
      volumes: [{name: host, hostPath: {path: /}}]
EOF"""
BROKEN = "zerotide deploy broken --model image:///nowhere --image zerotide/no-such-image:1 --wait"
PROVEN = "zerotide deploy proven --model image:///models/smollm2 --image zerotide/runtime-smollm2:dev --verify --wait"
UNPROVEN = "zerotide deploy unproven --model image:///nowhere --image zerotide/runtime-smollm2:dev --verify --wait"
HEADERS = """-H 'Content-Type: application/json' -H "Authorization: Bearer $ZEROTIDE_API_KEY\""""
OPENAI = f"""curl -s $(zerotide url smollm2)/v1/chat/completions \\
    {HEADERS} \\
    -d '{{"model": "smollm2", "temperature": 0, "messages": [{{"role": "user", "content": "What is the capital of France?"}}]}}' | python3 -m json.tool"""
TGI = f"""curl -s $(zerotide url smollm2)/generate \\
    {HEADERS} \\
    -d '{{"inputs": "The capital of France is", "parameters": {{"max_new_tokens": 8}}}}'"""
STREAM = f"""curl -sN $(zerotide url smollm2)/generate_stream \\
    {HEADERS} \\
    -d '{{"inputs": "The capital of France is", "parameters": {{"max_new_tokens": 2}}}}'"""
DEPLOY = """zerotide deploy smollm2 --model image:///models/smollm2 --image zerotide/runtime-smollm2:dev \\
    --cpu 500m --memory 2Gi --max 2 --idle 30s --wait"""

TOUR: tuple[Say | Run, ...] = (
    Say("## Is everything in place?"),
    Run("zerotide doctor"),
    Run("zerotide version"),
    Say("## An endpoint, asleep"),
    Say(
        "A new endpoint starts asleep: a Deployment without replicas, a Service, and nothing that costs. `--dry-run` "
        "prints the YAML that `kubectl apply -f` takes as well."
    ),
    Run(DEPLOY),
    Run("zerotide list"),
    Run("kubectl get iep"),
    Run("kubectl get deployments,services,endpointslices,serviceaccounts,pods -l zerotide.dev/endpoint=smollm2"),
    Say("## A key"),
    Say("The cluster keeps a digest; the key itself is printed once, on stdout."),
    Run("export ZEROTIDE_API_KEY=$(zerotide key create me)"),
    Run("zerotide key list"),
    Say("## The first call wakes it"),
    Run('zerotide call smollm2 "What is the capital of France?"'),
    Say("What the wake took, and why it was decided:"),
    Run("zerotide get smollm2"),
    Say("The next call meets a warm model:"),
    Run('zerotide call smollm2 "Name three colours." --max-tokens 40'),
    Say("## Any client"),
    Say("OpenAI's protocol under `/v1`, TGI's beside it, streamed or not; the address is the endpoint's own."),
    Run("zerotide url smollm2"),
    Run(OPENAI),
    Run(TGI),
    Run(STREAM),
    Run("zerotide logs smollm2 --tail 5"),
    Say("## Without a key, nothing wakes"),
    Run("zerotide call smollm2 Hello --key zt_nobody_wrong"),
    Say("## Back to zero"),
    Say(
        "After its idle timeout it sleeps again. `zerotide sleep` does not wait for that; `zerotide wake` is a start "
        "without a request."
    ),
    Run("zerotide wait smollm2 --for asleep --timeout 2m"),
    Run("zerotide wake smollm2 --wait"),
    Run("kubectl get iep"),
    Run("zerotide sleep smollm2 --wait"),
    Say("## What it cost"),
    Say("Every second of every replica is in one phase, and every phase has its price."),
    Run("zerotide bill coldstarts smollm2"),
    Run("zerotide bill cost smollm2"),
    Run("zerotide bill cost -A"),
    Say("## Switches"),
    Run("zerotide suspend smollm2 --wait"),
    Run('zerotide call smollm2 "Hello"'),
    Run("zerotide resume smollm2 --wait"),
    Say("Exactly so many replicas, whatever the load, as `kubectl scale iep/smollm2 --replicas=1` does; 0 hands back."),
    Run("zerotide scale smollm2 1"),
    Run("zerotide wait smollm2 --for awake"),
    Run("zerotide scale smollm2 0"),
    Say("## What goes wrong says so"),
    Say("At apply, with the field and the rule:"),
    Run(BAD),
    Run(FORBIDDEN),
    Say("When it starts, to whoever waits, and in the status:"),
    Run(BROKEN),
    Run('zerotide call broken "Hello"'),
    Run("kubectl get iep"),
    Run("kubectl describe iep broken"),
    Say("Or when it is deployed, before anybody asks; nothing runs afterwards:"),
    Run(PROVEN),
    Run(UNPROVEN),
    Run("zerotide get unproven"),
    Say("## The schema explains itself"),
    Run("kubectl explain iep.spec.scaling"),
    Run("kubectl explain iep.spec.hold.coldTimeout"),
    Say("## In the shell"),
    Run("zerotide --help"),
    Run("zerotide call --help"),
    Run("zerotide completion bash", keep=6),
    Say("## The installation tests itself"),
    Run(
        "helm test zerotide -n zerotide-system --logs | grep -v '^ ' | sed '/^NOTES/,/^POD LOGS/{/^POD LOGS/!d}'",
        shown="helm test zerotide -n zerotide-system --logs",
    ),
    Say("## Clean up"),
    Run("zerotide key revoke me"),
    Run("kubectl delete iep --all"),
)
