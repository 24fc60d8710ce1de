"""promtool as a subprocess, with typed results, and strict: a run that checked nothing has failed."""

from herdwatch.promtool.runner import Promtool, Result

__all__ = ["Promtool", "Result"]
