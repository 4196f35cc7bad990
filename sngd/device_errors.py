"""What a failed device or network looks like: errors that are nobody's mistake in a config or a residual.

Out of memory is none of them (sngd/allocation.py): it has a remedy that can be tried at once.
"""

from __future__ import annotations

import torch

from sngd.allocation import first_line, is_out_of_memory

__all__ = ["DeviceError", "is_device_error", "is_machine_failure", "is_network_error", "reason"]

# torch 2.6 raises a RuntimeError in its place.
_ACCELERATOR = getattr(torch, "AcceleratorError", ())
_DEVICE = (
    *("cuda error", "cuda driver error", "hip error", "device-side assert", "ecc error"),
    *("cublas_status_", "cusolver_status_", "cusparse_status_", "cudnn_status_", "cufft_"),
    *("unhandled cuda error", "no cuda gpus are available"),
)
_NETWORK = ("nccl error", "gloo/transport", "connection reset by peer", "connection closed by peer")
_NETWORK_TYPES = ("DistBackendError", "DistNetworkError", "DistStoreError")
# What may help, by a word of the message.
_HINTS = {
    "device-side assert": "an index out of range, most likely: CUDA_LAUNCH_BLOCKING=1 tells where",
    "ecc error": "its memory is faulty: leave this machine out",
    "nccl error": "NCCL_DEBUG=INFO tells more",
}


class DeviceError(RuntimeError):
    """A device, or the network between ranks, has failed; the message says how to go on."""


def is_device_error(error: BaseException | None) -> bool:
    """Whether a GPU, its driver or a library on it has failed, other than for want of memory."""
    if not isinstance(error, RuntimeError) or is_out_of_memory(error):
        return False
    return isinstance(error, (DeviceError, _ACCELERATOR)) or _says(error, _DEVICE)


def is_network_error(error: BaseException | None) -> bool:
    """Whether a connection between ranks has failed."""
    if not isinstance(error, RuntimeError) or is_out_of_memory(error) or is_device_error(error):
        return False
    return type(error).__name__ in _NETWORK_TYPES or _says(error, _NETWORK)


def is_machine_failure(error: BaseException) -> bool:
    """Whether memory or a device has failed, which is no mistake of the function that was called."""
    return is_out_of_memory(error) or is_device_error(error)


def reason(error: BaseException) -> str:
    """What has failed, and what may help, without the advice and the traces that follow."""
    text = str(error)
    if isinstance(error, DeviceError):
        return text
    told = first_line(error)
    if text.startswith("NCCL error in:"):  # a line of torch's source, what, which NCCL; "Last error:" why
        told = f"NCCL error: {told.partition(', ')[2] or told}"
        told += "".join(f" ({line.strip()})" for line in text.partition("Last error:")[2].splitlines()[1:2])
    hints = [hint for word, hint in _HINTS.items() if word in text.lower()]
    return f"{told} ({hints[0]})" if hints else told


def _says(error: BaseException, words: tuple[str, ...]) -> bool:
    text = str(error).lower()
    return any(word in text for word in words)
