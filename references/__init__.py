"""Reference solutions of equations without one in closed form: spectral solvers, checked by refinement.

`python -m references NAME …` computes sngd/problems/data/NAME.npz anew; without a name, all of them.
"""
