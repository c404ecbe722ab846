"""SLIDE for training: the semantics of `slide_ref`, vectorised, with a pool of HOGWILD worker processes."""
