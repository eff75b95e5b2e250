"""What a night does to a frame, and the named presets that say within which bounds it does so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.errors import UsageError

Kind = Literal["supernova", "asteroid", "trail", "cloud", "dead_column", "hot_cluster"]
KINDS: tuple[Kind, ...] = ("supernova", "trail", "cloud", "dead_column", "asteroid", "hot_cluster")

Range = tuple[float, float]


@dataclass(frozen=True)
class Conditions:
    """Sky, optics and detector during one exposure. The defaults are a quiet night and a clean detector.

    Attributes:
        fwhm_px: seeing, full width at half maximum at the frame's centre, px.
        sky_e: sky at the frame's centre, electrons per px.
        sky_gradient: change of the sky from the left edge to the right one, as a share of the sky.
        transparency: share of the light of stars that arrives.
        dither_x: shift of the field along +x, px.
        dither_y: shift of the field along +y, px.
        rotation_deg: rotation of the camera, degrees.
        read_noise_e: standard deviation of the read-out, electrons.
        gain: electrons per ADU.
        bias_adu: pedestal, ADU.
        saturation_adu: ceiling, ADU.
        photon_noise: whether electrons are counted with Poisson noise.
        cosmic_rays: expected number of cosmic-ray hits.
        variable_share: share of the stars that vary.
        variable_mag: amplitude of those that vary, magnitudes.
        psf_growth: how much wider the PSF is in a corner than in the centre, as a share of `fwhm_px`.
        psf_stretch: how much longer than wide the PSF is in a corner, pointing outwards, as a share.
    """

    fwhm_px: float = 3.0
    sky_e: float = 400.0
    sky_gradient: float = 0.0
    transparency: float = 1.0
    dither_x: float = 0.0
    dither_y: float = 0.0
    rotation_deg: float = 0.0
    read_noise_e: float = 6.0
    gain: float = 1.5
    bias_adu: float = 300.0
    saturation_adu: int = 60_000
    photon_noise: bool = True
    cosmic_rays: float = 0.0
    variable_share: float = 0.0
    variable_mag: float = 0.4
    psf_growth: float = 0.0
    psf_stretch: float = 0.0


@dataclass(frozen=True)
class Ladder:
    """The strengths at which one kind of anomaly is injected, taken in turn.

    Attributes:
        kind: what is injected.
        levels: matched-filter S/N; for a cloud its depth as a share of the light, and of the sky, at its thickest.
    """

    kind: Kind
    levels: tuple[float, ...]


@dataclass(frozen=True)
class Preset:
    """Bounds of the conditions of a night, and its anomalies. Each exposure draws evenly between the bounds.

    Attributes:
        name: name of the preset.
        ladders: which anomalies there are and how strong.
        anomaly_share: share of the science frames that carry one.
        fwhm_px: seeing, px.
        sky_e: sky, electrons per px.
        sky_gradient: change of the sky over the frame, as a share.
        transparency: share of starlight that arrives.
        dither_px: largest shift along each axis, px.
        rotation_deg: largest rotation, degrees.
        cosmic_rays: expected hits per frame.
        variable_share: share of stars that vary.
        psf_growth: widening of the PSF in the corners, as a share.
        psf_stretch: lengthening of the PSF in the corners, as a share.
        flux_range_e: faintest and brightest star, electrons per exposure.
        reference_nights: nights that the references are dealt out over; 0 for a night of its own for each.
    """

    name: str
    ladders: tuple[Ladder, ...]
    anomaly_share: float = 0.15
    fwhm_px: Range = (3.0, 3.0)
    sky_e: Range = (400.0, 400.0)
    sky_gradient: Range = (0.0, 0.0)
    transparency: Range = (1.0, 1.0)
    dither_px: float = 0.0
    rotation_deg: float = 0.0
    cosmic_rays: float = 0.0
    variable_share: float = 0.0
    psf_growth: Range = (0.0, 0.0)
    psf_stretch: Range = (0.0, 0.0)
    flux_range_e: Range = (1_000.0, 300_000.0)
    reference_nights: int = 1


# The ladder of the sensitivity measurements: from the limit of an ideal observer to plainly visible.
FAINT_LADDERS = (
    Ladder("supernova", (5.0, 7.0, 10.0, 20.0)),
    Ladder("trail", (10.0, 20.0, 50.0)),
    Ladder("cloud", (0.01, 0.03, 0.1)),
    Ladder("dead_column", (10.0, 20.0, 50.0)),
    Ladder("asteroid", (7.0, 10.0, 20.0)),
    Ladder("hot_cluster", (7.0, 10.0, 20.0, 50.0)),
)

# Where cosmic rays, variable stars and the PSF are the enemy rather than noise, the faintest rungs say nothing.
HARD_LADDERS = (
    Ladder("supernova", (7.0, 10.0, 20.0, 50.0)),
    Ladder("trail", (10.0, 20.0, 50.0)),
    Ladder("cloud", (0.01, 0.03, 0.1)),
    Ladder("dead_column", (10.0, 20.0, 50.0)),
    Ladder("asteroid", (7.0, 10.0, 20.0, 50.0)),
    Ladder("hot_cluster", (7.0, 10.0, 20.0, 50.0)),
)

# Strong enough for block-averaged raw pixels under the small changes that the demo preset allows.
BRIGHT_LADDERS = (
    Ladder("supernova", (900.0, 600.0)),
    Ladder("trail", (700.0, 500.0)),
    Ladder("cloud", (0.45, 0.3)),
    Ladder("dead_column", (1_000_000.0,)),
    Ladder("asteroid", (900.0, 600.0)),
)

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            name="demo",
            ladders=BRIGHT_LADDERS,
            fwhm_px=(2.9, 3.1),
            sky_e=(390.0, 410.0),
            transparency=(0.98, 1.02),
            dither_px=0.2,
            flux_range_e=(1_000.0, 80_000.0),
        ),
        Preset(name="quiet", ladders=FAINT_LADDERS),
        Preset(
            name="evidence",
            ladders=FAINT_LADDERS,
            fwhm_px=(2.4, 4.0),
            sky_e=(320.0, 500.0),
            transparency=(0.90, 1.05),
            dither_px=0.5,
        ),
        Preset(
            name="hard",
            ladders=HARD_LADDERS,
            fwhm_px=(2.4, 4.0),
            sky_e=(320.0, 500.0),
            sky_gradient=(-0.05, 0.05),
            transparency=(0.90, 1.05),
            dither_px=5.0,
            rotation_deg=0.1,
            cosmic_rays=1.5,
            variable_share=0.02,
            psf_growth=(0.0, 0.15),
            psf_stretch=(0.0, 0.15),
            flux_range_e=(1_000.0, 3_000_000.0),
            # Within one night every variable star stands at one phase, and looks new a week later.
            reference_nights=0,
        ),
    )
}


def find_preset(preset: str | Preset) -> Preset:
    """Return the preset of that name, or the preset itself; an unknown name is a `UsageError`."""
    if isinstance(preset, Preset):
        return preset
    if preset not in PRESETS:
        raise UsageError(f"unknown preset {preset!r}: choose one of {', '.join(PRESETS)}")
    return PRESETS[preset]


def draw_conditions(rng: np.random.Generator, preset: Preset) -> Conditions:
    """Draw the conditions of one exposure within the bounds of a preset."""
    draw = rng.uniform
    return Conditions(
        fwhm_px=round(draw(*preset.fwhm_px), 4),
        sky_e=round(draw(*preset.sky_e), 3),
        sky_gradient=round(draw(*preset.sky_gradient), 5),
        transparency=round(draw(*preset.transparency), 5),
        dither_x=round(draw(-preset.dither_px, preset.dither_px), 4),
        dither_y=round(draw(-preset.dither_px, preset.dither_px), 4),
        rotation_deg=round(draw(-preset.rotation_deg, preset.rotation_deg), 5),
        cosmic_rays=preset.cosmic_rays,
        variable_share=preset.variable_share,
        psf_growth=round(draw(*preset.psf_growth), 5),
        psf_stretch=round(draw(*preset.psf_stretch), 5),
    )
