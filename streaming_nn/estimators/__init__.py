"""The APIs of scikit-learn and River."""
