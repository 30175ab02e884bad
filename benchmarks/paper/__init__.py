"""Tables and figures of the DPM-Solver paper (Lu et al. 2022, arXiv 2206.00927), re-made: one command each.

    python -m benchmarks.paper.orders      the order of convergence, in closed form
    python -m benchmarks.paper.table1      DPM-Solver-2 and -3 against Runge-Kutta of the same order, in time and in lambda
    python -m benchmarks.paper.fid         quality against evaluations: the samplers of the paper, and those that came after it
    python -m benchmarks.paper.speedup     the abstract's claim: evaluations to reach the limit, DPM-Solver against DDIM
    python -m benchmarks.paper.cifar10     the abstract's claims on laws with the statistics of CIFAR-10, exactly

All but the first and the last take any model: `digits` by default, a testbed in closed form, a folder in diffusers format, or a hub id.
They print what they will cost before they start (`--dry-run`: and stop there), and resume where they were stopped.
"""
