"""Fast SLIDE: the semantics of `slide_ref`, vectorised, with a pool of HOGWILD worker processes."""

TYPE_CHECKING = False  # that of `typing`, whose import would be another while in which Ctrl-C leaves a traceback

__all__ = [
    "Config", "ConfigError", "DataError", "DivergedError", "ModelError", "SlideClassifier", "SlideError",
    "SlideTextClassifier", "WorkerDiedError", "__version__", "fit", "load_model",
]  # fmt: skip

if TYPE_CHECKING:
    from typing import Any

    from slide_ref.common.config import Config
    from slide_ref.common.errors import ConfigError, DataError, DivergedError, ModelError, SlideError, WorkerDiedError
    from slide_ref.common.storage.model_folder import load_model

    from .estimator.classifier import SlideClassifier
    from .estimator.text_classifier import SlideTextClassifier
    from .training import fit

    __version__: str
else:
    _MODULES = {
        "Config": "slide_ref.common.config",
        "SlideClassifier": "slide_fast.estimator.classifier",
        "SlideTextClassifier": "slide_fast.estimator.text_classifier",
        "fit": "slide_fast.training",
        "load_model": "slide_ref.common.storage.model_folder",
    }

    def __getattr__(name: str) -> "Any":
        """Import a public name on first use: worker processes and ``slide --help`` do not need most of them."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module, metadata

        if name != "__version__":
            return getattr(import_module(_MODULES.get(name, "slide_ref.common.errors")), name)
        try:
            return metadata.version("slide-numpy")
        except metadata.PackageNotFoundError:
            return "(not installed)"

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
