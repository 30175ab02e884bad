"""Networks: what makes a solver's outputs of a pretrained network, with its schedule, its guidance and its hooks."""
