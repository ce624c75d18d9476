"""Pictures drawn by an unCLIP of our own format: "bundled/unclip", or a folder as "diffusers/./my-unclip"."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from madang.base.errors import Corrupt, InvalidInput, ServiceError
from madang.base.settings import Local
from madang.models.protocol import Drawing, DrawOptions, SeesAndReads
from madang.models.providers import unclip, weights, wish

STEPS, PRIOR_STEPS, TRIES, GUIDANCE = 20, 10, 4, 3.0


class UnclipImages:
    """An `ImageGenerator`. Threads may share it; one draws at a time. `seer`: gives the vectors of texts."""

    def __init__(self, name: str, folder: Path, seer: Callable[[str], SeesAndReads],
                 local: Local | None = None) -> None:
        self._name, self._folder, self._seer, self._local = name, folder, seer, local or Local()
        self._lock = threading.Lock()
        self._loaded: unclip.UnClip | None = None
        self._reads: SeesAndReads | None = None

    @property
    def name(self) -> str:
        return self._name

    @property
    def signature(self) -> str:
        """The name and twelve digits of the digest of the files."""
        return f"{self._name}@{weights.digest(self._folder)[:12]}"

    @property
    def side(self) -> int:
        """Pixels of a picture as it is drawn, before it is enlarged."""
        with self._lock:
            return self._model().decoder.side

    def draw(self, prompt: str, options: DrawOptions | None = None) -> list[Drawing]:
        """As many pictures as `options.count`. A `size` is reached by enlarging what is drawn. `quality` "low" and
        "high" set the number of steps to half and twice as many; `style` and `background` make no difference.

        Raises:
            InvalidInput: an empty prompt, or what cannot be. Corrupt: the files are no such model. ServiceError: it
            fails, or gives numbers that are no picture.
        """
        options = options or DrawOptions()
        wanted = wish.checked(prompt, options)
        with self._lock:
            model = self._model()
            assert self._reads is not None
            said = self._reads.embed([prompt.replace("\0", " ")], "query")
            pictures, frames = self._drawn(model, np.repeat(said, options.count, 0), options, imagine=True)
        return self._told(pictures, frames, wanted, options)

    def draw_vector(self, vector: NDArray[np.float32], options: DrawOptions | None = None, *, of_picture: bool = False
                    ) -> list[Drawing]:
        """The same from a unit vector (dim,): of a text, or of a picture, which then is drawn again in other pixels.

        Raises as `draw`; `InvalidInput` for a vector of another width.
        """
        options = options or DrawOptions()
        wanted = wish.checked("a vector", options)
        with self._lock:
            model = self._model()
            if vector.shape != (model.decoder.dim,):
                raise InvalidInput(f"vector: {model.decoder.dim} numbers are needed, not {vector.shape}.")
            said = np.repeat(np.asarray(vector, np.float32)[None], options.count, 0)
            pictures, frames = self._drawn(model, said, options, imagine=not of_picture)
        return self._told(pictures, frames, wanted, options)

    def imagine(self, texts: NDArray[np.float32], seed: int = 0) -> NDArray[np.float32]:
        """Unit vectors (n, dim) of pictures for those of texts, by the prior alone."""
        with self._lock:
            model = self._model()
            return np.asarray(_imagined(model, torch.from_numpy(texts), seed).numpy())

    def _drawn(self, model: unclip.UnClip, said: NDArray[np.float32], options: DrawOptions, *, imagine: bool
               ) -> tuple[NDArray[np.uint8], list[NDArray[np.uint8]]]:
        seed = secrets.randbelow(2**31) if options.seed is None else options.seed
        steps = options.steps or max(1, round(STEPS * wish.pace(options)))
        frames: list[NDArray[np.uint8]] = []
        try:
            vectors = torch.from_numpy(said)
            if imagine:
                vectors = _imagined(model, vectors, seed)
            found = model.decoder.draw(
                vectors, model.decoder.noise(len(said), seed), steps=steps,
                guidance=GUIDANCE if options.guidance is None else options.guidance,
                seen=(lambda each: frames.append(each.numpy())) if options.frames else None)
        except Exception as error:      # out of memory and whatever a model comes to
            raise ServiceError(f"{self._name} failed: {(str(error).splitlines() or [repr(error)])[0]}.",
                               kind="server") from error
        return found.numpy(), frames

    def _told(self, pictures: NDArray[np.uint8], frames: list[NDArray[np.uint8]], wanted: tuple[int, int] | None,
              options: DrawOptions) -> list[Drawing]:
        found = []
        for at, pixels in enumerate(pictures):
            picture: Any = Image.fromarray(pixels)
            if wanted is not None and wanted != picture.size:
                picture = _enlarged(picture, *wanted)
            strip = tuple(wish.encoded(Image.fromarray(frame[at])) for frame in frames)
            found.append(wish.drawing(picture, options, strip))
        return found

    def _model(self) -> unclip.UnClip:
        if self._loaded is None:
            loaded = unclip.load(self._folder)
            own = self._folder / loaded.clip
            reads = self._seer(str(own.absolute()) if own.is_dir() else loaded.clip)
            width = reads.embed(["a"], "query").shape[1]
            if width != loaded.decoder.dim:
                raise Corrupt(f"{self._name} draws by vectors of {loaded.decoder.dim} numbers, but its CLIP "
                              f"({loaded.clip}) gives {width}.", remedy="Train it again, or put its CLIP back.")
            self._loaded, self._reads = loaded, reads
        return self._loaded


def _imagined(model: unclip.UnClip, texts: torch.Tensor, seed: int) -> torch.Tensor:
    """Of `TRIES` vectors of pictures for each text the one that is nearest to it (Ramesh et al. 2022, section 2.2)."""
    noises = (_noise(len(texts), model.prior.dim, seed, number) for number in range(TRIES))
    tries = torch.stack([model.prior.imagine(texts, noise, steps=PRIOR_STEPS) for noise in noises])
    return tries[(tries * texts).sum(-1).argmax(0), torch.arange(len(texts))]


def _noise(count: int, dim: int, seed: int, number: int) -> torch.Tensor:
    """That of a picture is the same for any count of them."""
    # Torch's generator looks at 32 bits of a seed only.
    seeds = [int(np.random.SeedSequence([seed + at, number]).generate_state(1)[0]) for at in range(count)]
    return torch.stack([torch.randn(dim, generator=torch.Generator().manual_seed(each)) for each in seeds])


def _enlarged(picture: Any, width: int, height: int) -> Any:
    """So large that it covers width and height; what is over at the sides is cut off."""
    side = max(width, height)
    square = picture.resize((side, side), Image.Resampling.LANCZOS)
    left, top = (side - width) // 2, (side - height) // 2
    return square.crop((left, top, left + width, top + height))
