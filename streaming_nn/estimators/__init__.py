"""The model behind the APIs of scikit-learn and River."""
