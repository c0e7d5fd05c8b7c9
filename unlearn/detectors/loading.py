"""What is said where the weights of a network cannot be loaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pickle import UnpicklingError

from unlearn.detectors.reading import BROKEN
from unlearn.errors import ConfigError, UnlearnError
from unlearn.system.shortage import memory_short, reason


@contextmanager
def whole(what: str, advice: str) -> Iterator[None]:
    """Says in a line that ``what`` cannot be loaded, whatever a library says of its file.

    Arguments:
        what: The network and its file, as part of the sentence.
        advice: What to do, as a sentence.

    Raises:
        ConfigError: If anything goes wrong in the block but for want of memory.
    """
    from safetensors import SafetensorError

    try:
        yield
    except UnlearnError:
        raise
    except Exception as error:
        # onnxruntime's and safetensors' errors are plain exceptions, each library's of its own.
        known = isinstance(error, (*BROKEN, AttributeError, EOFError, UnpicklingError, SafetensorError))
        if memory_short(error) or not (known or type(error).__module__.startswith("onnxruntime")):
            raise
        raise ConfigError(f"detector: {what} cannot be loaded ({reason(error)}). {advice}") from error
