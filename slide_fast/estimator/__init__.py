"""`SlideClassifier`: SLIDE with the interface of a scikit-learn estimator."""
