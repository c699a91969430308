"""What a telescope and its pipeline do to a galaxy: noise, blanks, masks, the ends of the band, a continuum's rest."""

import math

import numpy as np
import torch

from ..decoder import BeamOperator, regular_grid
from ..network.frame import Cubes

__all__ = ["BLANKS", "CLIP", "EDGE", "MASK", "Telescope"]

BLANKS = (1, 5)  # channels, from and to below
CLIP = (1.5, 4.0)  # noise of the smoothed cube
EDGE = (0.7, 2.0)  # FWHM of the primary beam, over the field
MASK = (0.15, 0.4)  # of the field
_FWHM = 2.3548
_BLANK = 0.5  # of the cubes with all but the emission cut away, in which the rest is blank and not zero


class Telescope:
    """Turns cubes without noise into `Cubes` as the network frame takes them.

    Parameters
    ----------
    ranges : Ranges
    rng : numpy.random.Generator
    generator : torch.Generator
    pad : int
        Pixels around the field that the beam reaches.
    """

    def __init__(self, ranges, rng, generator, pad=8):
        self.ranges, self.rng, self.generator, self.pad = ranges, rng, generator, pad

    @property
    def device(self):
        """Where the cubes are."""
        return self.generator.device

    def operator(self, beam, ratio, shape, kind="beam"):
        """Beams with the major axis along y; the kinds of noise are smoothed by others of the same shape."""
        covariance = torch.diag_embed(self.tensor(np.stack([(beam * ratio) ** 2, beam**2], 1) / _FWHM**2))
        factor = {"beam": 1.0, "wide": 2.0, "lobes": 6.0}[kind]
        return BeamOperator(covariance * factor, shape, self.pad)

    def __call__(self, clean, snr, beam, ratio, other=None):
        """Observe.

        Parameters
        ----------
        clean : Tensor (batch, channel, y, x)
        snr : array (batch,)
            Peak over noise.
        beam, ratio : array (batch,)
            FWHM of the major axis [pixel], and axis ratio.
        other : Tensor like clean, optional
            A neighbour.

        Returns
        -------
        cubes : Cubes
        rms : Tensor (batch,)
            The noise, in the unit of ``clean``.
        """
        r, rng, nc = self.ranges, self.rng, clean.shape[1]
        rms = clean.amax((1, 2, 3)) / self.tensor(snr)
        clean = clean / rms[:, None, None, None]
        noise = self.noise(clean.shape, beam, ratio)
        weight, seen = torch.ones_like(clean[:, 0]), torch.ones_like(clean[:, :, 0, 0])
        if rng.random() < r.edge_share:
            weight = self._primary_beam(clean.shape)
            noise = noise / weight[:, None]
            weight = weight.clamp(max=2)
        data = clean + noise
        if rng.random() < r.continuum_share:
            residue = self.tensor(rng.normal(0, r.continuum, len(clean)))[:, None, None]
            image = clean.sum(1)
            data = data + (residue * image / image.amax((1, 2), keepdim=True))[:, None]
        if other is not None:
            other = other / rms[:, None, None, None]
            data = data + other
            if rng.random() < 0.7:  # seen as another source; else it is taken for a part of this one
                data = torch.where((other > 2) & (other > clean), 0.0, data)
        data, weight = self._crop(data, weight, clean, beam, ratio)
        if rng.random() < r.mask_share:
            inside = self._mask(data, beam)
            data, weight = data * inside[:, None], weight * inside
        if rng.random() < r.clip_share:
            data = self._clip(data, beam, ratio)
            if rng.random() < _BLANK:
                lit = data != 0
                weight, seen = weight * lit.any(1), seen * lit.flatten(2).any(2)
        if rng.random() < r.blank_share:
            blank = rng.choice(nc, int(rng.integers(*BLANKS)), replace=False)
            data[:, blank], seen[:, blank] = 0, 0
        cut = int(rng.integers(*r.cut)) if rng.random() < r.cut_share else 0
        first, last = (cut, 0) if rng.random() < 0.5 else (0, cut)
        grid = regular_grid(clean.shape[1:], device=self.device)
        edges = grid.edges
        inside = slice(first, nc - last)
        data, seen, edges = data[:, inside], seen[:, inside], edges[first : nc + 1 - last]
        if rng.random() < r.fine_share:
            parts = int(rng.integers(*r.fine))
            steps = torch.arange(parts, device=self.device) / parts
            edges = torch.cat([(edges[:-1, None] + steps * edges.diff()[:, None]).flatten(), edges[-1:]])
            data, seen = data.repeat_interleave(parts, 1), seen.repeat_interleave(parts, 1)
        batch, width = len(clean), self.tensor(beam)
        cubes = Cubes(
            data=data, weight=weight, seen=seen,
            matrix=grid.pixel_matrix.expand(batch, 2, 2),
            origin=torch.stack([grid.xi[0, 0], grid.eta[0, 0]]).expand(batch, 2),
            edges=edges.expand(batch, -1),
            beam=torch.stack([width, width * self.tensor(ratio), torch.zeros_like(width)], 1),
        )  # fmt: skip
        return cubes, rms

    def noise(self, shape, beam, ratio):
        """Unit noise (batch, channel, y, x): white or correlated in one of several ways, Hanning or not."""
        batch, nc, ny, nx = shape
        white = torch.randn(
            batch, nc, ny + 2 * self.pad, nx + 2 * self.pad, device=self.device, generator=self.generator
        ).bfloat16()  # noise needs no more digits, and its products take half the time
        kinds = self.ranges.noises
        kind = self.rng.choice(list(kinds), p=np.array(list(kinds.values())) / sum(kinds.values()))
        if kind == "white":
            noise = white[..., self.pad : -self.pad, self.pad : -self.pad]
        elif kind == "lobes":
            by = [self.operator(beam, ratio, (ny, nx), name)(white) for name in ("beam", "lobes")]
            noise = by[0] - 0.5 * by[1]
        else:
            noise = self.operator(beam, ratio, (ny, nx), kind)(white)
        noise = noise.float()
        if self.rng.random() < self.ranges.hanning_share:
            padded = torch.cat([noise[:, :1], noise, noise[:, -1:]], 1)
            noise = 0.25 * padded[:, :-2] + 0.5 * padded[:, 1:-1] + 0.25 * padded[:, 2:]
        inner = noise[:, 2:-2:3, 2:-2, 2:-2]  # a third of the channels, for speed
        return noise / inner.std((1, 2, 3), keepdim=True)

    def _primary_beam(self, shape):
        """Gaussian responses (batch, y, x), of which the galaxy has one: the noise is what they leave, inverted."""
        batch, _, ny, nx = shape
        y, x = (self.tensor(np.arange(n) - (n - 1) / 2) for n in (ny, nx))
        fwhm = self.tensor(self.rng.uniform(*EDGE, batch) * ny)[:, None, None]
        east, north = (self.tensor(self.rng.normal(0, 0.08 * ny, batch))[:, None, None] for _ in range(2))
        radius2 = (y[:, None] - north) ** 2 + (x - east) ** 2
        beam = torch.exp(-4 * math.log(2) * radius2 / fwhm**2).clamp(min=0.1)
        return beam / beam[:, ny // 2, nx // 2, None, None]

    def _crop(self, data, weight, clean, beam, ratio):
        """As intake crops: some whole, some cut to a box of the emission with two beams around it."""
        batch, nc = data.shape[:2]
        seen = clean > 3
        bounds = []
        cropped = torch.as_tensor(self.rng.random(batch) < self.ranges.crop_share, device=self.device)
        margins = (np.full(batch, nc // 8), np.ceil(2 * beam), np.ceil(2 * beam * ratio))
        for axis, margin in zip((1, 2, 3), margins, strict=True):
            others = tuple(a for a in (1, 2, 3) if a != axis)
            line = seen.any(others[1]).any(others[0])  # (batch, n)
            index = torch.arange(line.shape[1], device=self.device)
            margin = self.tensor(margin)
            low = torch.where(line, index, line.shape[1]).amin(1) - margin
            high = torch.where(line, index, -1).amax(1) + margin
            inside = (index >= low[:, None]) & (index <= high[:, None])
            bounds.append(inside | ~cropped[:, None] | ~line.any(1, keepdim=True))
        in_v, in_y, in_x = bounds
        inside = (in_y[:, :, None] & in_x[:, None]).to(data.dtype)
        return data * inside[:, None] * in_v[:, :, None, None], weight * inside

    def _mask(self, data, beam):
        """Where a user's mask lets through (batch, y, x): an ellipse, or all but a wedge, a strip or a circle."""
        rng, (batch, _, ny, nx) = self.rng, data.shape
        y, x = (self.tensor(np.arange(n) - (n - 1) / 2) for n in (ny, nx))
        angle = self.tensor(rng.uniform(0, 2 * math.pi, batch))[:, None, None]
        along = y[:, None] * torch.cos(angle) + x * torch.sin(angle)
        across = x * torch.cos(angle) - y[:, None] * torch.sin(angle)
        size = self.tensor(rng.uniform(*MASK, batch) * ny)[:, None, None]
        kind = rng.choice(["ellipse", "wedge", "strip", "circle"])
        if kind == "ellipse":
            flat = self.tensor(rng.uniform(0.5, 1, batch))[:, None, None]
            inside = torch.hypot(along, across / flat) < size
        elif kind == "wedge":
            inside = torch.atan2(across, along).abs() > 2 * size / ny
        elif kind == "strip":
            inside = along < size
        else:
            inside = torch.hypot(along - size, across) > self.tensor(beam)[:, None, None]
        return inside.to(data.dtype)

    def _clip(self, data, beam, ratio):
        """Zero where a smoothed cube is faint: cubes that come with the emission cut out."""
        padded = torch.nn.functional.pad(data, [self.pad] * 4)
        smooth = self.operator(beam, ratio, data.shape[2:])(padded)
        negative = smooth.clamp(max=0)
        noise = torch.sqrt((negative**2).sum((1, 2, 3)) / (negative < 0).sum((1, 2, 3)).clamp(min=1))
        level = noise * self.tensor(self.rng.uniform(*CLIP, len(data)))
        bright = (smooth > level[:, None, None, None]).to(data.dtype)
        for axis in (1, 2, 3):
            bright = torch.maximum(bright, torch.maximum(bright.roll(1, axis), bright.roll(-1, axis)))
        return torch.where(bright.flatten(1).any(1)[:, None, None, None], data * bright, data)

    def tensor(self, array):
        """An array as a tensor of the simulations."""
        return torch.as_tensor(np.asarray(array), dtype=torch.float32, device=self.device)
