"""The actor of a Ray cluster that does the work, and how tensors travel to it and back.

Ray imports this module first in the process of a worker. It imports torch inside functions only, so that
`configure_process` comes before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headwater.base.process import configure_process

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Worker:
    """The actor. It does what it is sent, in one process that keeps the model it has loaded."""

    def __init__(self, threads: int) -> None:
        configure_process()
        import torch

        torch.set_num_threads(threads)
        send_tensors_as_arrays("cuda" if torch.cuda.is_available() else "cpu")

    def ready(self) -> None:
        """Return once the worker has started."""

    def call(self, work: Callable[[Any], Any], item: Any) -> Any:
        """The result of `work` on `item`."""
        return work(item)


def send_tensors_as_arrays(device: str = "cpu") -> None:
    """Let this process send tensors as NumPy arrays, and put received tensors on `device`."""
    import ray
    import torch
    from torch import Tensor

    from headwater.gradients import aligned_rows

    def flat(tensor: Tensor) -> tuple[Any, torch.dtype, tuple[int, ...], bool]:
        whole = tensor.detach().cpu().contiguous()
        rows_aligned = tensor.dim() == 2 and tensor.stride() != whole.stride() and aligned_rows.copy(tensor) is tensor
        return whole.view(-1).view(torch.uint8).numpy(), whole.dtype, tuple(whole.shape), rows_aligned

    def tensor_of(parts: tuple[Any, torch.dtype, tuple[int, ...], bool]) -> Tensor:
        numbers, dtype, shape, rows_aligned = parts
        whole = torch.from_numpy(numbers.copy()).view(dtype).view(shape).to(device)
        return aligned_rows.copy(whole) if rows_aligned else whole

    ray.util.register_serializer(Tensor, serializer=flat, deserializer=tensor_of)
