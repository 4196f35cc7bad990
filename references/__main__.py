"""python -m references NAME …: compute the named reference solutions, or all of them."""

from __future__ import annotations

import sys
from collections.abc import Callable

from references.evolution import Resolution, allen_cahn, kdv, kuramoto_sivashinsky, schroedinger, store

MAKERS: dict[str, Callable[[], None]] = {
    "allen_cahn": lambda: store(
        "allen_cahn",
        allen_cahn(),
        Resolution(size=4096, longest=5e-4, kept=768, degree=64, root=True, least=10),
        "u_t = 1e-4 u_xx + 5 (u - u^3) with u(x, 0) = x^2 cos(pi x), periodic, less the kink of the seam",
    ),
    "kdv": lambda: store(
        "kdv",
        kdv(0.0025),
        Resolution(size=256, longest=5e-5, kept=80, degree=104),
        "u_t + u u_x + 0.0025 u_xxx = 0 with u(x, 0) = cos(pi x), periodic",
    ),
    "schroedinger": lambda: store(
        "schroedinger",
        schroedinger(images=6),
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
