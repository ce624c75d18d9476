"""What training makes small: how far pictures and texts that belong together are from each other."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax, logsigmoid

from madang.multimodal.clip.batches import CELLS, SILENT, SLOTS


def contrastive(pictures: Tensor, texts: Tensor, true: Tensor, scale: Tensor) -> Tensor:
    """Symmetric InfoNCE (Radford et al. 2021, figure 3) of unit vectors (n, dim).

    `true`: bool (n, n), text by picture. Where a text is true of several pictures, as "a red circle" is, each of them
    is as right as the other: the target is even over them. With the identity it is the loss of the paper.
    """
    scores = scale * texts @ pictures.T
    target = true.float()
    of_text = -(log_softmax(scores, 1) * (target / target.sum(1, keepdim=True))).sum(1).mean()
    there = target.sum(0)
    of_picture = -(log_softmax(scores, 0) * (target / there.clamp(min=1))).sum(0)
    return (of_text + of_picture[there > 0].mean()) / 2


def sigmoid(pictures: Tensor, texts: Tensor, true: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """SigLIP's loss (Zhai et al. 2023, algorithm 1): each text and picture by themselves."""
    scores = scale * texts @ pictures.T + bias
    return -logsigmoid(torch.where(true, scores, -scores)).sum(1).mean()


_NOTHING = 0.05                # of the label "nothing is here"


class Labels(nn.Module):  # type: ignore[misc]
    """Reads the labels of a scene from the vectors of its picture and of its prompt, by the same linear map, and
    those of each patch from the patch. It makes sense of every part of a vector early, and is thrown away after
    training."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.whole = nn.Linear(dim, sum(SLOTS))
        self.patch = nn.Linear(hidden, sum(CELLS))

    def forward(
        self, pictures: Tensor, texts: Tensor, patches: Tensor, slots: Tensor, said: Tensor, cells: Tensor
    ) -> Tensor:
        """The sum of the mean losses of pictures, of texts and of patches."""
        return (
            _read(self.whole(pictures), slots, SLOTS)
            + _read(self.whole(texts), said, SLOTS)
            + _read(self.patch(patches).flatten(0, 1), cells.flatten(0, 1), CELLS)
        )


def _read(scores: Tensor, labels: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Mean cross-entropy over kinds of labels; scores (n, sum(sizes)), labels (n, len(sizes)).

    That nothing is somewhere counts little: most places are empty, and would drown what stands in the others.
    """
    losses, kinds = scores.new_zeros(()), 0
    plain = 0 if sizes == CELLS else 3      # background, time and count come first, and are always there
    for at, (part, wanted) in enumerate(zip(scores.split(sizes, 1), labels.unbind(1), strict=True)):
        if (wanted != SILENT).any():
            weight = part.new_ones(part.shape[1])
            if at >= plain:
                weight[0] = _NOTHING
            losses, kinds = losses + cross_entropy(part, wanted, weight, ignore_index=SILENT), kinds + 1
    return losses / max(1, kinds)
