"""The log posterior of a disc as a function of variates, flux and light integrated out."""

from itertools import chain

import torch

from .cores import in_parallel
from .half_light import half_light
from .light import least_flux, marginal, over_scatters, with_patches
from .refinement import refine
from .surrogate import learn

__all__ = ["Target"]

_AT_ONCE = 16  # models rendered at a time
_TOGETHER = 8  # times as many
_ROWS = 2000  # of which half-light radii are found at a time
_KEPT_NUMBERS = 100_000_000  # of whitened models, at most, to learn from: 250 of the largest crops
_KEPT_MODELS = 1500  # at most, the last ones


class Target:
    """The log posterior of variates, flux and light integrated out; it keeps what theirs follow from, call by call.

    Attributes
    ----------
    calls : int
        Variates weighed.
    keep_models : bool
        Whether to keep whitened models.
    kept_models : list of Tensor (n, value)
        Those of the last variates, as many as there is room for.
    finer : float
        By how much the log posterior is higher with discs that are summed more finely.
    """

    def __init__(self, likelihood, space, patches, scatters, flux_prior):
        self.likelihood, self.space, self.patches = likelihood, space, patches
        self.scatters, self.flux_prior = scatters, flux_prior
        self.calls, self.keep_models, self.finer = 0, False, 0.0
        self.forget()

    def forget(self):
        """Start keeping anew."""
        self.x, self.parameters, self.logs, self.flux, self.kept_models = [], [], [], [], []

    @torch.no_grad()
    def __call__(self, x):
        """Log posterior (n,), unnormalised, of variates (n, free)."""
        self.calls += len(x)
        self.x.append(x.double())
        found = []
        parts = x.split(_AT_ONCE)
        # As many at a time as leave little beside what is kept of them.
        weighed = (in_parallel(self._weigh, parts[k : k + _TOGETHER]) for k in range(0, len(parts), _TOGETHER))
        for parameters, white, log, flux in chain.from_iterable(weighed):
            self.parameters.append(parameters)
            self.logs.append(log)
            self.flux.append(flux)
            if self.keep_models:
                self._keep(white)
            found.append(over_scatters(log))
        return torch.cat(found) + self.space.log_prior(x)

    def measure(self, finer, x):
        """Set `finer`, at variates (free,), by comparison with a decoder of that `Fineness`."""
        decoder = self.likelihood.decoder
        own, values = decoder.fineness, []
        for decoder.fineness in (finer, own):
            values.append(float(self(x[None])))
        self.finer = values[0] - values[1]

    def _keep(self, white):
        """Keep models, and as many of those before as there is room for."""
        self.kept_models.append(white)
        most = min(_KEPT_MODELS, _KEPT_NUMBERS // white.shape[1])
        while sum(map(len, self.kept_models)) > most and len(self.kept_models) > 1:
            del self.kept_models[0]

    @torch.no_grad()
    def _weigh(self, x):
        """Parameters, whitened models, log likelihoods (n, scatter), and what `values` takes of the flux."""
        parameters = self.space.parameters(x)
        white = self.likelihood.white(parameters)
        return parameters, white, *marginal(self.likelihood, self.patches, white, self.flux_prior, self.scatters)

    def surrogate(self, x, weight):
        """What the models that were kept say of others, or None where they are not enough to say it.

        ``x`` (n, free) and ``weight`` (n,) are all draws up to the last one that was weighed.
        """
        known = sum(map(len, self.kept_models))
        return learn(self, x[-known:], weight[-known:], self.kept_models) if known else None

    def modes(self, starts):
        """Modes of the posterior from starts (n, free), the light's scatter held where the last call has it highest."""
        scatter = float(self.scatters[self.logs[-1][-1].argmax()])
        return refine(self.likelihood, self.space, self.patches, scatter, starts, self.flux_prior)

    def recorded(self, order):
        """What `values` makes values of, of calls by their number (n,)."""
        return tuple(torch.cat(kept)[order] for kept in (self.parameters, self.logs, self.flux))

    def values(self, parameters, logs, flux, generator):
        """Parameters, flux, r50, light's scatter and the ``flux_of_disc``, drawn, a dict of (n,) arrays.

        Of parameters (n, n_parameters), log likelihoods (n, scatter), and of the flux (n, scatter, 3 + radius) the
        disc's own, its error, and what the patches of light take of it, in all and within radii. What is drawn is the
        galaxy's, with them.
        """
        n = len(parameters)
        chosen = torch.multinomial(_finite(logs), 1, generator=generator)[:, 0]
        flux = flux[torch.arange(n), chosen]
        mean, error, taken = flux[:, 0], flux[:, 1], flux[:, 2:]
        # A normal variate above the least flux, by its quantiles.
        least = torch.special.ndtr((least_flux(self.patches, self.scatters)[chosen] - mean) / error)
        above = least + (1 - least) * torch.rand(n, dtype=torch.float64, generator=generator)
        drawn = mean + error * torch.special.ndtri(above.clamp(1e-12, 1 - 1e-12))
        own = torch.full_like(drawn, self.space.fixed["flux"]) if "flux" in self.space.fixed else drawn
        added, root = (of[chosen] for of in with_patches(self.patches, self.scatters))
        noise = torch.randn(taken.shape, dtype=torch.float64, generator=generator)
        more = added - taken * own[:, None] + (root @ noise[..., None])[..., 0]
        values = dict(zip(self.space.names, parameters.T, strict=True))
        drawn = own if "flux" in self.space.fixed else own + more[:, 0]
        light = [values[name] for name in self.space.slots["surface_brightness"]]
        values["r50"] = self._half_light(light, own, more)
        values |= {"flux": drawn, "light_scatter": self.scatters[chosen], "flux_of_disc": own}
        return {name: value.numpy() for name, value in values.items()}

    def _half_light(self, light, own, more):
        """Half-light radii (n,) of profiles, with their parameters, and patches, some at a time."""
        form, radii = self.space.forms.surface_brightness, self.patches.radii
        parts = zip(*(of.split(_ROWS) for of in (own, more, *light)), strict=True)
        return torch.cat(in_parallel(lambda part: half_light(form, part[2:], radii, *part[:2]), list(parts)))

    def best(self, call):
        """Parameters of one call, with its likeliest flux of the disc and scatter of the light, and its variates."""
        parameters, logs, flux = self.recorded(call)
        scatter = int(logs.argmax())
        least = float(least_flux(self.patches, self.scatters)[scatter])
        values = dict(zip(self.space.names, parameters.tolist(), strict=True))
        return values | {"flux": max(float(flux[scatter, 0]), least)}, torch.cat(self.x)[call]


def _finite(logs):
    """Shares (n, m) of rows of logarithms, even where a row has none."""
    known = torch.isfinite(logs).any(1, keepdim=True)
    return torch.softmax(torch.where(known, logs, torch.zeros_like(logs)), 1)
