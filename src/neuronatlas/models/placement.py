"""Where a model's weights go when it is loaded, and in which form: devices, offloading, quantisation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.utils.quantization_config import QuantizationConfigMixin

__all__ = ["DeviceMap", "ModelError", "Placement"]

DeviceMap = str | Mapping[str, int | str]


class ModelError(ValueError):
    """A model that cannot be loaded or is not supported, with the reason."""


@dataclass(frozen=True)
class Placement:
    """One device, or several by a device map with the most that each may hold; and how weights are quantised."""

    device: str = "auto"
    device_map: DeviceMap | None = None
    memory: Mapping[int | str, int | str] | None = None
    offload_folder: str | Path | None = None
    quantization: QuantizationConfigMixin | None = None

    def check(self, *, in_memory: bool) -> None:
        """Refuse what contradicts itself, and what needs a library that is not there, before anything is read."""
        if in_memory and (self.device_map is not None or self.quantization is not None):
            raise ModelError("a model in memory stays as it is: give device_map and quantization to `from_pretrained`")
        if self.device_map is not None and self.device != "auto":
            raise ModelError(f"device {self.device!r} and a device map: give one of them")
        if self.device_map is None and (self.memory is not None or self.offload_folder is not None):
            raise ModelError('memory and offload_folder belong to a device map: give device_map="auto" as well')
        if self.device_map is not None and find_spec("accelerate") is None:
            raise ModelError("a device map needs accelerate: pip install 'neuronatlas[large]'")

    @property
    def target(self) -> str:
        """The one device that is meant."""
        return ("cuda" if torch.cuda.is_available() else "cpu") if self.device == "auto" else self.device

    def _quantised(self, config: Any) -> bool:
        return self.quantization is not None or getattr(config, "quantization_config", None) is not None

    def options(self, config: Any) -> dict[str, Any]:
        """What `from_pretrained` is told of it."""
        if self.device_map is not None:
            found = {"device_map": self.device_map, "max_memory": self.memory, "offload_folder": self.offload_folder}
        else:
            # Weights that are quantised while loading have to be where that is done.
            found = {"device_map": {"": self.target}} if self._quantised(config) else {}
        given = found | {"quantization_config": self.quantization}
        return {name: value for name, value in given.items() if value is not None}

    def default_dtype(self, config: Any) -> str | torch.dtype:
        """The stored dtype; float32 where a whole model is on a CPU, which computes slowly in others."""
        plain = self.device_map is None and not self._quantised(config)
        return torch.float32 if plain and self.target == "cpu" else "auto"

    def settled(self, module: PreTrainedModel) -> PreTrainedModel:
        """The module on its device, unless it was loaded to where it belongs."""
        if self.device_map is not None or getattr(module, "hf_quantizer", None) is not None:
            return module
        try:
            moved: PreTrainedModel = nn.Module.to(module, self.target)
        except (RuntimeError, AssertionError) as error:
            raise ModelError(f"no device {self.target!r}: {str(error).splitlines()[0]}") from error
        return moved
