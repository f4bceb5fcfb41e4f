"""What encoders give, as one dense matrix."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from timm_inject.errors import ArgumentValueError, list_some

__all__ = ["as_matrix"]


def as_matrix(output: Any) -> Tensor:
    """Make vectors of any make one tensor, float32 on the CPU.

    Args:
        output: A NumPy array, a tensor (dense or sparse), a sparse SciPy matrix, nested lists, or a list of vectors of these kinds.

    Returns:
        Mostly (num_texts, dim); what has another shape keeps it, and is the caller's to refuse.

    Raises:
        ArgumentValueError: The vectors have different shapes.
        TypeError, ValueError, RuntimeError: It holds something else than numbers, as PyTorch says it.
    """
    if isinstance(output, list | tuple) and output and not isinstance(output[0], list | tuple):
        vectors = [_as_dense(vector) for vector in output]
        shapes = sorted({tuple(vector.shape) for vector in vectors})
        if len(shapes) > 1:
            raise ArgumentValueError(f"The embeddings have different shapes: {list_some(shapes)}. Give vectors of one length.")
        return torch.stack(vectors)
    return _as_dense(output)


def _as_dense(output: Any) -> Tensor:
    tensor = torch.as_tensor(output.toarray() if hasattr(output, "toarray") else output).detach()
    return (tensor if tensor.layout is torch.strided else tensor.to_dense()).to("cpu", torch.float32)
