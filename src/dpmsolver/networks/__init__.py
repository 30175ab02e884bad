"""Networks: a pretrained network with its schedule, its guidance and its hooks, and the outputs that a solver needs of it."""
