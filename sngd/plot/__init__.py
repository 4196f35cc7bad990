"""Pictures of a run. Each function writes one file, on rank 0 only.

matplotlib is imported when a picture is drawn, not before, and draws without a display (Agg).
"""

from sngd.plot.fields import plot_solution
from sngd.plot.history import plot_coefficients, plot_convergence, plot_spectrum
from sngd.plot.points import plot_points
from sngd.plot.slices import plot_slices, plot_time
from sngd.plot.style import BLUE, COLOURS, ORANGE, picture

__all__ = [
    "BLUE",
    "COLOURS",
    "ORANGE",
    "picture",
    "plot_coefficients",
    "plot_convergence",
    "plot_points",
    "plot_slices",
    "plot_solution",
    "plot_spectrum",
    "plot_time",
]
