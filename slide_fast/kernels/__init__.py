"""NumPy building blocks, independent of training: buffers, products with sparse rows, BLAS."""
