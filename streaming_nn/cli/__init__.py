"""The commands of `streaming-nn`, one module each; `app.py` registers them."""
