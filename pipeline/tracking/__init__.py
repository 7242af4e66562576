"""The MLflow mirror of a study. The files are the truth; MLflow follows, and can be rebuilt from them at any time."""

from pipeline.tracking.driver import mirror, mirror_beside, run_mirror, track_all

__all__ = ["mirror", "mirror_beside", "run_mirror", "track_all"]
