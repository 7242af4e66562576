"""The MLflow mirror of a study. The files are the truth; MLflow follows, and can be rebuilt from them at any time."""

from pipeline.tracking.driver import mirror, run_mirror, track_all

__all__ = ["mirror", "run_mirror", "track_all"]
