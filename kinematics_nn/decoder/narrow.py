"""Lines far narrower than a channel: all of the light in that of the point, but for what reaches over its edges."""

import math

import torch

__all__ = ["narrow_spectra", "narrow_spectra_slopes"]


def narrow_spectra(speed, sigma, weight, edges):
    """`~kinematics_nn.decoder.profile.channel_spectra` of lines that are a fifth of the narrowest channel at most.

    What reaches beyond the channels next to a point's own, 3e-7 of its light, counts as in them.

    Parameters
    ----------
    speed, weight : Tensor (k, row)
        Of each point, on the cube's own axis [km/s], and its light; the ``k`` points of a row are summed.
    sigma : Tensor, of one number
        Gaussian width [km/s], positive.
    edges : Tensor (channel + 1,)
        Ascending [km/s].

    Returns
    -------
    Tensor (channel, row)
        Light per km/s.
    """
    index, below, above = _around(speed, edges)
    low, high = (weight * (0.5 - 0.5 * torch.erf(away / (math.sqrt(2) * sigma))) for away in (below, above))
    rows = speed.shape[1]
    spectra = speed.new_zeros((len(edges) + 3) * rows)
    for k, tap in enumerate((low, weight - low - high, high)):
        spectra[k * rows :].scatter_add_(0, index, tap.flatten())
    return _of_channels(spectra.view(len(edges) + 3, rows), edges)


def narrow_spectra_slopes(speed, sigma, weight, slopes, edges):
    """`narrow_spectra`, and its derivatives by parameters.

    Parameters
    ----------
    speed, sigma, weight, edges : Tensor
        As there.
    slopes : (Tensor, Tensor, Tensor)
        As `~kinematics_nn.decoder.profile.channel_spectra_slopes` takes them; what it returns is returned.
    """
    index, below, above = _around(speed, edges)
    away = torch.stack([below, above]) / sigma
    shares = 0.5 - 0.5 * torch.erf(away / math.sqrt(2))
    # Numbers that are too small to be normal are slow.
    heights = torch.exp((-0.5 * away**2).clamp(min=-80)) / (math.sqrt(2 * math.pi) * sigma)
    rows, n = speed.shape[1], 1 + len(slopes[0])
    spectra = speed.new_zeros(n, (len(edges) + 3) * rows)
    none = torch.zeros_like(weight)
    for field, light, by_speed, by_sigma in zip(
        spectra, *((first, *rest) for first, rest in zip((weight, none, none), slopes, strict=True)), strict=True
    ):
        low = torch.addcmul(shares[0] * light, heights[0], away[0] * by_sigma - by_speed)
        high = torch.addcmul(shares[1] * light, heights[1], away[1] * by_sigma + by_speed)
        for k, tap in enumerate((low, light - low - high, high)):
            field[k * rows :].scatter_add_(0, index, tap.flatten())
    return _of_channels(spectra.view(n, len(edges) + 3, rows), edges)


def _around(speed, edges):
    """Index (k * row,) of the channel before that of a point and its row, and how far its edges are (k, row) [km/s].

    Two channels more on each side, the inner one as wide as two; points farther out are as good as at its end.
    """
    first, last = 3 * edges[:1] - 2 * edges[1:2], 3 * edges[-1:] - 2 * edges[-2:-1]
    wide = torch.cat([first, edges, last])
    inside = speed.clamp(float(first), float(last))
    # A search of every point costs more than all else: in steps that hold one edge at most, a table says the channel.
    step = 0.999 * float(torch.diff(edges).min())
    steps = torch.arange(1 + int((last - first) / step), device=edges.device)
    table = torch.searchsorted(edges, first + step * steps, right=True)
    channel = table[((inside.detach() - first) / step).long().clamp(max=len(table) - 1)]
    channel = channel + ((inside >= wide[channel + 1]) & (channel < len(edges)))
    rows = torch.arange(speed.shape[1], device=speed.device)
    index = torch.add(rows, channel, alpha=speed.shape[1]).flatten()
    return index, inside - wide[channel], wide[channel + 1] - inside


def _of_channels(spectra, edges):
    return spectra[..., 2:-2, :] / torch.diff(edges)[:, None]
