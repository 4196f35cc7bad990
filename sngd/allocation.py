"""What a failed allocation looks like, and what is left to say when nothing smaller can be tried."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator

import torch

__all__ = ["OutOfMemoryError", "first_line", "is_out_of_memory", "naming_out_of_memory", "release"]

# What allocators and libraries say where the type of the error does not.
_MESSAGES = (
    "can't allocate memory",
    "not enough memory",
    "cannot allocate memory",
    "out of memory",
    "storage size calculation overflowed",  # more bytes than a number can say
    "status_alloc_failed",  # cuBLAS and cuSOLVER
)


class OutOfMemoryError(ValueError):
    """This rank has not enough memory for the run as it is configured; the message says what may help."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory could not be allocated, on a GPU or on a CPU."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(message in text for message in _MESSAGES)


def release() -> None:
    """Give back what nobody refers to any more, after the exception of a failed allocation is gone."""
    gc.collect()
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


@contextlib.contextmanager
def naming_out_of_memory(message: Callable[[], str]) -> Iterator[None]:
    """Replace a failed allocation by an error that names what was asked for and what may help.

    Args:
        message: its text, made where it is needed.

    Raises:
        OutOfMemoryError: an allocation inside the block has failed.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(f"{message()} ({first_line(error)})") from error


def first_line(error: BaseException) -> str:
    """What an error says, without the advice that follows; its type where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
