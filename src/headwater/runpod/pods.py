"""Rent a Runpod pod for a fit, through version 2 of Runpod's REST API.

A request is plain data until `send` sends it, so a dry run shows exactly what would be sent. The fields are those of
CreatePodRequest in the OpenAPI description of version 2.
"""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx2 as httpx

from headwater.base.version import __version__
from headwater.errors import HeadwaterError

API_URL = "https://api.runpod.io/v2"
MOUNT = "/runpod-volume"
"""Where serverless workers mount a network volume. A fit mounts it there too, so the paths in a run stay valid."""
TIMEOUT = 60.0
"""Seconds to wait for an answer from Runpod."""

Cloud = Literal["SECURE", "COMMUNITY"]


@dataclass(frozen=True, kw_only=True)
class FitPod:
    """A pod that fits a run on a network volume, indexes it, and stops itself."""

    run: str
    """Directory of the run on the volume."""
    fit: tuple[str, ...]
    """Arguments of `headwater fit RUN`: model, corpus and options."""
    image: str
    """Image with Headwater and bash, built from deploy/runpod/Dockerfile."""
    volume: str
    """Id of the network volume."""
    gpu: str = "NVIDIA GeForce RTX 4090"
    """Runpod's id of the GPU type."""
    gpu_count: int = 1
    min_cuda: str | None = None
    """Oldest CUDA version that the pod's driver may have, such as "12.8". None: Runpod chooses."""
    cloud: Cloud = "SECURE"
    data_centers: tuple[str, ...] = ()
    """Data centers that the pod may run in. Empty: Runpod chooses; it knows where the volume is."""
    disk: int = 20
    """GB of the container's own disk, which is deleted with the pod."""
    name: str = "headwater-fit"
    index: bool = True
    """Also build the index."""
    secret: str | None = None
    """Name of the Runpod secret that holds a token for the Hugging Face hub."""

    @property
    def path(self) -> PurePosixPath:
        """Path of the run in the pod. Raises HeadwaterError if it is not on the volume."""
        path = PurePosixPath(MOUNT) / self.run
        if ".." in path.parts or PurePosixPath(MOUNT) not in path.parents:
            raise HeadwaterError(f"The run {self.run!r} is not on the volume, which is mounted at {MOUNT}.")
        return path

    @property
    def start(self) -> str:
        """The command of the container. It also writes its log beside the run: the pod's own log is deleted with it."""
        run = shlex.quote(str(self.path))
        work = f"headwater fit {run} {shlex.join(self.fit)}".rstrip()
        if self.index:
            work += f" && headwater index {run}"
        log = shlex.quote(f"{self.path}.log")
        stop = 'headwater cloud stop || runpodctl stop pod "$RUNPOD_POD_ID"'
        parent = shlex.quote(str(self.path.parent))
        # Runpod restarts a container that ends, so this one waits until it is stopped.
        script = f"mkdir -p {parent}; {{ {work}; }} 2>&1 | tee -a {log}; {stop}; sleep 300"
        return shlex.join(["bash", "-c", script])


@dataclass(frozen=True)
class ApiRequest:
    """One call of the API, without the key."""

    method: str
    url: str
    body: dict[str, Any] = field(default_factory=dict[str, Any])

    def describe(self) -> str:
        """The request as it would be sent, with a placeholder for the key."""
        return (
            f"{self.method} {self.url}\nAuthorization: Bearer $RUNPOD_API_KEY\nContent-Type: application/json\n\n"
            f"{json.dumps(self.body, indent=2, ensure_ascii=False)}"
        )


def create_request(pod: FitPod, api: str = API_URL) -> ApiRequest:
    """The request that rents the pod. Raises HeadwaterError if the run is not on the volume."""
    body: dict[str, Any] = {
        "name": pod.name,
        "image": pod.image,
        "cloud": pod.cloud,
        "gpu": {"id": pod.gpu, "count": pod.gpu_count},
        "disk": pod.disk,
        "mounts": {"network": [{"volumeId": pod.volume, "path": MOUNT}]},
        "env": {"HEADWATER_RUN": str(pod.path), "HF_HOME": f"{MOUNT}/huggingface"},
        "args": pod.start,
    }
    if pod.secret is not None:
        body["env"]["HF_TOKEN"] = f"{{{{ RUNPOD_SECRET_{pod.secret} }}}}"  # Runpod fills this in
    if pod.min_cuda is not None:
        body["gpu"]["minCudaVersion"] = pod.min_cuda
    if pod.data_centers:
        body["dataCenterIds"] = list(pod.data_centers)
    return ApiRequest("POST", f"{_require_https(api)}/pods", body)


def stop_request(pod_id: str, api: str = API_URL) -> ApiRequest:
    """The request that stops a pod and its charges for the GPU. The network volume stays."""
    if not pod_id.replace("-", "").replace("_", "").isalnum():
        raise HeadwaterError(f"{pod_id!r} is not the id of a pod.")
    return ApiRequest("POST", f"{_require_https(api)}/pods/{pod_id}/action", {"action": "stop"})


def api_key() -> str:
    """Runpod's key, from the environment only. Raises HeadwaterError if it is not set."""
    key = os.environ.get("RUNPOD_API_KEY", "").strip()
    if not key:
        raise HeadwaterError("Set RUNPOD_API_KEY to a key of your Runpod account (console, Settings, API keys).")
    return key


def send(request: ApiRequest, key: str) -> dict[str, Any]:
    """Send a request and return Runpod's answer. Raises HeadwaterError with Runpod's own words if it refuses.

    Redirects are not followed, because one would carry the key to another address.
    """
    headers = {
        "Authorization": f"Bearer {key}",
        "Content-Type": "application/json",
        "User-Agent": f"headwater/{__version__}",
    }
    content = json.dumps(request.body).encode()
    host = urlsplit(request.url).netloc
    try:
        response = httpx.request(
            request.method, request.url, content=content, headers=headers, timeout=TIMEOUT, follow_redirects=False
        )
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ImportError, ValueError) as error:
        raise HeadwaterError(f"{host} cannot be reached: {str(error) or type(error).__name__}.") from error
    if not response.is_success:
        raise HeadwaterError(_refusal(response.status_code, response.text))
    try:
        answer = json.loads(response.content or b"{}")
    except ValueError as error:
        raise HeadwaterError(f"{host} answered something that is not JSON.") from error
    return answer if isinstance(answer, dict) else {}


def _require_https(api: str) -> str:
    """The API's address without a final slash. Raises HeadwaterError if the key would be sent unencrypted."""
    parts = urlsplit(api)
    if not parts.hostname or (parts.scheme != "https" and parts.hostname not in ("localhost", "127.0.0.1")):
        raise HeadwaterError(f"{api!r} is not an https address, and the key is only sent encrypted. Correct --api-url.")
    return api.rstrip("/")


def _refusal(status: int, body: str) -> str:
    words = _message(body)
    if status == 401:
        return f"Runpod does not accept the key in RUNPOD_API_KEY ({words}). Make one with write access in the console."
    if status == 402:
        return f"Runpod asks for more credit ({words}). Add some in the console, under Billing."
    if status == 403:
        return f"The key in RUNPOD_API_KEY may not do this ({words}). It needs write access to pods."
    if status == 429:
        return f"Runpod received too many requests with this key ({words}). Wait a minute."
    lower = words.lower()
    if any(word in lower for word in ("capacity", "no longer any instances", "no instances", "not available", "stock")):
        return (
            f"Runpod has no such GPU free now ({words}). Try another --gpu, or try later. A volume limits you to its "
            "data center."
        )
    if 300 <= status < 400:
        return f"Runpod's API has moved (HTTP {status}). Give the new address with --api-url."
    return f"Runpod refused the request (HTTP {status}: {words})."


def _message(body: str) -> str:
    """Runpod's message: from a problem document (RFC 9457), from an older form, or the start of any other text."""
    try:
        problem: Any = json.loads(body)
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        return " ".join(body.split())[:200] or "without a word"
    parts = [problem.get("detail") or problem.get("message") or problem.get("error") or problem.get("title")]
    parts += problem.get("errors") or []
    return "; ".join(str(part).rstrip(".") for part in parts if part)[:500] or "without a word"
