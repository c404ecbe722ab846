"""`SlideClassifier`: samples and labels as users of scikit-learn have them."""
