"""The telescope's beam: an elliptical Gaussian applied to a rendered sky, padded and free of wrap-around."""

import math

import torch
from scipy.fft import next_fast_len

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

    A beam whose axes lie along the pixels (a round one always does) is two band matrices, one an axis: at 64 pixels
    half the cost of a Fourier transform. Any other is applied in Fourier space on a grid padded so that nothing wraps.

    Parameters
    ----------
    covariance : Tensor (2, 2) or (batch, 2, 2)
        Of the beam over (x, y) [pixel^2]; a batch of beams must lie along the pixel axes.
    shape : (int, int)
        Pixels (y, x) of the field.
    pad : int
        Pixels by which the rendered sky is larger on every side.
    integrate_pixels : bool
        Whether a pixel of the result is an average over the pixel (an optical detector, KinMS) or the value at its
        centre (an interferometer). The rendered sky is averaged over pixels in either case; the sampled value is had by
        taking a pixel's own variance, 1/12 pixel^2, from the beam's.
    """

    def __init__(self, covariance, shape, pad, integrate_pixels=False):
        if not integrate_pixels:
            covariance = covariance - torch.eye(2, dtype=covariance.dtype, device=covariance.device) / 12
        variances = torch.diagonal(covariance, dim1=-2, dim2=-1).clamp(min=0.01)
        off_axis = covariance[..., 0, 1].abs().amax()
        self.shape, self.pad = shape, pad
        self._matrices = self._transfer = None
        if off_axis < 1e-4 * variances.amin():
            self._matrices = tuple(_band_matrix(variances[..., 1 - axis], shape[axis], pad) for axis in (0, 1))
        elif covariance.ndim == 2:
            # What wraps around ends beyond the field.
            self._fft_shape = tuple(next_fast_len(n + 3 * pad, real=True) for n in shape)
            self._transfer = _transfer(covariance, self._fft_shape)
        else:
            raise ValueError("a batch of beams must lie along the pixel axes")

    def __call__(self, sky):
        """(batch, y + 2 pad, x + 2 pad, channel) -> (batch, channel, y, x)."""
        if self._matrices is not None:
            along_y, along_x = (m.to(sky.dtype) for m in self._matrices)
            if along_x.ndim == 3:
                along_x = along_x[:, None]
            # y first: one large product a cube, which also shortens the many small ones along x.
            rows = (along_y @ sky.flatten(2)).unflatten(2, sky.shape[2:])
            return (along_x @ rows).permute(0, 3, 1, 2)
        cube = sky.permute(0, 3, 1, 2)
        spectrum = torch.fft.rfft2(cube, s=self._fft_shape) * self._transfer.to(cube.dtype)
        cube = torch.fft.irfft2(spectrum, s=self._fft_shape)
        return cube[..., self.pad : self.pad + self.shape[0], self.pad : self.pad + self.shape[1]]


def _band_matrix(variance, n, pad):
    """(…, n, n + 2 pad) Gaussian weights that carry the padded pixels to the field's, normalised to conserve flux."""
    field = torch.arange(n, dtype=variance.dtype, device=variance.device)
    padded = torch.arange(-pad, n + pad, dtype=variance.dtype, device=variance.device)
    distance = (field[:, None] - padded) ** 2
    reach = torch.arange(-4 * pad - 8, 4 * pad + 9, dtype=variance.dtype, device=variance.device) ** 2
    norm = torch.exp(-0.5 * reach / variance[..., None]).sum(-1)
    return torch.exp(-0.5 * distance / variance[..., None, None]) / norm[..., None, None]


def _transfer(covariance, shape):
    """Fourier transform of the Gaussian on the grid of ``rfft2`` (y, x / 2 + 1)."""
    ky = torch.fft.fftfreq(shape[0], dtype=covariance.dtype, device=covariance.device)[:, None]
    kx = torch.fft.rfftfreq(shape[1], dtype=covariance.dtype, device=covariance.device)
    exponent = covariance[0, 0] * kx**2 + 2 * covariance[0, 1] * kx * ky + covariance[1, 1] * ky**2
    return torch.exp(-2 * math.pi**2 * exponent)
