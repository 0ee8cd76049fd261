"""Renting a Runpod pod for a fit, through Runpod's REST API, version 2.

A request is plain data until `send` sends it, so that a dry run shows exactly what would be sent. The fields are those
of CreatePodRequest in Runpod's OpenAPI description of version 2.
"""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from headwater.base.version import __version__
from headwater.errors import HeadwaterError

API_URL = "https://api.runpod.io/v2"
MOUNT = "/runpod-volume"
"""Where serverless workers find a network volume; a fit mounts it at the same place, so that its paths stay true."""
TIMEOUT = 60.0
"""Seconds that Runpod may take to answer."""

Cloud = Literal["SECURE", "COMMUNITY"]


@dataclass(frozen=True, kw_only=True)
class FitPod:
    """A pod that fits a run on a network volume, indexes it, and stops itself."""

    run: str
    """Directory of the run on the volume."""
    fit: tuple[str, ...]
    """What `headwater fit RUN` is given: model, corpus and options."""
    image: str
    """Image with Headwater and bash in it: that of deploy/runpod/Dockerfile."""
    volume: str
    """Id of the network volume."""
    gpu: str = "NVIDIA GeForce RTX 4090"
    """Runpod's id of the GPU type."""
    gpu_count: int = 1
    min_cuda: str | None = None
    """Oldest CUDA that the pod's driver may have, such as "12.8"; None leaves it to Runpod."""
    cloud: Cloud = "SECURE"
    data_centers: tuple[str, ...] = ()
    """Where the pod may be; empty leaves it to Runpod, which knows where the volume is."""
    disk: int = 20
    """GB of the container's own disk, which is wiped with the pod."""
    name: str = "headwater-fit"
    index: bool = True
    """Also build the index."""
    secret: str | None = None
    """Name of the Runpod secret that holds a token for the Hugging Face hub."""

    @property
    def path(self) -> PurePosixPath:
        """The run as the pod sees it. Raises HeadwaterError where it is not on the volume."""
        path = PurePosixPath(MOUNT) / self.run
        if ".." in path.parts or PurePosixPath(MOUNT) not in path.parents:
            raise HeadwaterError(f"The run {self.run!r} is not on the volume, which is mounted at {MOUNT}.")
        return path

    @property
    def start(self) -> str:
        """What the container runs. All of it is also written beside the run, as the pod's own log goes with the pod."""
        run = shlex.quote(str(self.path))
        work = f"headwater fit {run} {shlex.join(self.fit)}".rstrip()
        if self.index:
            work += f" && headwater index {run}"
        log = shlex.quote(f"{self.path}.log")
        stop = 'headwater cloud stop || runpodctl stop pod "$RUNPOD_POD_ID"'
        parent = shlex.quote(str(self.path.parent))
        # A container that ends is started again, so it waits to be stopped.
        script = f"mkdir -p {parent}; {{ {work}; }} 2>&1 | tee -a {log}; {stop}; sleep 300"
        return shlex.join(["bash", "-c", script])


@dataclass(frozen=True)
class ApiRequest:
    """One call of the API, without its key."""

    method: str
    url: str
    body: dict[str, Any] = field(default_factory=dict[str, Any])

    def describe(self) -> str:
        """The request as it would be sent, with the key left out."""
        return (
            f"{self.method} {self.url}\nAuthorization: Bearer $RUNPOD_API_KEY\nContent-Type: application/json\n\n"
            f"{json.dumps(self.body, indent=2, ensure_ascii=False)}"
        )


def create_request(pod: FitPod, api: str = API_URL) -> ApiRequest:
    """The request that rents the pod. Raises HeadwaterError where the run is not on the volume."""
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
        body["env"]["HF_TOKEN"] = f"{{{{ RUNPOD_SECRET_{pod.secret} }}}}"  # filled in by Runpod, never by us
    if pod.min_cuda is not None:
        body["gpu"]["minCudaVersion"] = pod.min_cuda
    if pod.data_centers:
        body["dataCenterIds"] = list(pod.data_centers)
    return ApiRequest("POST", f"{_checked(api)}/pods", body)


def stop_request(pod_id: str, api: str = API_URL) -> ApiRequest:
    """The request that stops a pod, so that its GPU costs no more; its network volume stays."""
    if not pod_id.replace("-", "").replace("_", "").isalnum():
        raise HeadwaterError(f"{pod_id!r} is not the id of a pod.")
    return ApiRequest("POST", f"{_checked(api)}/pods/{pod_id}/action", {"action": "stop"})


def api_key() -> str:
    """Runpod's key, from the environment and nowhere else. Raises HeadwaterError where it is not set."""
    key = os.environ.get("RUNPOD_API_KEY", "").strip()
    if not key:
        raise HeadwaterError("Set RUNPOD_API_KEY to a key of your Runpod account (console, Settings, API keys).")
    return key


def send(request: ApiRequest, key: str) -> dict[str, Any]:
    """Send a request and return Runpod's answer. Raises HeadwaterError with Runpod's own words where it refuses."""
    prepared = Request(  # noqa: S310  # the scheme is checked where the URL is built
        request.url,
        data=json.dumps(request.body).encode(),
        method=request.method,
        headers={
            "Authorization": f"Bearer {key}",
            "Content-Type": "application/json",
            "User-Agent": f"headwater/{__version__}",
        },
    )
    try:
        with build_opener(_NoRedirects).open(prepared, timeout=TIMEOUT) as response:
            answer = json.loads(response.read() or b"{}")
    except HTTPError as error:
        raise HeadwaterError(_refusal(error.code, error.read().decode("utf-8", "replace"))) from None
    except (URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise HeadwaterError(f"{urlsplit(request.url).netloc} cannot be reached: {reason}.") from error
    except ValueError as error:
        raise HeadwaterError(f"{urlsplit(request.url).netloc} answered something that is not JSON.") from error
    return answer if isinstance(answer, dict) else {}


class _NoRedirects(HTTPRedirectHandler):
    """A redirect would carry the key to another address."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _checked(api: str) -> str:
    """The API's address without a slash at its end. Raises HeadwaterError where the key would travel in the clear."""
    parts = urlsplit(api)
    if not parts.hostname or (parts.scheme != "https" and parts.hostname not in ("localhost", "127.0.0.1")):
        raise HeadwaterError(f"{api!r} is not an https address; the key is not sent in the clear.")
    return api.rstrip("/")


def _refusal(status: int, body: str) -> str:
    said = _said(body)
    if status == 401:
        return f"Runpod does not accept the key in RUNPOD_API_KEY ({said}). Make one with write access in the console."
    if status == 402:
        return f"Runpod asks for more credit ({said}). Add some in the console, under Billing."
    if status == 403:
        return f"The key in RUNPOD_API_KEY may not do this ({said}). It needs write access to pods."
    if status == 429:
        return f"Runpod has had too many requests with this key ({said}). Wait a minute."
    words = said.lower()
    if any(word in words for word in ("capacity", "no longer any instances", "no instances", "not available", "stock")):
        return f"Runpod has no such GPU free now ({said}). Try another --gpu, or later; a volume ties you to its place."
    if 300 <= status < 400:
        return f"Runpod's API has moved (HTTP {status}). Name the new address with --api-url."
    return f"Runpod refused the request (HTTP {status}: {said})."


def _said(body: str) -> str:
    """Runpod's message: of a problem document (RFC 9457), an older one, or the beginning of whatever came."""
    try:
        problem: Any = json.loads(body)
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        return " ".join(body.split())[:200] or "without a word"
    parts = [problem.get("detail") or problem.get("message") or problem.get("error") or problem.get("title")]
    parts += problem.get("errors") or []
    return "; ".join(str(part).rstrip(".") for part in parts if part)[:500] or "without a word"
