"""The console shows the lab's log messages; from libraries only warnings."""

import logging
import logging.config

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from micro_transformer.commands import app
from micro_transformer.config import schema


def levels() -> dict[str, int]:
    names = (
        "micro_transformer.runs.run_job",
        "matplotlib.font_manager",
        "fontTools.subset",
        "any.other",
    )
    return {name: logging.getLogger(name).getEffectiveLevel() for name in names}


def test_a_job_of_hydra_shows_no_news_of_libraries():
    with initialize_config_dir(str(schema.CONF), version_base="1.3"):
        config = compose("config", return_hydra_config=True)
    settings = OmegaConf.to_container(config.hydra.job_logging)
    settings["handlers"].pop("file"), settings["root"].update(handlers=["console"])
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        logging.config.dictConfig(settings)
        assert root.handlers != before[0]
        assert levels() == {"micro_transformer.runs.run_job": logging.INFO,
                            "any.other": logging.WARNING,
                            "matplotlib.font_manager": logging.ERROR,
                            "fontTools.subset": logging.WARNING}  # fmt: skip
    finally:
        root.handlers[:], root.level = before
        logging.getLogger("micro_transformer").setLevel(logging.NOTSET)


def test_a_sweep_in_turn_shows_no_news_of_libraries(monkeypatch):
    asked = {}
    monkeypatch.setattr(logging, "basicConfig", lambda **options: asked.update(options))
    monkeypatch.setattr(app.supervise, "warm_up", lambda: None)
    monkeypatch.setattr(app, "_load_report", lambda: None)
    try:
        app._run_here([], 1)
        assert asked["level"] == logging.WARNING
        assert levels()["micro_transformer.runs.run_job"] == logging.INFO
        assert levels()["matplotlib.font_manager"] == logging.ERROR
    finally:
        logging.getLogger("micro_transformer").setLevel(logging.NOTSET)
