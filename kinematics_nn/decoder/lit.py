"""The part of the sky where a galaxy has light: rows of spectra put on its pixels, and averaged over them."""

import torch

__all__ = ["LitBox"]


class LitBox:
    r"""The least box of a field that holds the lit pixels of a galaxy.

    Where a pixel was taken at its centre alone, its average follows from its neighbours: to the fourth order in the
    pixel's side it is :math:`f + \nabla^2 f / 24`, in pixels. So it is done in discs of which all but the centre is so;
    where that is its outskirts alone, nothing changes enough there to be worth it.

    Parameters
    ----------
    field : Field
    pixel : Tensor (row,)
        The lit pixels.
    rows : list of (int, int)
        How many rows there are, one after the other, and the sub-pixels of each.

    Attributes
    ----------
    shape : (int, int)
        (y, x).
    corner : (int, int)
        Where in the padded field the box begins (y, x).
    """

    def __init__(self, field, pixel, rows):
        y, x = (of.index_select(0, pixel) for of in field.rows_and_columns)
        (y0, y1), (x0, x1) = (_limits(at) for at in (y, x))
        self.corner, self.shape = (y0, x0), (y1 - y0, x1 - x0)
        self._at = (y - y0) * (x1 - x0) + (x - x0)
        # The row of each pixel of the box, and one past the last of those that are dark.
        self._source = torch.full(((y1 - y0) * (x1 - x0),), len(pixel), device=pixel.device)
        self._source[self._at] = torch.arange(len(pixel), device=pixel.device)
        self._share = None
        numbers = {sub_pixels for _, sub_pixels in rows}
        if 1 in numbers and len(numbers) <= 2:
            of_rows = torch.cat([field.xi.new_full((n,), (sub_pixels == 1) / 24) for n, sub_pixels in rows])
            self._share = field.xi.new_zeros(len(self._source)).index_copy_(0, self._at, of_rows).view(self.shape)

    def light(self, rows):
        """Light (...) of rows (..., row) all together, as it is in the averages."""
        if self._share is None:
            return rows.sum(-1)
        counted = self._share.new_ones(self.shape) + _laplacian(self._share)
        return rows @ counted.flatten().index_select(0, self._at)

    def sky(self, spectra, out=None):
        """The sky (1, channel, y, x) of spectra (channel, row + 1), the last of them dark.

        ``out`` (channel, y, x), if given, is what to write into; no gradients are kept then.
        """
        if out is None:
            sky = spectra.index_select(1, self._source).view(-1, *self.shape)
            if self._share is not None:
                sky = torch.addcmul(sky, _laplacian(sky), self._share)
            return sky[None]
        torch.index_select(spectra, 1, self._source, out=out.view(len(out), -1))
        if self._share is not None:
            out.addcmul_(_laplacian(out), self._share)
        return out[None]


def _laplacian(sky):
    """Of (..., y, x), in pixels, dark around."""
    around = torch.nn.functional.pad(sky, (1, 1, 1, 1))
    middle = around[..., 1:-1, :]
    found = middle[..., :-2] + middle[..., 2:]
    return found.add_(around[..., :-2, 1:-1]).add_(around[..., 2:, 1:-1]).add_(sky, alpha=-4)


def _limits(at):
    if not len(at):
        return 0, 1
    least, most = torch.aminmax(at)
    return int(least), int(most) + 1
