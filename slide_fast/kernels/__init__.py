"""NumPy building blocks that know nothing of training: buffers, products with sparse rows, BLAS."""
