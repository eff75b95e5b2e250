"""One planned exposure, and the header a camera would write for it."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

from pipeline.simulate.anomalies import Anomaly
from pipeline.simulate.conditions import Conditions
from pipeline.simulate.fields import TELESCOPE, FieldPlan, dither_wcs

Role = Literal["reference", "science"]

SITE_LATITUDE_DEG = -30.0
SITE_LONGITUDE_DEG = -70.0
MJD_OF_J2000 = 51_544.5
MJD_OF_UNIX_EPOCH = 40_587.0
SECONDS_PER_DAY = 86_400.0


@dataclass(frozen=True, eq=False)
class ExposurePlan:
    """Everything that fixes one frame.

    Attributes:
        name: file name; says nothing of what is in the frame.
        role: whether the frame is meant as a reference or to be judged.
        field: what is looked at.
        conditions: the sky and the detector.
        anomaly: what is injected, or None.
        start: start of the exposure, UTC.
        seed: whole numbers that fix the noise.
    """

    name: str
    role: Role
    field: FieldPlan
    conditions: Conditions
    anomaly: Anomaly | None
    start: datetime
    seed: tuple[int, ...]

    @property
    def kind(self) -> str:
        """The kind of the anomaly, or `normal`."""
        return "normal" if self.anomaly is None else self.anomaly.kind

    @property
    def wcs(self) -> WCS:
        """World coordinates of this frame."""
        return dither_wcs(
            self.field,
            dither_x=self.conditions.dither_x,
            dither_y=self.conditions.dither_y,
            rotation_deg=self.conditions.rotation_deg,
        )


def count_mjd(moment: datetime) -> float:
    """Return the modified Julian date (UTC, days) of a moment that knows its time zone."""
    return moment.timestamp() / SECONDS_PER_DAY + MJD_OF_UNIX_EPOCH


def compute_sidereal_deg(moment: datetime) -> float:
    """Return the local mean sidereal time in degrees.

    Linear approximation of the U.S. Naval Observatory, GMST = 18.697375 h + 24.065709824279 h * D with D days from
    J2000.0; good to a second over this century, far better than an air mass needs.
    """
    hours = 18.697375 + 24.065709824279 * (count_mjd(moment) - MJD_OF_J2000)
    return (hours * 15.0 + SITE_LONGITUDE_DEG) % 360.0


def compute_airmass(ra: float, dec: float, moment: datetime) -> float:
    """Return the air mass towards (ra, dec) in degrees: X = 1 / sin(h + 244 / (165 + 47 h^1.1)), h in degrees.

    Pickering 2002, DIO 12, 3. Below the horizon the value at the horizon is returned.
    """
    latitude, declination = math.radians(SITE_LATITUDE_DEG), math.radians(dec)
    hour_angle = math.radians(compute_sidereal_deg(moment) - ra)
    sine = math.sin(latitude) * math.sin(declination)
    sine += math.cos(latitude) * math.cos(declination) * math.cos(hour_angle)
    altitude = max(0.0, math.degrees(math.asin(min(1.0, sine))))
    return 1.0 / math.sin(math.radians(altitude + 244.0 / (165.0 + 47.0 * altitude**1.1)))


def build_header(plan: ExposurePlan) -> fits.Header:
    """Return the header of the exposure: what a camera knows, and nothing of what was injected."""
    field, conditions, wcs = plan.field, plan.conditions, plan.wcs
    ra, dec = (round(float(value), 9) for value in wcs.wcs.crval)
    header = fits.Header()
    start = plan.start.astimezone(UTC)
    header["DATE-OBS"] = (start.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3], "start of exposure (UTC)")
    header["MJD-OBS"] = (round(count_mjd(start), 8), "[d] start of exposure (UTC)")
    header["TIMESYS"] = ("UTC", "time scale")
    header["EXPTIME"] = (float(field.exposure_s), "[s] exposure time")
    header["FILTER"] = (field.filter_band, "filter band")
    header["INSTRUME"] = (field.instrument, "camera")
    header["TELESCOP"] = (TELESCOPE, "telescope")
    header["OBJECT"] = (field.name, "name of the field")
    header["OBSTYPE"] = ("OBJECT", "type of exposure")
    header["RA"] = (ra, "[deg] pointing, right ascension")
    header["DEC"] = (dec, "[deg] pointing, declination")
    header["AIRMASS"] = (round(compute_airmass(ra, dec, start), 4), "air mass at start (Pickering 2002)")
    header["GAIN"] = (conditions.gain, "[electron/adu]")
    header["RDNOISE"] = (conditions.read_noise_e, "[electron] read noise")
    header["SATURATE"] = (conditions.saturation_adu, "[adu] ceiling")
    header["PIXSCALE"] = (field.scale, "[arcsec/pixel]")
    header["BUNIT"] = ("adu", "unit of the pixels")
    _add_wcs(header, wcs)
    return header


def _add_wcs(header: fits.Header, wcs: WCS) -> None:
    world = wcs.wcs
    header["WCSAXES"] = (2, "axes of the world coordinates")
    header["CTYPE1"], header["CTYPE2"] = world.ctype[0], world.ctype[1]
    header["CUNIT1"], header["CUNIT2"] = "deg", "deg"
    header["CRPIX1"], header["CRPIX2"] = float(world.crpix[0]), float(world.crpix[1])
    header["CRVAL1"] = (round(float(world.crval[0]), 9), "[deg]")
    header["CRVAL2"] = (round(float(world.crval[1]), 9), "[deg]")
    for row in range(2):
        for column in range(2):
            # Adding zero turns a negative zero into a plain one.
            header[f"CD{row + 1}_{column + 1}"] = float(world.cd[row, column]) + 0.0
    header["RADESYS"] = ("ICRS", "celestial frame")


def to_fits_bytes(pixels: NDArray[np.uint16], header: fits.Header) -> bytes:
    """Return the file of a frame: one primary unit; equal pixels and headers always give equal bytes."""
    buffer = io.BytesIO()
    fits.PrimaryHDU(data=pixels, header=header).writeto(buffer)
    return buffer.getvalue()
