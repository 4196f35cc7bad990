"""python -m references NAME …: compute the named reference solutions, or all of them."""

from __future__ import annotations

import sys
from collections.abc import Callable

from references import cavity
from references.equations import allen_cahn, gray_scott, kdv, kuramoto_sivashinsky, schroedinger
from references.evolution import Resolution, store

MAKERS: dict[str, Callable[[], None]] = {
    "allen_cahn": lambda: store(
        "allen_cahn",
        allen_cahn(),
        Resolution(size=4096, longest=5e-4, kept=1536, degree=64, root=True, least=10),
        "u_t = 1e-4 u_xx + 5 (u - u^3) with u(x, 0) = x^2 cos(pi x), less the kink of the seam",
    ),
    "cavity_regularised": lambda: cavity.store("regularised"),
    "cavity_uniform": lambda: cavity.store("uniform"),
    "gray_scott": lambda: store(
        "gray_scott",
        gray_scott(),
        Resolution(size=256, longest=1e-4, kept=96, degree=72),
        "u_t = u_xx/50 + 4 (1 - u) - 100 u v^2, v_t = v_xx/100 - 10 v + 100 u v^2",
    ),
    "kdv": lambda: store(
        "kdv",
        kdv(),
        Resolution(size=256, longest=5e-5, kept=80, degree=104),
        "u_t + u u_x + 0.0025 u_xxx = 0 with u(x, 0) = cos(pi x)",
    ),
    "kuramoto_sivashinsky": lambda: store(
        "kuramoto_sivashinsky",
        kuramoto_sivashinsky(until=0.4),
        Resolution(size=512, longest=1e-5, kept=192, degree=160),
        "u_t + a u u_x + b u_xx + c u_xxxx = 0 with a, b, c = 100 / (16, 16^2, 16^4)",
    ),
    "schroedinger": lambda: store(
        "schroedinger",
        schroedinger(),
        Resolution(size=512, longest=1e-4, kept=128, degree=112),
        "i h_t + h_xx/2 + |h|^2 h = 0 with h(x, 0) = sum over m of 2 sech(x - 10 m)",
    ),
}


def main() -> None:
    """Compute the references that the command line names."""
    names = sys.argv[1:] or list(MAKERS)
    unknown = sorted(set(names) - set(MAKERS))
    if unknown:
        raise SystemExit(f"no reference is called {', '.join(unknown)}; known: {', '.join(MAKERS)}")
    for name in names:
        MAKERS[name]()


if __name__ == "__main__":
    main()
