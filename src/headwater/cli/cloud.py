"""`headwater cloud`: rent a Runpod pod for a fit, stop it, download a run from the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from headwater.cli import app
from headwater.cli.examples import examples
from headwater.cli.options import RunPath
from headwater.cli.progress import say
from headwater.errors import HeadwaterError
from headwater.runpod.pods import API_URL, Cloud, FitPod, api_key, create_request, send, stop_request

cloud = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    epilog=examples("headwater cloud fetch you/stories-influence runs/stories"),
    help="Rent a Runpod pod for a fit, stop it; fetch a run from the hub.",
)
app.add_typer(cloud, name="cloud")

ApiUrlOption = Annotated[
    str, typer.Option(help="Address of Runpod's REST API, version 2.", envvar="HEADWATER_RUNPOD_API")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print the request and send nothing.")]


@cloud.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    epilog=examples(
        "headwater cloud fit runs/ts --model you/model --corpus you/corpus --volume VOLUME --image you/headwater",
        "headwater cloud fit runs/ts --model you/model --corpus you/corpus --volume VOLUME --image you/headwater "
        "--limit 20000 --dry-run",
    ),
)
def fit(
    context: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="Directory of the run on the volume.")],
    model: Annotated[str, typer.Option(help="Hub name of the model, or its path on the volume (/runpod-volume/…).")],
    corpus: Annotated[str, typer.Option(help="Name of a dataset, or the corpus's path on the volume.")],
    volume: Annotated[str, typer.Option(help="Id of the network volume that will hold the run.")],
    image: Annotated[str, typer.Option(help="Image built from deploy/runpod/Dockerfile.")],
    gpu: Annotated[str, typer.Option(help="Runpod's id of the GPU type.")] = "NVIDIA GeForce RTX 4090",
    gpu_count: Annotated[int, typer.Option(help="Number of GPUs.", min=1)] = 1,
    min_cuda: Annotated[
        str | None,
        typer.Option(help="Oldest CUDA version of the pod's driver that the image's PyTorch accepts, such as 12.8."),
    ] = None,
    tier: Annotated[
        Cloud, typer.Option("--cloud", help="Runpod's own data centers (SECURE), or its community's.")
    ] = "SECURE",
    data_center: Annotated[
        list[str] | None, typer.Option(help="Data center for the pod; repeatable. A volume is in one data center.")
    ] = None,
    disk: Annotated[int, typer.Option(help="Size of the container's own disk in GB.", min=1)] = 20,
    name: Annotated[str, typer.Option(help="Name of the pod.")] = "headwater-fit",
    index: Annotated[bool, typer.Option(help="Also build the index.")] = True,
    secret: Annotated[
        str | None, typer.Option("--hf-secret", help="Name of the Runpod secret that holds a token of the hub.")
    ] = None,
    api_url: ApiUrlOption = API_URL,
    dry_run: DryRunOption = False,
) -> None:
    """Fit RUN on a rented Runpod pod with a network volume; the pod stops itself at the end.

    Options of `headwater fit` may follow. Needs RUNPOD_API_KEY in the environment, except for a dry run.
    """
    arguments = ("--model", model, "--corpus", corpus, *context.args)
    pod = FitPod(
        run=run,
        fit=arguments,
        image=image,
        volume=volume,
        gpu=gpu,
        gpu_count=gpu_count,
        min_cuda=min_cuda,
        cloud=tier,
        data_centers=tuple(data_center or ()),
        disk=disk,
        name=name,
        index=index,
        secret=secret,
    )
    request = create_request(pod, api_url)
    _check_fit(str(pod.path), arguments)
    if dry_run:
        typer.echo(request.describe())
        return
    _say_rented(send(request, api_key()), pod)


def _say_rented(made: dict[str, Any], pod: FitPod) -> None:
    """Print what to do with a rented pod. Raises HeadwaterError if Runpod's answer names none."""
    pod_id = made.get("id")
    if not pod_id:
        raise HeadwaterError("Runpod's answer has no pod id. Check in its console whether a pod was created.")
    price = f", ${made['cost']:.2f} an hour" if isinstance(made.get("cost"), int | float) else ""
    say(
        f"""Rented pod {pod_id}{price}. It fits {pod.path} and then stops itself. If stopping fails, it still costs.
  watch    https://console.runpod.io/pods (the log is also in {pod.path}.log on the volume)
  stop     headwater cloud stop {pod_id}
  use      mount volume {pod.volume} on a serverless endpoint with HEADWATER_RUN={pod.path}
  fetch    copy {pod.path} from the volume with Runpod's S3 API, or upload it to the hub from a pod
  delete   delete the stopped pod in the console when you have read its log"""
    )


@cloud.command(epilog=examples("headwater cloud stop 4xk2t9", "headwater cloud stop --dry-run 4xk2t9"))
def stop(
    pod: Annotated[
        str,
        typer.Argument(
            metavar="POD", help="Id of the pod. Default: the pod that runs this command.", envvar="RUNPOD_POD_ID"
        ),
    ],
    api_url: ApiUrlOption = API_URL,
    dry_run: DryRunOption = False,
) -> None:
    """Stop a Runpod pod, so that its GPU costs no more. Its network volume stays."""
    request = stop_request(pod, api_url)
    if dry_run:
        typer.echo(request.describe())
        return
    send(request, api_key())
    say(f"Pod {pod} is stopping.")


@cloud.command(epilog=examples("headwater cloud fetch you/stories-influence runs/stories"))
def fetch(
    repository: Annotated[
        str, typer.Argument(metavar="REPOSITORY", help="owner/name, or model:owner/name; @revision.")
    ],
    run: RunPath,
) -> None:
    """Fetch a finished run from the Hugging Face hub into RUN. Needs HF_TOKEN where it is private."""
    from headwater.runs.hub import fetch_run

    say(f"Downloading {repository} into {run} …")
    fetch_run(repository, Path(run))


def _check_fit(run: str, arguments: tuple[str, ...]) -> None:
    """Refuse what `headwater fit` would refuse, before anything is rented."""
    commands = cast(Any, typer.main.get_command(app)).commands
    commands["fit"].make_context("headwater fit", [run, *arguments])
