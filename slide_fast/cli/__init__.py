"""The ``slide`` command."""

try:
    from .main import main
except KeyboardInterrupt:  # Ctrl-C before `main` could say so: no traceback, and its exit code
    raise SystemExit(130) from None

__all__ = ["main"]
