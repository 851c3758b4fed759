"""Refuses a wheel: conf/ is read beside the package, in a clone, and no wheel carries it yet."""

from setuptools import setup
from setuptools.command.build_py import build_py


class FromAClone(build_py):
    """Builds what an editable install needs, nothing else."""

    def run(self):
        if not self.editable_mode:
            raise SystemExit(
                "error: a wheel lacks conf/; install with `pip install -e .` in a clone"
            )
        super().run()


setup(cmdclass={"build_py": FromAClone})
