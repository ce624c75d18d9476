"""Pictures drawn from words by way of CLIP's vectors (unCLIP, Ramesh et al. 2022), with torch and diffusers.

A prior makes the vector of a picture from that of a text; a decoder makes the pixels from it, both by diffusion. A
folder holds, in diffusers' formats, `prior/` (PriorTransformer), `prior_scheduler/`, `decoder/` (UNet2DConditionModel)
and `scheduler/`, beside `model_index.json`, which says which CLIP its vectors are of.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize, pixel_shuffle, pixel_unshuffle

from madang.base.errors import Corrupt, MissingDependency
from madang.models.providers import weights

PATCH = 4  # pixels of a patch's side: the decoder sees a picture as patches, with their pixels as channels
TOKENS = 4  # parts of a vector that the decoder's attention looks at
COORDINATES = 2
_LAYOUT = "layout.safetensors"


class Layout(nn.Module):
    """From a vector to a coarse map of what is where.

    Without it the decoder must find out by attention which numbers are about which place, and takes many times longer.
    Three layers, since what stands at a place is not a linear map of a CLIP's vector: a linear one tells the right
    shape of .79 of the things in our scenes, this one of .86.
    """

    def __init__(self, dim: int, channels: int = 16, cells: int = 8, hidden: int = 512) -> None:
        super().__init__()
        self.channels, self.cells = channels, cells
        self.layers = nn.Sequential(
            nn.Linear(dim, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, channels * cells * cells),
        )

    def map(self, vectors: Tensor) -> Tensor:
        """(n, dim), numbers of size 1, to (n, channels, cells, cells)."""
        found: Tensor = self.layers(vectors)
        return found.view(len(vectors), self.channels, self.cells, self.cells)

    def forward(self, vectors: Tensor, side: int) -> Tensor:
        """(n, dim) to (n, channels, side, side)."""
        return interpolate(self.map(vectors), (side, side), mode="nearest")


@dataclass
class Decoder:
    """A vector of CLIP to pixels. `unet` takes noisy patches with their coordinates and the map of `layout`, and
    predicts the clean patches."""

    unet: Any  # UNet2DConditionModel
    layout: Layout
    scheduler: Any  # DDPMScheduler or DDIMScheduler, with prediction_type "sample"

    @property
    def side(self) -> int:
        """Pixels of a picture's side."""
        return int(self.unet.config.sample_size) * PATCH

    @property
    def dim(self) -> int:
        """Numbers of a vector."""
        return int(self.unet.config.projection_class_embeddings_input_dim)

    def clean(self, noisy: Tensor, at: Tensor, vectors: Tensor) -> Tensor:
        """What the patches (n, 3 * PATCH^2, h, w) are without noise, at time steps (n,), for vectors (n, dim) of length
        1, or of zeros where nothing is asked for.
        """
        told = vectors * math.sqrt(self.dim)  # numbers of size 1
        side = noisy.shape[-1]
        line = torch.linspace(-1, 1, side, device=noisy.device).to(noisy)
        places = torch.stack([line.view(-1, 1).expand(side, side), line.view(1, -1).expand(side, side)])
        given = torch.cat([noisy, places.expand(len(noisy), -1, -1, -1), self.layout(told, side).to(noisy)], 1)
        return self.unet(given, at, told.view(len(told), TOKENS, -1), class_labels=told).sample

    @torch.no_grad()
    def draw(
        self,
        vectors: Tensor,
        noise: Tensor,
        *,
        steps: int = 20,
        guidance: float = 3.0,
        seen: Callable[[Tensor], None] | None = None,
        chance: torch.Generator | None = None,
    ) -> Tensor:
        """uint8 (n, side, side, 3) from unit vectors (n, dim) and noise (n, 3 * PATCH^2, h, w).

        Classifier-free guidance (Ho and Salimans 2022): `guidance` 1 is none. `seen` gets what the picture would be
        after each step, like the result. `chance`: of a scheduler that adds noise on the way, as DDPM's does.
        """
        self.scheduler.set_timesteps(steps)
        now = clean = noise * self.scheduler.init_noise_sigma
        # One more may come out of the library's rounding.
        for at in self.scheduler.timesteps[:steps]:
            times = at.expand(len(now))
            clean = self.clean(now, times, vectors)
            if guidance != 1.0:
                without = self.clean(now, times, torch.zeros_like(vectors))
                clean = without + guidance * (clean - without)
            clean = clean.clamp(-1, 1)
            if seen is not None:
                seen(pixels(clean))
            more = {"generator": chance} if chance is not None else {}
            now = self.scheduler.step(clean, at, now, **more).prev_sample
        return pixels(clean)

    def noise(self, count: int, seed: int) -> Tensor:
        """For `count` pictures; the first of them are the same for any count."""
        size = int(self.unet.config.sample_size)
        return torch.stack(
            [
                torch.randn(3 * PATCH**2, size, size, generator=torch.Generator().manual_seed(seed + at))
                for at in range(count)
            ]
        )


def patches(pictures: Tensor) -> Tensor:
    """uint8 (n, side, side, 3) to float32 (n, 3 * PATCH^2, side / PATCH, side / PATCH) from -1 to 1."""
    return pixel_unshuffle(pictures.permute(0, 3, 1, 2).float() / 127.5 - 1, PATCH)


def pixels(found: Tensor) -> Tensor:
    """What `patches` was given."""
    return in_bytes(pixel_shuffle(found.float(), PATCH))


def in_bytes(painted: Tensor) -> Tensor:
    """Float (n, 3, side, side) from -1 to 1 to uint8 (n, side, side, 3); what is beyond is cut."""
    return ((painted.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)


@dataclass
class Prior:
    """The vector of a text to that of a picture."""

    transformer: Any  # PriorTransformer, predicting the clean vector
    scheduler: Any  # UnCLIPScheduler or another with prediction_type "sample"

    @property
    def dim(self) -> int:
        return int(self.transformer.config.embedding_dim)

    def clean(self, noisy: Tensor, at: Tensor, texts: Tensor) -> Tensor:
        """The vector (n, dim) without noise, times sqrt(dim), for unit vectors of texts (n, dim)."""
        return self.transformer(noisy, at, proj_embedding=texts * math.sqrt(self.dim)).predicted_image_embedding

    @torch.no_grad()
    def imagine(self, texts: Tensor, noise: Tensor, *, steps: int = 10) -> Tensor:
        """Unit vectors (n, dim) of pictures for unit vectors of texts (n, dim)."""
        self.scheduler.set_timesteps(steps)
        now = clean = noise
        for at in self.scheduler.timesteps[:steps]:
            clean = self.clean(now, at.expand(len(now)), texts)
            now = self.scheduler.step(clean, at, now).prev_sample
        return normalize(clean)


@dataclass
class UnClip:
    """Prior and decoder of one folder; `clip` says whose vectors they work with: "bundled/clip", or a folder in it."""

    prior: Prior
    decoder: Decoder
    clip: str

    def save(self, folder: Path) -> None:
        """In diffusers' formats."""
        self.prior.transformer.save_pretrained(folder / "prior")
        self.prior.scheduler.save_pretrained(folder / "prior_scheduler")
        self.decoder.unet.save_pretrained(folder / "decoder")
        save_file(self.decoder.layout.state_dict(), folder / "decoder" / _LAYOUT)
        self.decoder.scheduler.save_pretrained(folder / "scheduler")
        index = {"_class_name": CLASS, "clip": self.clip}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


CLASS, INDEX = "MadangUnClip", "model_index.json"


def is_unclip(folder: str | Path) -> bool:
    """Whether a folder holds what `UnClip.save` writes."""
    try:
        found = json.loads((Path(folder) / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("_class_name") == CLASS


def load(folder: Path) -> UnClip:
    """What `UnClip.save` wrote. Raises `Corrupt` where it is damaged, `MissingDependency` without diffusers."""
    try:
        import diffusers
        from diffusers.models.attention_processor import AttnProcessor
    except ImportError:
        raise MissingDependency("Drawing", extra="diffusers",
                                instead='Or name a service in madang.toml: [models] draw = "SERVICE/MODEL"') from None

    try:
        about = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        prior = weights.whole(diffusers.PriorTransformer, folder / "prior", torch_dtype=torch.float32).eval()
        unet = weights.whole(diffusers.UNet2DConditionModel, folder / "decoder", torch_dtype=torch.float32).eval()
        unet.set_attn_processor(AttnProcessor())
        layout = _layout(folder / "decoder" / _LAYOUT, unet)
        schedulers = [_scheduler(folder / name) for name in ("prior_scheduler", "scheduler")]
        return UnClip(Prior(prior, schedulers[0]), Decoder(unet, layout, schedulers[1]), str(about["clip"]))
    except Exception as error:      # libraries under it raise errors of their own
        why = (str(error).splitlines() or [repr(error)])[0].rstrip(".")
        raise Corrupt(f"{folder} cannot be loaded: {why}.", remedy="See whether it is complete.") from error


def _layout(path: Path, unet: Any) -> Layout:
    found = {name: each.float() for name, each in load_file(path).items()}
    hidden, dim = found["layers.0.weight"].shape
    outputs = len(found["layers.4.bias"])
    channels = unet.config.in_channels - 3 * PATCH**2 - COORDINATES
    made = Layout(dim, channels, math.isqrt(outputs // channels), hidden)
    made.load_state_dict(found)
    return made.eval()


def _scheduler(folder: Path) -> Any:
    """Of the class that its file names, if it is one of the library's."""
    import diffusers

    name = json.loads((folder / "scheduler_config.json").read_text(encoding="utf-8"))["_class_name"]
    if not name.endswith("Scheduler"):
        raise ValueError(f"{name} is no scheduler")
    return getattr(diffusers, name).from_pretrained(folder)
