"""The court: how an implementation is judged. It knows no layer by name."""
