"""Reference solutions of the equations without one in closed form: spectral solvers in numpy, checked by refinement.

`python -m references NAME …` computes sngd/problems/data/NAME.npz anew; without a name, all of them.
"""
