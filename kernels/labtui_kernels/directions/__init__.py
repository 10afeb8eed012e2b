"""Directions: vectors in the space of a site, estimated from activations of two poles.

Everything here works on activations that were captured elsewhere: tensors ``[pairs, width]`` in float32, the
i-th row of the positive pole paired with the i-th row of the negative. scikit-learn is not needed.
"""
