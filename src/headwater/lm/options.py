"""Options of loading a model. Loads neither torch nor transformers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from headwater.base.options import Option

Dtype = Literal["fp32", "bf16", "int8", "nf4"]
"""What a model runs in. Sums over tokens or examples are in float32 in any case.

With int8 and nf4 the weights of the linears have 8 or 4 bits; the rest is in bfloat16."""
DeviceMap = Literal["auto", "balanced", "balanced_low_0", "sequential"]
"""How accelerate spreads a model over the devices."""

TrustRemoteCode = Annotated[bool, Option(help="Run Python code that comes with the model.")]


@dataclass(frozen=True, kw_only=True)
class Loading:
    """How a model is loaded and run. A run remembers it."""

    panel: ClassVar = "Model"
    dtype: Annotated[
        Dtype, Option(help="Type that the model runs in; int8 and nf4 affect only its linears. Sums are in float32.")
    ] = "fp32"
    gradient_checkpointing: Annotated[
        bool, Option(help="Run each block again in the backward pass: less memory, the same results, more time.")
    ] = False
    device_map: Annotated[
        DeviceMap | dict[str, int | str] | None,
        Option(help="Spread the model over all devices, as accelerate does.", none="one device"),
    ] = None
    trust_remote_code: TrustRemoteCode = False
    tokenizer: Annotated[
        str | None,
        Option(help="Path or hub name of the tokenizer.", none="the tokenizer that comes with the model"),
    ] = None
    base: Annotated[
        str | None,
        Option(help="Path or hub name of the model under a LoRA adapter.", none="the one that the adapter names"),
    ] = None
