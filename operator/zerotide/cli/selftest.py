"""What `helm test` runs inside the cluster: the kinds are served, the gateway answers, the exporter is ready.

`python -m zerotide.cli.selftest --gateway URL --exporter URL`; exit code 0 when all is well.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence

import aiohttp

from zerotide.api.names import PLURAL_API_KEYS, PLURAL_ENDPOINTS
from zerotide.cli.errors import CliError, GatewayError, Missing
from zerotide.kube import Client, KubeError, load_credentials
from zerotide.kube.resources import INFERENCE_ENDPOINTS


async def kinds(client: Client) -> str:
    """Check that the API server serves our kinds."""
    answer = await client.request("GET", f"/apis/{INFERENCE_ENDPOINTS.api_version}")
    missing = {PLURAL_ENDPOINTS, PLURAL_API_KEYS} - {resource["name"] for resource in answer.get("resources", [])}
    if missing:
        raise Missing(f"the API server does not serve {', '.join(sorted(missing))}")
    return f"{INFERENCE_ENDPOINTS.api_version} is served"


async def gateway(http: aiohttp.ClientSession, url: str) -> str:
    """Check that the gateway answers, and asks for a key before it does anything."""
    async with http.get(f"{url}/v1/models") as response:
        body = (await response.text())[:200]
        if response.status != 401:
            raise GatewayError(f"GET {url}/v1/models without a key was answered {response.status}, not 401: {body}")
    return "the gateway answers and asks for a key"


async def exporter(http: aiohttp.ClientSession, url: str) -> str:
    """Check that the exporter is ready."""
    async with http.get(f"{url}/readyz") as response:
        if response.status != 200:
            raise GatewayError(f"the exporter is not ready: {response.status} {(await response.text())[:200]}")
    return "the exporter is ready"


async def run(gateway_url: str, exporter_url: str) -> int:
    """Run every check, say how each went, and return the exit code."""
    failed = 0
    timeout = aiohttp.ClientTimeout(total=10)
    async with Client(await load_credentials()) as client, aiohttp.ClientSession(timeout=timeout) as http:
        for check in (kinds(client), gateway(http, gateway_url), exporter(http, exporter_url)):
            try:
                print(f"ok    {await check}", flush=True)
            except (KubeError, CliError, aiohttp.ClientError, TimeoutError) as error:
                failed += 1
                print(f"FAIL  {str(error) or repr(error)}", flush=True)
    return 1 if failed else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and run the checks."""
    parser = argparse.ArgumentParser(prog="zerotide.cli.selftest", description="Check an installation from inside.")
    parser.add_argument("--gateway", required=True, help="address of the gateway")
    parser.add_argument("--exporter", required=True, help="address of the exporter")
    args = parser.parse_args(argv)
    return asyncio.run(run(args.gateway, args.exporter))


if __name__ == "__main__":
    sys.exit(main())
