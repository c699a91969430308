"""The telescope's beam: an elliptical Gaussian applied to a rendered sky, padded and free of wrap-around."""

import math

import numpy as np
import torch
from scipy.fft import next_fast_len

from .weights import significant

__all__ = ["BeamOperator", "beam_covariance"]

_FWHM = 2 * math.sqrt(2 * math.log(2))


def beam_covariance(beam, pixel_matrix):
    """Covariance of a Gaussian beam in pixels.

    Parameters
    ----------
    beam : Tensor (..., 3)
        FWHM of the major and the minor axis [arcsec] and position angle [deg, east of north].
    pixel_matrix : Tensor (2, 2)
        Offsets (east, north) [arcsec] of one pixel along x (first column) and along y (second column).

    Returns
    -------
    Tensor (..., 2, 2)
        Covariance over (x, y) [pixel^2].
    """
    pa = torch.deg2rad(beam[..., 2])
    major = torch.stack([torch.sin(pa), torch.cos(pa)], -1)
    minor = torch.stack([torch.cos(pa), -torch.sin(pa)], -1)
    sky = sum(
        (beam[..., k] / _FWHM)[..., None, None] ** 2 * axis[..., :, None] * axis[..., None, :]
        for k, axis in enumerate((major, minor))
    )
    inverse = torch.linalg.inv(pixel_matrix)
    return inverse @ sky @ inverse.T


class BeamOperator:
    """Convolve a rendered sky with the beam and cut off its padding.

    A Gaussian is a product of two, one an axis, as soon as its axes lie along the pixels; and any other one is so on a
    grid that is sheared to it. So a beam is two band matrices, or three where it lies at an angle: along x to the
    sheared grid, along y, and along x back, each of the two along x with half of what is left of the beam's variance
    there. Fourier space, four times as slow at 64 pixels, is for turned beams too narrow to be halved, and for fields
    of more than 200 pixels a side, where a matrix for each row of pixels takes more memory than the cube.

    Parameters
    ----------
    covariance : Tensor (2, 2) or (batch, 2, 2)
        Of the beam over (x, y) [pixel^2]; a batch of beams must lie along the pixel axes.
    shape : (int, int)
        Pixels (y, x) of the field.
    pad : int
        Pixels by which the rendered sky is larger on every side.
    integrate_pixels : bool
        Whether a pixel of the result is an average over the pixel (an optical detector, a CLEANed image, KinMS) or the
        value at its centre. The rendered sky is averaged over pixels in either case; the sampled value is had by taking
        a pixel's own variance, 1/12 pixel^2, from the beam's.
    pixels : (Tensor, Tensor), optional
        Rows and columns of the field that are wanted; by default all.
    """

    def __init__(self, covariance, shape, pad, integrate_pixels=False, pixels=None):
        if not integrate_pixels:
            covariance = covariance - torch.eye(2, dtype=covariance.dtype, device=covariance.device) / 12
        variances = torch.diagonal(covariance, dim1=-2, dim2=-1).clamp(min=0.01)
        off_axis = covariance[..., 0, 1].abs().amax()
        self.shape, self.pad = shape, pad
        self._reach = [math.ceil(_REACH * math.sqrt(float(variances[..., axis].amax()))) for axis in (1, 0)]
        padded = [torch.arange(-pad, n + pad, dtype=variances.dtype, device=variances.device) for n in shape]
        self._y, self._x = (
            [at[pad : len(at) - pad] for at in padded] if pixels is None else [at.to(variances) for at in pixels]
        )
        self.field = len(self._y), len(self._x)
        self._wanted = self._y.cpu().numpy(), self._x.cpu().numpy()
        self._cast = {}
        self._to_shear = self._to_rows = self._from_shear = self._transfer = None
        if off_axis < 1e-4 * variances.amin():
            self._to_rows = _band_matrix(variances[..., 1], self._y[:, None] - padded[0])
            self._from_shear = _band_matrix(variances[..., 0], self._x[:, None] - padded[1])
            return
        if covariance.ndim == 3:
            raise ValueError("a batch of beams must lie along the pixel axes")
        shear = covariance[0, 1] / variances[1]
        ends = [float(x - shear * y) for x in padded[1][[0, -1]] for y in padded[0][[0, -1]]]
        sheared = torch.arange(math.floor(min(ends)), math.ceil(max(ends)) + 1).to(variances)
        half = 0.5 * torch.linalg.det(covariance) / variances[1]
        if half > _NARROWEST and len(sheared) * len(padded[0]) * len(padded[1]) < _MOST_WEIGHTS:
            self._to_rows = _band_matrix(variances[1], self._y[:, None] - padded[0])
            self._to_shear = _band_matrix(half, sheared[:, None] + (shear * padded[0])[:, None, None] - padded[1])
            self._from_shear = _band_matrix(half, self._x[:, None] - (shear * self._y)[:, None, None] - sheared)
        else:
            # What wraps around ends beyond the field.
            self._fft_shape = tuple(next_fast_len(n + 3 * pad, real=True) for n in shape)
            self._transfer = _transfer(covariance, self._fft_shape)

    def __call__(self, sky, corner=(0, 0), out=None):
        """Convolve.

        Parameters
        ----------
        sky : Tensor (batch, channel, y, x)
            The padded field, or the part of it where there is light.
        corner : (int, int)
            Where in the padded field that part begins.
        out : Tensor (batch, channel, y, x), optional
            What to write into; no gradients are kept then.

        Returns
        -------
        Tensor (batch, channel, y, x)
        """
        if self._transfer is not None:
            some = max(1, _MOST_WEIGHTS // (len(sky) * math.prod(self._fft_shape)))
            return torch.cat([self._by_fourier(channels, corner) for channels in sky.split(some, 1)], 1, out=out)
        (y0, x0), (ny, nx) = corner, sky.shape[2:]
        (top, bottom), (left, right) = self._reached(corner, (ny, nx))
        to_rows, to_shear, from_shear = self._matrices(sky.dtype)
        rows = to_rows[..., top:bottom, y0 : y0 + ny]
        around = (left, len(self._x) - right, top, len(self._y) - bottom)
        within = None if any(around) else out
        if to_shear is None:
            cube = _down(rows, _across(from_shear[..., left:right, x0 : x0 + nx], sky), within)
        else:
            # Rows of pixels first: each has a matrix of its own.
            sheared = sky.transpose(1, 2) @ to_shear[y0 : y0 + ny, :, x0 : x0 + nx].mT
            sheared = (rows @ sheared.flatten(2)).unflatten(2, sheared.shape[2:])
            cube = (sheared @ from_shear[top:bottom, left:right].mT).transpose(1, 2)
        if any(around):
            cube = torch.nn.functional.pad(cube, around)
        return cube if out is None or cube is out else out.copy_(cube)

    def _reached(self, corner, shape):
        """First and one past the last of the rows, and of the columns, of the field that light there reaches."""
        return [
            _span((at > low - self.pad - reach) & (at < low - self.pad + n + reach))
            for at, low, n, reach in zip(self._wanted, corner, shape, self._reach, strict=True)
        ]

    def _matrices(self, dtype):
        if dtype not in self._cast:
            matrices = self._to_rows, self._to_shear, self._from_shear
            self._cast[dtype] = [m if m is None else significant(m.to(dtype)) for m in matrices]
        return self._cast[dtype]

    def _by_fourier(self, sky, corner):
        (y0, x0), (ny, nx) = corner, sky.shape[2:]
        height, width = (n + 2 * self.pad for n in self.shape)
        cube = torch.nn.functional.pad(sky, (x0, width - x0 - nx, y0, height - y0 - ny))
        spectrum = torch.fft.rfft2(cube, s=self._fft_shape) * self._transfer.to(cube.dtype)
        cube = torch.fft.irfft2(spectrum, s=self._fft_shape)
        return cube[..., self._y.long()[:, None] + self.pad, self._x.long() + self.pad]


_REACH = 5.0  # sigma, beyond which 6e-7 of a beam's light lies
_NARROWEST = 0.5  # pixel^2: sampled at whole pixels, a Gaussian of this variance sums to one within 1e-4
_MOST_WEIGHTS = 10_000_000  # of shears, and values that are in Fourier space at a time


_BLOCK = 64  # pixels of the result at a time: as fast as all at once in a small field, and far from all in a large one


def _across(matrix, sky):
    """Rows of pixels times a band matrix (..., n, x): (batch, channel, y, n)."""
    rows = sky.flatten(1, 2)
    parts = [rows[..., used] @ block.mT for block, used in _blocks(matrix)]
    return (parts[0] if len(parts) == 1 else torch.cat(parts, -1)).unflatten(1, sky.shape[1:3])


def _down(matrix, sky, out=None):
    """A band matrix (..., n, y) times columns of pixels: (batch, channel, n, x)."""
    if matrix.ndim == 3:
        return torch.stack([_down(one, galaxy) for one, galaxy in zip(matrix, sky, strict=True)])
    blocks = _blocks(matrix)
    if len(blocks) == 1:
        return torch.matmul(matrix, sky, out=out)
    return torch.cat([torch.matmul(block, sky[..., used, :]) for block, used in blocks], -2, out=out)


def _blocks(matrix):
    """Blocks (..., n, m) of rows of a band matrix, and the columns that each has anything in."""
    if matrix.shape[-2] <= _BLOCK:
        return [(matrix, slice(0, matrix.shape[-1]))]
    found = []
    for block in matrix.split(_BLOCK, -2):
        used = slice(*_span((block > _FAINTEST * block.amax()).flatten(0, -2).any(0).cpu().numpy()))
        found.append((block[..., used], used))
    return found


_FAINTEST = 1e-9  # of a Gaussian's peak, at 6.4 sigma


def _span(line):
    """First and one past the last of what is true; empty where nothing is."""
    (index,) = np.nonzero(line)
    return (int(index[0]), int(index[-1]) + 1) if len(index) else (0, 0)


def _band_matrix(variance, distance):
    """Gaussian weights (..., n, m) at distances (..., n, m) [pixel], which sum to one over all whole pixels."""
    # The sum over pixels of a Gaussian that is not sampled finely is not its integral: by the distances' fraction.
    far = math.ceil(8 * math.sqrt(float(variance.amax()))) + 1
    reach = torch.arange(-far, far + 1, dtype=distance.dtype, device=distance.device)
    variance = variance[..., None, None]
    fraction = distance[..., :1] - distance[..., :1].round()
    norm = torch.exp(-0.5 * (fraction + reach) ** 2 / variance).sum(-1, keepdim=True)
    return torch.exp(-0.5 * distance**2 / variance) / norm


def _transfer(covariance, shape):
    """Fourier transform of the Gaussian on the grid of ``rfft2`` (y, x / 2 + 1)."""
    ky = torch.fft.fftfreq(shape[0], dtype=covariance.dtype, device=covariance.device)[:, None]
    kx = torch.fft.rfftfreq(shape[1], dtype=covariance.dtype, device=covariance.device)
    exponent = covariance[0, 0] * kx**2 + 2 * covariance[0, 1] * kx * ky + covariance[1, 1] * ky**2
    return torch.exp(-2 * math.pi**2 * exponent)
